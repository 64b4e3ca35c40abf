"""The dashboards and alert rules, as code: run it, and the files beside it are written anew.

$ python compose/grafana/dashboards.py

`docs/how-to/dashboards.md` explains the panels and rules to their users. A panel is a row of `CLOUD` or `SITE`: title,
kind, unit, width and Flux. What the Flux names (measurements, tags, fields) is what `pipeline/series/points.py` and
`agents/role/self_metrics.py` write; a test holds them together, and has each query parsed. Another runs all of them on
a real InfluxDB.
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


def legend(*tags: str) -> tuple[str, ...]:
    """Return the last steps of a time series: only its time, value and these tags, which name it in every refresh.

    Grafana takes the first column of times as x, and each further column as part of the name.
    """
    return (f"keep(columns: [{', '.join(map(json.dumps, ('_time', '_value', *tags)))}])", by(*tags))


SITE_CHOSEN: Final = "filter(fn: (r) => r.site =~ /^${site:regex}$/)"
EACH_WINDOW: Final = "aggregateWindow(every: v.windowPeriod, fn: {}, createEmpty: false)"
WIDE_WINDOW: Final = "if int(v: v.windowPeriod) > int(v: 1m) then v.windowPeriod else 1m"
"""At least a few beats of the agents (15 s): each replica has a value in each window, so that a sum is whole."""


def quantile(q: float) -> str:
    """Return the step of a Flux query that takes a quantile of each window."""
    return EACH_WINDOW.format(f"(column, tables=<-) => tables |> quantile(q: {q}, column: column)")


def rate(*tags: str) -> tuple[str, ...]:
    """Return the steps from the counters of all replicas to the sum of their rates, by these tags."""
    return (
        by(*tags, "role", "instance"),
        "derivative(unit: 1s, nonNegative: true)",
        f"aggregateWindow(every: {WIDE_WINDOW}, fn: mean, createEmpty: false)",
        by(*tags, "_time"),
        "sum()",
        by(*tags),
        'sort(columns: ["_time"])',
        *legend(*tags),
    )


def latency(q: float) -> str:
    """Return the Flux query for a quantile of the tiers' latency."""
    return series(
        "result",
        "latency_ms",
        SITE_CHOSEN,
        by("tier"),
        quantile(q),
        f'map(fn: (r) => ({{r with tier: r.tier + " p{round(q * 100)}"}}))',
        *legend("tier"),
    )


