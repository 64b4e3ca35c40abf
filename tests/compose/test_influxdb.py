"""Every panel and alert rule on a real InfluxDB, against series whose answers are known.

$ export TIERWISE_INFLUX_URL=http://127.0.0.1:8086 TIERWISE_INFLUX_TOKEN=(its operator's token)
$ pytest tests/compose/test_influxdb.py

The tests make buckets of their own in the organisation `tierwise`, and delete them.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kafka_brokers import eventually
from sample_messages import event_id

from agents.deploy.influx import Influx
from agents.role.self_metrics import SelfMetrics
from agents.role.telemetry import Metrics
from pipeline.clock import HandClock
from pipeline.errors import Rejected
from pipeline.series.influx import InfluxStore
from pipeline.series.points import PartlyStored, Point, Value, reading_point
from pipeline.series.writer import Writer
from pipeline.settings.settings import InfluxSettings, Settings

URL, TOKEN = os.environ.get("TIERWISE_INFLUX_URL", ""), os.environ.get("TIERWISE_INFLUX_TOKEN", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not URL, reason="needs an InfluxDB 2 in TIERWISE_INFLUX_URL, and TIERWISE_INFLUX_TOKEN"),
]

GRAFANA = Path(__file__).parents[2] / "compose" / "grafana"
MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
BEAT = 15.0
NOW = time.time() // MINUTE * MINUTE


class Bucket(NamedTuple):
    """A bucket for one test."""

    settings: InfluxSettings

    def write(self, *points: Point) -> None:
        store = InfluxStore(self.settings)
        for start in range(0, len(points), 5_000):
            store.write(points[start : start + 5_000])
        store.close()

    def rows(self, flux: str) -> list[dict[str, Any]]:
        """Run a query as Grafana does: three hours until now, in windows of ten minutes."""
        from influxdb_client import InfluxDBClient

        start, stop = (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)) for at in (NOW - 3 * HOUR, NOW + MINUTE))
        chosen = f"option v = {{timeRangeStart: {start}, timeRangeStop: {stop}, windowPeriod: 10m}}\n"
        lines = flux.replace("${site:regex}", ".*").replace('"tierwise"', f'"{self.settings.bucket}"').split("\n")
        imports = [line for line in lines if line.startswith("import ")]
        text = "\n".join([*imports, chosen, *(line for line in lines if line not in imports)])
        with InfluxDBClient(url=URL, token=TOKEN, org="tierwise", timeout=60_000) as client:
            tables = client.query_api().query(text)
        return [
            {name: value for name, value in record.values.items() if name not in ("result", "table")}
            for table in tables
            for record in table.records
        ]

    def panel(self, title: str, target: int = 0, file: str = "site/site.json") -> list[dict[str, Any]]:
        (panel,) = [each for each in json.loads((GRAFANA / file).read_text())["panels"] if each["title"] == title]
        return self.rows(panel["targets"][target]["query"])

    def rule(self, uid: str) -> dict[tuple[str, ...], float]:
        """The value of each series of an alert rule, by its labels."""
        file = json.loads((GRAFANA / "provisioning" / "alerting" / "tierwise.yaml").read_text())
        (rule,) = [each for group in file["groups"] for each in group["rules"] if each["uid"] == uid]
        (limit,) = rule["data"][-1]["model"]["conditions"][0]["evaluator"]["params"]
        rows = self.rows(rule["data"][0]["model"]["query"])
        found = {
            tuple(str(row[k]) for k in sorted(row) if not k.startswith("_")): row["_value"] > limit for row in rows
        }
        assert len(found) == len(rows), "two series of one name"
        return found


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    yield from made(40)


def made(keep_days: int) -> Iterator[Bucket]:
    name, server = f"test-{uuid.uuid4().hex[:8]}", Influx(URL, TOKEN, "tierwise")
    made = server.bucket(name, keep_days)
    yield Bucket(InfluxSettings(url=URL, token=TOKEN, bucket=name))
    server._call("DELETE", f"/api/v2/buckets/{made}")


def pulse(ago_s: float, role: str, instance: str = "", **more: Value) -> Point:
    tags = {"role": role, "instance": instance or role}
    tags |= {name: str(more.pop(name)) for name in ("hop", "topic", "reason", "outcome") if name in more}
    return Point("pulse", tags, more, NOW - ago_s)


def beats(span_s: float, make: Callable[[float], Point]) -> list[Point]:
    """A point at each beat of this time until now; `make` gets its age."""
    return [make(span_s - number * BEAT) for number in range(int(span_s / BEAT) + 1)]


def answer(
    ago_s: float, stream: str = "cam1/garden", label: str = "Felidae", below_ms: int = 0, **fields: Value
) -> Point:
    device, name = stream.split("/")
    tags = {"site": "home", "device": device, "stream": name, "task": "wildlife", "tier": "edge", "rank": "family"}
    tags |= {"label": label, "privacy": "public"} | {
        key: str(fields.pop(key)) for key in ("tier", "rank", "privacy") if key in fields
    }
    return Point("result", tags, {"probability": 0.9, "latency_ms": 1.0, **fields}, NOW - ago_s, below_ms)


def values(rows: list[dict[str, Any]], *tags: str) -> dict[tuple[Any, ...], list[float]]:
    """The values of each series in order; the columns are the time, the value and these tags, and nothing else."""
    found: dict[tuple[Any, ...], list[float]] = {}
    times: dict[tuple[Any, ...], list[Any]] = {}
    for row in rows:
        assert set(row) == {"_time", "_value", *tags}
        key = tuple(row[tag] for tag in tags)
        found.setdefault(key, []).append(row["_value"])
        times.setdefault(key, []).append(row["_time"])
    assert all(each == sorted(set(each)) for each in times.values()), "x does not run from left to right"
    return found


# --- panels ----------------------------------------------------------------------------------------------------


def test_latency_is_a_line_over_time_for_each_tier(bucket: Bucket) -> None:
    for window, slower in ((2, 0.0), (1, 100.0)):
        bucket.write(
            *(
                answer(window * HOUR - 1, tier=tier, latency_ms=slower + n + 1.0, below_ms=n)
                for tier in ("device", "edge")
                for n in range(101)
            )
        )
    p50, p99 = (values(bucket.panel("Latency, p50 and p99", target), "tier") for target in (0, 1))
    assert p50 == {("device p50",): [51.0, 151.0], ("edge p50",): [51.0, 151.0]}
    assert p99.keys() == {("device p99",), ("edge p99",)}
    for line in p99.values():  # an estimate (t-digest)
        assert line == pytest.approx([100.0, 200.0], abs=1.0)


@pytest.mark.parametrize(
    ("title", "file", "tag", "name", "field"),
    [
        ("Bytes over each hop", "site/site.json", "hop", "edge-cloud", "bytes"),
        ("Records by privacy", "cloud/tierwise.json", "topic", "tierwise.features.public", "records"),
    ],
)
def test_rates_are_the_sums_of_replicas(bucket: Bucket, title: str, file: str, tag: str, name: str, field: str) -> None:
    for instance, a_second in (("stream", 100.0), ("stream-2", 50.0)):
        bucket.write(
            *beats(
                HOUR,
                lambda ago, who=instance, rate=a_second: pulse(
                    ago, "stream", who, **{tag: name, field: (2 * HOUR - ago) * rate}
                ),
            )
        )
    ((key, rates),) = values(bucket.panel(title, file=file), tag).items()
    assert key == (name,)
    assert rates[1:-1] == pytest.approx([150.0] * (len(rates) - 2))
    assert len(rates) >= 5


def test_the_first_burst_of_a_reason_is_shown_whole(bucket: Bucket, tmp_path: Path) -> None:
    metrics, clock, writer = Metrics(), HandClock(NOW - HOUR), Writer(InfluxStore(bucket.settings))
    reporter = SelfMetrics(metrics, "edge", Settings(site="home", data=str(tmp_path)), clock, writer)
    reporter.start()
    metrics.refused("image-truncated", 7)
    metrics.withheld(2)
    clock.turn(BEAT)
    reporter.write()
    clock.turn(30 * MINUTE)
    metrics.refused("image-too-large", 3)
    reporter.stop()
    eventually(lambda: not writer._thread.is_alive())
    host = reporter._instance
    assert {
        key: found[-1]
        for key, found in values(bucket.panel("Refused and withheld"), "reason", "role", "instance").items()
    } == {
        ("image-truncated", "edge", host): 7.0,
        ("image-too-large", "edge", host): 3.0,
    }
    assert values(bucket.panel("Refused and withheld", 1), "role", "instance")["edge", host][-1] == 2.0
    lost = values(bucket.panel("Refused and withheld", 2), "outcome", "role", "instance")
    assert {key[0]: found[-1] for key, found in lost.items()} == {"refused": 0.0, "dropped": 0.0}


def test_the_latest_answers_show_cameras_beside_a_thousand_usual_readings(bucket: Bucket) -> None:
    bucket.write(
        answer(HOUR, label="Felidae"),
        answer(90.0, "meter/power", "unusual"),
        *(answer(60.0, "meter/power", "normal", below_ms=n) for n in range(1000)),
    )
    rows = bucket.panel("Latest answers")
    assert [row["label"] for row in rows] == ["unusual", "Felidae"]
    assert rows[0]["probability"] == 0.9


def test_counts_of_answers_sightings_and_sensors(bucket: Bucket) -> None:
    place = {"site": "home", "device": "cam1", "stream": "garden"}
    bucket.write(
        *(Point("sighting", place, {"label": label}, NOW - HOUR, n) for n, label in enumerate(["cat", "cat", "deer"])),
        *(answer(HOUR - 1, below_ms=n) for n in range(11)),
        *(answer(HOUR - 1, label="cat", rank="species", privacy="edge-private", below_ms=n) for n in range(4)),
        *(
            reading_point("home/meter/power", value, "W", NOW - HOUR + 1, event_id(n))
            for n, value in enumerate([1.0, 3.0])
        ),
        *(
            Point("hour", {**place, "task": task, "unit": "W"}, {"mean": mean}, NOW - hours * HOUR)
            for hours, task, mean in ((1, "meter", 3.0), (2, "climate", 2.0))
        ),
    )
    assert [(row["label"], row["sightings"]) for row in bucket.panel("What was seen")] == [("cat", 2), ("deer", 1)]
    assert values(bucket.panel("Answers by tier and rank"), "tier", "rank") == {
        ("edge", "family"): [11],
        ("edge", "species"): [4],
    }
    assert values(bucket.panel("Answers by privacy"), "privacy") == {("public",): [11], ("edge-private",): [4]}
    assert values(bucket.panel("Sensors"), "device", "stream", "unit") == {("meter", "power", "W"): [2.0]}
    hours = bucket.panel("Hourly means of sensors", file="cloud/tierwise.json")
    assert values(hours, "site", "device", "stream", "unit") == {("home", "cam1", "garden", "W"): [2.0, 3.0]}


def test_gauges_show_their_last_value_by_agent(bucket: Bucket) -> None:
    bucket.write(*beats(MINUTE, lambda ago: pulse(10 * MINUTE + ago, "edge", hop="uplink", backlog=100.0 - ago)))
    bucket.write(*beats(MINUTE, lambda ago: pulse(10 * MINUTE + ago, "edge", memory_bytes=1e8 - ago)))
    queues = values(bucket.panel("Waiting for the next hop"), "role", "hop", "instance")
    assert queues["edge", "uplink", "edge"][-1] == 100.0
    assert values(bucket.panel("Memory by role"), "role", "instance")["edge", "edge"][-1] == 1e8


def test_every_other_query_runs_and_the_sites_are_listed(bucket: Bucket) -> None:
    bucket.write(answer(HOUR))
    for file in ("site/site.json", "cloud/tierwise.json"):
        board = json.loads((GRAFANA / file).read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                bucket.rows(target["query"])
        assert [row["_value"] for row in bucket.rows(board["templating"]["list"][0]["query"])] == ["home"]


# --- alert rules -----------------------------------------------------------------------------------------------


def test_an_agent_is_silent_for_as_long_as_it_is_dead_and_each_replica_counts(bucket: Bucket) -> None:
    for role, instance, ago in (
        ("edge", "edge", 0.0),
        ("device", "device", 6 * MINUTE),
        ("gateway", "gateway", 30.0),
        ("gateway", "gateway-2", 3 * HOUR),
        ("stream", "stream", 29 * DAY),
        ("cloud", "cloud", 31 * DAY),
    ):
        bucket.write(*(pulse(ago + beat * BEAT, role, instance, memory_bytes=1.0) for beat in range(10)))
    assert bucket.rule("tierwise-agent-silent") == {
        ("edge", "edge"): False,
        ("device", "device"): True,
        ("gateway", "gateway"): False,
        ("gateway-2", "gateway"): True,
        ("stream", "stream"): True,
    }


def test_a_device_is_silent_for_as_long_as_nothing_comes_from_it(bucket: Bucket) -> None:
    for device, ago in (("cam1", HOUR), ("cam2", 7 * HOUR), ("cam3", 20 * DAY)):
        bucket.write(answer(ago, f"{device}/garden"), answer(ago + DAY, f"{device}/yard", "cat"))
    assert bucket.rule("tierwise-device-silent") == {
        ("cam1", "home"): False,
        ("cam2", "home"): True,
        ("cam3", "home"): True,
    }


def test_a_backlog_grows_or_nothing_was_drained(bucket: Bucket) -> None:
    half_hour = 40 * MINUTE
    for role, waits, span in (
        ("grows", lambda ago: 10_000 - ago / 3, half_hour),  # 200 in ten minutes
        ("cut-off", lambda ago: 50.0, half_hour),
        ("cut-off-and-quiet", lambda ago: 60.0 - ago // (10 * MINUTE), half_hour),
        ("busy", lambda ago: 500.0 + 40 * (int(ago / BEAT) % 2), half_hour),
        ("idle", lambda ago: 0.0, half_hour),
        ("young", lambda ago: 5.0, 5 * MINUTE),
        ("back", lambda ago: 1_000.0 if ago > 10 * MINUTE else 1_000.0 - (600 - ago), half_hour),
    ):
        bucket.write(*beats(span, lambda ago, f=waits, who=role: pulse(ago, who, hop="up", backlog=float(f(ago)))))
    assert {name[2]: fires for name, fires in bucket.rule("tierwise-backlog-grows").items()} == {
        "grows": True,
        "cut-off": True,
        "cut-off-and-quiet": True,
        "busy": False,
        "idle": False,
        "young": False,
        "back": False,
    }


# --- the writer ------------------------------------------------------------------------------------------------


def count(bucket: Bucket, measurement: str, field: str) -> int:
    name = bucket.settings.bucket
    flux = f'from(bucket: "{name}") |> range(start: 0, stop: 2100-01-01T00:00:00Z) |> filter(fn: (r) => r._measurement == "{measurement}" and r._field == "{field}") |> group() |> count()'
    return sum(row["_value"] for row in bucket.rows(flux))


def test_a_burst_in_few_milliseconds_is_kept_whole_and_repeats_change_nothing(bucket: Bucket) -> None:
    burst = [reading_point("home/a/b", float(n), "W", NOW - 60 + (n // 5) / 1000, f"{n:036}") for n in range(20_000)]
    for _ in range(2):
        writer = Writer(InfluxStore(bucket.settings))
        writer.start()
        writer.write(burst)
        eventually(lambda: writer.written == len(burst), 60)  # noqa: B023
        writer.close()
        assert count(bucket, "reading", "value") >= 19_995
    assert count(bucket, "reading", "value") == len({point.time_ns for point in burst})


class Counted(InfluxStore):
    """Notes the size of each batch."""

    def __init__(self, settings: InfluxSettings, calls: list[int]) -> None:
        super().__init__(settings)
        self._calls = calls

    def write(self, points: Sequence[Point]) -> None:
        self._calls.append(len(points))
        super().write(points)


def test_points_older_than_the_bucket_keeps_are_refused_in_one_call() -> None:
    for bucket in made(1):
        calls: list[int] = []
        writer = Writer(Counted(bucket.settings, calls))
        writer.start()
        ages = [HOUR if n % 2 else 3 * DAY for n in range(900)]
        writer.write([reading_point("home/a/b", 1.0, "W", NOW - age, event_id(n)) for n, age in enumerate(ages)])
        eventually(lambda: writer.written + writer.refused == 900)  # noqa: B023
        writer.close()
        assert (calls, writer.written, writer.refused) == ([900], 450, 450)
        assert count(bucket, "reading", "value") == 450


def test_a_field_of_another_type_is_refused_alone(bucket: Bucket) -> None:
    bucket.write(Point("m", {}, {"value": 1.0}, NOW))
    points = [Point("m", {}, {"value": "text" if n == 7 else 2.0}, NOW + n) for n in range(20)]
    with pytest.raises(PartlyStored, match="field type conflict"):
        bucket.write(*points)
    with pytest.raises(Rejected):
        bucket.write(points[7])
    writer = Writer(InfluxStore(bucket.settings))
    writer.start()
    writer.write(points)
    eventually(lambda: writer.written + writer.refused == 20)
    writer.close()
    assert (writer.written, writer.refused, count(bucket, "m", "value")) == (19, 1, 19)
