"""What a role tells about itself as a time series: numbers by hop and reason, and no content."""

from __future__ import annotations

from pathlib import Path

from sample_messages import NOW_S, event_id, result

from agents.role.self_metrics import points, self_metrics_of
from agents.role.telemetry import Metrics
from pipeline.clock import HandClock
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