ANSWERS: Final = Panel(
    "Answers by tier and rank",
    "timeseries",
    "short",
    12,
    (
        series(
            "result",
            "probability",
            SITE_CHOSEN,
            by("tier", "rank"),
            EACH_WINDOW.format("count"),
            *legend("tier", "rank"),
        ),
    ),
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
            *rate("hop"),
        ),
    ),
    "Payload bytes a second, as each role counts what it sends; the sum of all replicas.",
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
            *legend("role", "hop", "instance"),
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
        *(
            series(
                "pulse",
                field,
                *filters,
                by(*tags, "role", "instance"),
                "increase()",
                EACH_WINDOW.format("last"),
                *legend(*tags, "role", "instance"),
            )
            for field, tags, *filters in (
                ("refused", ("reason",)),
                ("withheld", ()),
                ("points", ("outcome",), 'filter(fn: (r) => r.outcome != "stored")'),
            )
        ),
    ),
    "Bad input by its reason, records that the privacy gate kept, and points that the time series lost.",
)
MEMORY: Final = Panel(
    "Memory by role",
    "timeseries",
    "bytes",
    12,
    (
        series(
            "pulse",
            "memory_bytes",
            by("role", "instance"),
            EACH_WINDOW.format("last"),
            *legend("role", "instance"),
        ),
    ),
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
            'filter(fn: (r) => r.label != "normal")',
            "group()",
            'sort(columns: ["_time"], desc: true)',
            "limit(n: 50)",
            'keep(columns: ["_time", "site", "device", "stream", "tier", "rank", "label", "privacy", "_value"])',
            'rename(columns: {_value: "probability"})',
        ),
    ),
    "Each tier's own; an event appears once a tier. Readings that are as usual (`normal`) are left out.",
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
                *rate("topic"),
            ),
        ),
        "Features a second that all routers put into each level's topic; what is not public is sealed.",
    ),
    QUEUES,
    REFUSED,
    Panel(
        "Hourly means of sensors",
        "timeseries",
        "short",
        12,
        (
            series(
                "hour",
                "mean",
                SITE_CHOSEN,
                by("site", "device", "stream", "unit"),
                'sort(columns: ["_time"])',
                *legend("site", "device", "stream", "unit"),
            ),
        ),
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
        (
            series(
                "reading",
                "value",
                SITE_CHOSEN,
                by("device", "stream", "unit"),
                EACH_WINDOW.format("mean"),
                *legend("device", "stream", "unit"),
            ),
        ),
        "Reports by exception: a sensor that does not change reports seldom.",
    ),
    Panel(
        "Answers by privacy",
        "timeseries",
        "short",
        12,
        (
            series(
                "result",
                "probability",
                SITE_CHOSEN,
                by("privacy"),
                EACH_WINDOW.format("count"),
                *legend("privacy"),
            ),
        ),
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


def _recent(measurement: str, field: str, *steps: str) -> str:
    """Points of as long as buckets keep them, and at most a month: a series that is gone from a rule counts as well."""
    return "\n".join(
        [
            'import "influxdata/influxdb/monitor"',
            'import "experimental"',
            "",
            f'from(bucket: "{BUCKET}")',
            "  |> range(start: -30d)",
            f'  |> filter(fn: (r) => r._measurement == "{measurement}" and r._field == "{field}")',
            *(f"  |> {step}" for step in steps),
        ]
    )


def _dead_after(span: str, *tags: str) -> tuple[str, ...]:
    return (
        "last()",  # of each series; the server need not read the points of a month
        by(*tags),
        f"monitor.deadman(t: experimental.subDuration(d: {span}, from: now()))",
        "map(fn: (r) => ({r with _time: now(), _value: if r.dead then 1.0 else 0.0}))",
        *legend(*tags),
    )


BACKLOG: Final = f"""\
waiting = from(bucket: "{BUCKET}")
  |> range(start: -30m)
  |> filter(fn: (r) => r._measurement == "pulse" and r._field == "backlog")
  |> filter(fn: (r) => exists r.hop)
  |> {by("role", "hop", "instance")}
  |> sort(columns: ["_time"])
growth = waiting
  |> aggregateWindow(every: 5m, fn: mean, createEmpty: false)
  |> derivative(unit: 10m)
  |> mean()
  |> map(fn: (r) => ({{role: r.role, hop: r.hop, instance: r.instance, _value: r._value}}))
stuck = waiting
  |> reduce(
    identity: {{_began: 0, _ended: 0, _last: 0.0, _least: 0.0, _drained: 0.0}},
    fn: (r, accumulator) => ({{
      _began: if accumulator._began == 0 then int(v: r._time) else accumulator._began,
      _ended: int(v: r._time),
      _last: r._value,
      _least: if accumulator._began == 0 or r._value < accumulator._least then r._value else accumulator._least,
      _drained: accumulator._drained + (if r._value < accumulator._last then 1.0 else 0.0),
    }}),
  )
  |> map(
    fn: (r) => ({{
      role: r.role,
      hop: r.hop,
      instance: r.instance,
      _value: if r._drained == 0.0 and r._least > 0.0 and r._ended - r._began > int(v: 24m) then 100.0 + r._least else 0.0,
    }}),
  )
  |> {by("role", "hop", "instance")}
union(tables: [growth, stuck])
  |> {by("role", "hop", "instance")}
  |> max()
  |> map(fn: (r) => ({{r with _time: now()}}))
"""
"""Records that were added in ten minutes; above 100 also where something waited for half an hour, and nothing left."""

DEVICE_SILENT: Final = Alert(
    "tierwise-device-silent",
    "A device is silent",
    _recent("result", "probability", *_dead_after("6h", "site", "device")),
    0.5,
    "5m",
    "OK",
    "No answer about anything of {{ $labels.site }}/{{ $labels.device }} for six hours: is it on, and does its login work?",
)
"""Of sites. The cloud cannot tell: of a device that answers privately, or sees no animal, it holds nothing."""

ALERTS: Final = (
    Alert(
        "tierwise-agent-silent",
        "An agent is silent",
        _recent("pulse", "memory_bytes", *_dead_after("5m", "role", "instance")),
        0.5,
        "1m",
        "Alerting",
        "No {{ $labels.role }} told of itself as {{ $labels.instance }} for five minutes: see `docker compose ps` and "
        "`docker compose logs`.",
    ),
    Alert(
        "tierwise-backlog-grows",
        "A backlog grows",
        BACKLOG + "".join(f"  |> {step}\n" for step in legend("role", "hop", "instance")),
        100,
        "10m",
        "OK",
        "{{ $labels.role }} keeps more and more for the hop {{ $labels.hop }}, or nothing left it for half an hour: that "
        "hop is away, or too slow. Nothing is lost meanwhile.",
    ),
)


def alerting(*alerts: Alert) -> dict[str, Any]:
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
            "notification_settings": {"receiver": RECEIVER},
            "data": [
                {
                    "refId": "A",
                    "relativeTimeRange": {"from": 30 * 86_400, "to": 0},
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
        for alert in alerts
    ]
    return {
        "apiVersion": 1,
        "groups": [{"orgId": 1, "name": "tierwise", "folder": "Tierwise", "interval": "1m", "rules": rules}],
        "contactPoints": CONTACT_POINTS,
    }


RECEIVER: Final = "tierwise"
CONTACT_POINTS: Final = [
    {
        "orgId": 1,
        "name": RECEIVER,
        "receivers": [{"uid": "tierwise-webhook", "type": "webhook", "settings": {"url": "$ALERT_WEBHOOK"}}],
    }
]
"""Of Grafana's environment: `ALERT_WEBHOOK` of `.env`."""


def _expression(ref: str, model: dict[str, Any]) -> dict[str, Any]:
    return {
        "refId": ref,
        "datasourceUid": "__expr__",
        "model": {"refId": ref, "datasource": {"type": "__expr__", "uid": "__expr__"}, **model},
    }


FILES: Final = {
    "cloud/tierwise.json": dashboard("tierwise-cloud", "Tierwise: all sites", CLOUD),
    "site/site.json": dashboard("tierwise-site", "Tierwise: this site", SITE),
    "provisioning/alerting/tierwise.yaml": alerting(DEVICE_SILENT, *ALERTS),
    "provisioning/alerting-cloud/tierwise.json": {
        **alerting(*ALERTS),
        "deleteRules": [{"orgId": 1, "uid": DEVICE_SILENT.uid}],  # an earlier release made it
    },
}


def main() -> None:
    """Write the dashboards beside this file."""
    for name, content in FILES.items():
        (HERE / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
