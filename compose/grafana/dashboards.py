"""The dashboards and alert rules, as code: run it, and the files beside it are written anew.

$ python compose/grafana/dashboards.py

A panel is a row of `CLOUD` or `SITE`: title, kind, unit, width and Flux. What the Flux names (measurements, tags,
fields) is what `pipeline/series/points.py` and `agents/role/self_metrics.py` write; a test holds them together, and
has each query parsed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

HERE: Final = Path(__file__).parent
SOURCE: Final = {"type": "influxdb", "uid": "tierwise"}
BUCKET: Final = "tierwise"
HEIGHT: Final = 8
ROW: Final = 24
"""Columns of Grafana's grid."""


class Panel(NamedTuple):
    """A panel of a dashboard."""

    title: str
    kind: str
    """Of Grafana: ``timeseries``, ``table``, ``stat``, ``barchart``."""
    unit: str
    width: int
    flux: tuple[str, ...]
    about: str


def series(measurement: str, field: str, *steps: str) -> str:
    """Points of one field in the dashboard's time, and what is done with them."""
    return "\n".join(
        [
            f'from(bucket: "{BUCKET}")',
            "  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)",
            f'  |> filter(fn: (r) => r._measurement == "{measurement}" and r._field == "{field}")',
            *(f"  |> {step}" for step in steps),
        ]
    )


def by(*tags: str) -> str:
    """Return the step of a Flux query that groups by tags."""
    return f"group(columns: [{', '.join(json.dumps(tag) for tag in tags)}])"


SITE_CHOSEN: Final = "filter(fn: (r) => r.site =~ /^${site:regex}$/)"
EACH_WINDOW: Final = "aggregateWindow(every: v.windowPeriod, fn: {}, createEmpty: false)"
RATE: Final = "derivative(unit: 1s, nonNegative: true)"


def quantile(q: float) -> str:
    """Return the step of a Flux query that takes a quantile of each window."""
    return EACH_WINDOW.format(f"(column, tables=<-) => tables |> quantile(q: {q}, column: column)")


def latency(q: float) -> str:
    """Return the Flux query for a quantile of the tiers' latency."""
    return series(
        "result",
        "latency_ms",
        SITE_CHOSEN,
        by("tier"),
        quantile(q),
        f'map(fn: (r) => ({{r with tier: r.tier + " p{round(q * 100)}"}}))',
        by("tier"),
    )


ANSWERS: Final = Panel(
    "Answers by tier and rank",
    "timeseries",
    "short",
    12,
    (series("result", "probability", SITE_CHOSEN, by("tier", "rank"), EACH_WINDOW.format("count")),),
    "How many answers each tier gave, and how deep they went.",
)
LATENCY: Final = Panel(
    "Latency, p50 and p99",
    "timeseries",
    "ms",
    12,
    (latency(0.5), latency(0.99)),
    "From an event's receipt by its device agent to each tier's answer.",
)
HOPS: Final = Panel(
    "Bytes over each hop",
    "timeseries",
    "Bps",
    12,
    (
        series(
            "pulse",
            "bytes",
            "filter(fn: (r) => exists r.hop)",
            by("hop", "role", "instance"),
            RATE,
            by("hop"),
            EACH_WINDOW.format("mean"),
        ),
    ),
    "Payload bytes a second, as each role counts what it sends.",
)
QUEUES: Final = Panel(
    "Waiting for the next hop",
    "timeseries",
    "short",
    12,
    (
        series(
            "pulse",
            "backlog",
            "filter(fn: (r) => exists r.hop)",
            by("role", "hop", "instance"),
            EACH_WINDOW.format("last"),
        ),
    ),
    "Records that the next hop has not acknowledged. They are kept; growing for long, that hop is away or too slow.",
)
REFUSED: Final = Panel(
    "Refused and withheld",
    "timeseries",
    "short",
    12,
    (
        series("pulse", "refused", by("reason", "role", "instance"), "increase()", EACH_WINDOW.format("last")),
        series("pulse", "withheld", by("role", "instance"), "increase()", EACH_WINDOW.format("last")),
    ),
    "Bad input by its reason, and records that the privacy gate kept.",
)
MEMORY: Final = Panel(
    "Memory by role",
    "timeseries",
    "bytes",
    12,
    (series("pulse", "memory_bytes", by("role", "instance"), EACH_WINDOW.format("last")),),
    "Resident memory of each process.",
)
COUNTS: Final = Panel(
    "What was seen",
    "barchart",
    "short",
    12,
    (
        series(
            "sighting",
            "label",
            SITE_CHOSEN,
            "map(fn: (r) => ({label: r._value, sightings: 1}))",
            by("label"),
            'sum(column: "sightings")',
            "group()",
            'sort(columns: ["sightings"], desc: true)',
            "limit(n: 25)",
        ),
    ),
    "Sightings by their consensus. `tierwise sightings list` tells the same by day, from Kafka.",
)
LIVE: Final = Panel(
    "Latest answers",
    "table",
    "short",
    12,
    (
        series(
            "result",
            "probability",
            SITE_CHOSEN,
            "group()",
            'sort(columns: ["_time"], desc: true)',
            "limit(n: 50)",
            'keep(columns: ["_time", "site", "device", "stream", "tier", "rank", "label", "privacy", "_value"])',
            'rename(columns: {_value: "probability"})',
        ),
    ),
    "Each tier's own; an event appears once a tier.",
)

