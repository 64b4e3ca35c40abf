"""What a role tells about itself as a time series: numbers by hop and reason, and no content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sample_messages import NOW_S, event_id, result

from agents.role.self_metrics import SelfMetrics, instance, points, self_metrics_of
from agents.role.telemetry import Metrics
from pipeline.clock import HandClock
from pipeline.series.points import Point
from pipeline.series.writer import Writer
from pipeline.settings.settings import InfluxSettings, Settings


def told(role: str) -> dict[tuple[tuple[str, str], ...], dict[str, object]]:
    metrics = Metrics()
    metrics.backlog("uplink", lambda: 3)
    metrics.backlog("closing", lambda: 1 / 0)
    metrics.hop("edge-cloud", 500)
    metrics.hop("edge-cloud", 100)
    metrics.refused("image-truncated")
    metrics.withheld()
    metrics.received("home/cam1/garden", "frame")
    metrics.answered(result(event_id(1)))
    made = list(points(metrics, role, "home", "host", NOW_S))
    assert {point.measurement for point in made} == {"pulse"}
    assert {point.time_s for point in made} == {NOW_S}
    return {tuple(sorted(point.tags.items())): dict(point.fields) for point in made}


def test_a_role_at_a_site_tells_what_waits_and_what_went_over_each_hop() -> None:
    place = (("instance", "host"), ("role", "edge"), ("site", "home"))
    made = told("edge")
    assert made[tuple(sorted((*place, ("hop", "uplink"))))] == {"backlog": 3.0}
    assert made[tuple(sorted((*place, ("hop", "edge-cloud"))))] == {"bytes": 600.0, "records": 2.0}
    assert made[tuple(sorted((*place, ("reason", "image-truncated"))))] == {"refused": 1.0}
    assert made[place]["withheld"] == 1.0
    assert not any(("hop", "closing") in tags for tags in made)


def test_no_stream_and_no_answer_is_told() -> None:
    assert "garden" not in str(told("device"))
    assert "Fel" not in str(told("device"))


def test_a_role_of_the_cloud_names_no_site() -> None:
    assert all(name != "site" for tags in told("gateway") for name, _ in tags)


class Kept:
    """A store in memory."""

    def __init__(self) -> None:
        self.points: list[Point] = []

    def write(self, points: Sequence[Point]) -> None:
        self.points += points

    def close(self) -> None:
        pass


def series(store: Kept, name: str, **tags: str) -> list[tuple[float, object]]:
    return [
        (point.time_s - NOW_S, point.fields[name])
        for point in store.points
        if name in point.fields and tags.items() <= point.tags.items()
    ]


def test_a_counter_begins_at_0_so_that_its_first_burst_is_seen(tmp_path: Path) -> None:
    metrics, store, clock = Metrics(), Kept(), HandClock(NOW_S)
    reporter = SelfMetrics(metrics, "edge", Settings(data=str(tmp_path)), clock, Writer(store))
    reporter.start()
    for refused in (0, 5, 2):
        clock.turn(15)
        metrics.refused("image-truncated", refused) if refused else None
        reporter.write()
    metrics.refused("image-too-large", 3)
    clock.turn(5)
    reporter.stop()
    assert series(store, "refused", reason="image-truncated") == [(15, 0.0), (30, 5.0), (45, 7.0), (50, 7.0)]
    assert series(store, "refused", reason="image-too-large") == [(45, 0.0), (50, 3.0)]
    assert series(store, "memory_bytes")[0][0] == 15  # no counter: it has no 0
    assert series(store, "points", outcome="dropped")[0] == (0, 0.0)


def test_replicas_that_share_a_folder_have_names_that_survive_a_restart(tmp_path: Path) -> None:
    names, locks = zip(*(instance(tmp_path, "stream") for _ in range(3)), strict=True)
    assert names == ("stream", "stream-2", "stream-3")
    locks[1].close()
    again, lock = instance(tmp_path, "stream")
    assert again == "stream-2"
    for held in (locks[0], locks[2], lock):
        held.close()


def test_there_is_a_pulse_only_where_an_influxdb_is_named_for_the_tier(tmp_path: Path) -> None:
    site, cloud = (
        Settings(influx=InfluxSettings(url="http://x")),
        Settings(cloud_influx=InfluxSettings(url="http://x")),
    )
    found = {
        role: [
            self_metrics_of(Metrics(), role, settings, HandClock(NOW_S)) is not None
            for settings in (site, cloud, Settings())
        ]
        for role in ("device", "edge", "gateway", "stream", "cloud", "trainer")
    }
    assert found == {
        "device": [True, False, False],
        "edge": [True, False, False],
        "gateway": [False, True, False],
        "stream": [False, True, False],
        "cloud": [False, True, False],
        "trainer": [False, True, False],
    }