CLOUD: Final = (
    LIVE,
    COUNTS,
    ANSWERS,
    LATENCY,
    HOPS,
    Panel(
        "Records by privacy",
        "timeseries",
        "cps",
        12,
        (
            series(
                "pulse",
                "records",
                "filter(fn: (r) => exists r.topic and r.topic =~ /features/)",
                by("topic", "instance"),
                RATE,
                by("topic"),
                EACH_WINDOW.format("mean"),
            ),
        ),
        "Features a second that the router put into each level's topic; what is not public is sealed.",
    ),
    QUEUES,
    REFUSED,
    Panel(
        "Hourly means of sensors",
        "timeseries",
        "short",
        12,
        (series("hour", "mean", SITE_CHOSEN, by("site", "device", "stream", "unit")),),
        "Public hours; the readings themselves stay at their sites.",
    ),
    MEMORY,
)

SITE: Final = (
    LIVE,
    COUNTS,
    ANSWERS,
    LATENCY,
    Panel(
        "Sensors",
        "timeseries",
        "short",
        ROW,
        (series("reading", "value", SITE_CHOSEN, by("device", "stream", "unit"), EACH_WINDOW.format("mean")),),
        "Reports by exception: a sensor that does not change reports seldom.",
    ),
    Panel(
        "Answers by privacy",
        "timeseries",
        "short",
        12,
        (series("result", "probability", SITE_CHOSEN, by("privacy"), EACH_WINDOW.format("count")),),
        "Public answers may be told anywhere, edge-private ones here; user-private ones are in no time series.",
    ),
    HOPS,
    QUEUES,
    REFUSED,
    MEMORY,
)

SITES: Final = f"""\
import "influxdata/influxdb/schema"

schema.tagValues(bucket: "{BUCKET}", tag: "site")"""


def dashboard(uid: str, title: str, panels: tuple[Panel, ...]) -> dict[str, Any]:
    """Grafana's model of one dashboard: panels flow from left to right."""
    placed, x, y = [], 0, 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > ROW:
            x, y = 0, y + HEIGHT
        placed.append(_panel(number, panel, {"h": HEIGHT, "w": panel.width, "x": x, "y": y}))
        x += panel.width
    return {
        "uid": uid,
        "title": title,
        "tags": ["tierwise"],
        "timezone": "browser",
        "editable": False,
        "refresh": "10s",
        "schemaVersion": 39,
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": "site",
                    "type": "query",
                    "datasource": SOURCE,
                    "query": SITES,
                    "includeAll": True,
                    "multi": True,
                    "allValue": ".*",
                    "current": {"text": "All", "value": "$__all"},
                    "refresh": 2,
                }
            ]
        },
        "panels": placed,
    }


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "title": panel.title,
        "description": panel.about,
        "type": panel.kind,
        "gridPos": place,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "options": {},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "query": query}
            for index, query in enumerate(panel.flux)
        ],
    }


# --- alerts ----------------------------------------------------------------------------------------------------


class Alert(NamedTuple):
    """A rule: it fires when a series' last value is above the limit for so long."""

    uid: str
    title: str
    flux: str
    above: float
    during: str
    no_data: str
    """What it means when there are no series at all: ``OK`` or ``Alerting``."""
    summary: str


def _recent(hours: str, measurement: str, field: str, *steps: str) -> str:
    return "\n".join(
        [
            'import "influxdata/influxdb/monitor"',
            'import "experimental"',
            "",
            f'from(bucket: "{BUCKET}")',
            f"  |> range(start: -{hours})",
            f'  |> filter(fn: (r) => r._measurement == "{measurement}" and r._field == "{field}")',
            *(f"  |> {step}" for step in steps),
        ]
    )


def _dead_after(span: str, *tags: str) -> tuple[str, ...]:
    return (
        by(*tags),
        f"monitor.deadman(t: experimental.subDuration(d: {span}, from: now()))",
        "map(fn: (r) => ({r with _time: now(), _value: if r.dead then 1.0 else 0.0}))",
        f"keep(columns: [{', '.join(json.dumps(tag) for tag in ('_time', '_value', *tags))}])",
    )


ALERTS: Final = (
    Alert(
        "tierwise-device-silent",
        "A device is silent",
        _recent("7d", "result", "probability", *_dead_after("6h", "site", "device")),
        0.5,
        "5m",
        "OK",
        "No answer about anything of {{ $labels.site }}/{{ $labels.device }} for six hours: is it on, and does its login work?",
    ),
    Alert(
        "tierwise-agent-silent",
        "An agent is silent",
        _recent("1h", "pulse", "memory_bytes", *_dead_after("5m", "role")),
        0.5,
        "1m",
        "Alerting",
        "No {{ $labels.role }} told of itself for five minutes: see `docker compose ps` and `docker compose logs`.",
    ),
    Alert(
        "tierwise-backlog-grows",
        "A backlog grows",
        _recent(
            "30m",
            "pulse",
            "backlog",
            "filter(fn: (r) => exists r.hop)",
            by("role", "hop", "instance"),
            "aggregateWindow(every: 5m, fn: mean, createEmpty: false)",
            "derivative(unit: 10m)",
            "mean()",
            "map(fn: (r) => ({r with _time: now()}))",
        ),
        100,
        "10m",
        "OK",
        "{{ $labels.role }} keeps more and more for the hop {{ $labels.hop }}: that hop is away, or too slow. Nothing is lost meanwhile.",
    ),
)


def alerting() -> dict[str, Any]:
    """Grafana's provisioning file of alert rules (written as JSON, which YAML readers take)."""
    rules = [
        {
            "uid": alert.uid,
            "title": alert.title,
            "condition": "C",
            "for": alert.during,
            "noDataState": alert.no_data,
            "execErrState": "Error",
            "annotations": {
                "summary": alert.summary.replace("$", "$$")
            },  # else taken for a variable of the environment
            "labels": {"from": "tierwise"},
            "data": [
                {
                    "refId": "A",
                    "relativeTimeRange": {"from": 3600, "to": 0},
                    "datasourceUid": SOURCE["uid"],
                    "model": {"refId": "A", "query": alert.flux},
                },
                _expression("B", {"type": "reduce", "expression": "A", "reducer": "last"}),
                _expression(
                    "C",
                    {
                        "type": "threshold",
                        "expression": "B",
                        "conditions": [{"evaluator": {"type": "gt", "params": [alert.above]}}],
                    },
                ),
            ],
        }
        for alert in ALERTS
    ]
    return {
        "apiVersion": 1,
        "groups": [{"orgId": 1, "name": "tierwise", "folder": "Tierwise", "interval": "1m", "rules": rules}],
    }


def _expression(ref: str, model: dict[str, Any]) -> dict[str, Any]:
    return {
        "refId": ref,
        "datasourceUid": "__expr__",
        "model": {"refId": ref, "datasource": {"type": "__expr__", "uid": "__expr__"}, **model},
    }


FILES: Final = {
    "cloud/tierwise.json": dashboard("tierwise-cloud", "Tierwise: all sites", CLOUD),
    "site/site.json": dashboard("tierwise-site", "Tierwise: this site", SITE),
    "provisioning/alerting/tierwise.yaml": alerting(),
}


def main() -> None:
    """Write the dashboards beside this file."""
    for name, content in FILES.items():
        (HERE / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
