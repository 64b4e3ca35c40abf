"""`tierwise bench ingest|route|frames|idle|models|loop|all`: measure Tierwise beside peers and beside its own parts.

Every figure is a ratio within one run: what a machine does in a second differs by a factor of ten from the next one.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from agents.bench import frames as frames_bench
from agents.bench import idle as idle_bench
from agents.bench import ingest as ingest_bench
from agents.bench import loop as loop_bench
from agents.bench import models as models_bench
from agents.bench import route as route_bench
from agents.cli.options import AsJson
from agents.cli.tables import WIDE, Column, draw
from agents.role import telemetry

LIBRARIES: Final = (
    "aiokafka",
    "faust-streaming",
    "iotcore",
    "kafka-python",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "paho-mqtt",
    "quixstreams",
)
"""Libraries whose versions a figure depends on."""

Quixstreams = Annotated[
    Path | None,
    typer.Option("--quixstreams", metavar="PYTHON", help="A Python that has quixstreams installed."),
]

Kafka = Annotated[
    str | None,
    typer.Option("--kafka", metavar="HOST:PORT", help="A Kafka without records of ours; otherwise the embedded one."),
]

Records = Annotated[int, typer.Option("--records", min=1, help="How many records to route.")]

Messages = Annotated[int, typer.Option("--messages", min=1, help="How many messages a round.")]

Ekuiper = Annotated[
    Path | None,
    typer.Option("--ekuiper", metavar="BINARY", help="LF Edge eKuiper's server `kuiperd`, as one more peer."),
]

Rows = list[tuple[str, str, str]]
"""Name, figure, goal."""


def ingest(ekuiper: Ekuiper = None, messages: Messages = ingest_bench.MESSAGES, as_json: AsJson = False) -> None:
    """Measure the CPU time of a durable message, beside a plain subscriber that stores nothing."""
    _measure({"ingest": partial(ingest_bench.run, messages, ekuiper=ekuiper)}, as_json)


def route(
    kafka: Kafka = None,
    records: Records = route_bench.RECORDS,
    quixstreams: Quixstreams = None,
    as_json: AsJson = False,
) -> None:
    """Measure records a second through the router, beside a stock Faust agent, quixstreams and raw aiokafka."""
    _measure({"route": partial(route_bench.run, records, kafka, quixstreams)}, as_json)


def idle(as_json: AsJson = False) -> None:
    """Measure processor time, wake-ups and memory of the whole stack while nothing happens."""
    _measure({"idle": idle_bench.run}, as_json)


def frames(as_json: AsJson = False) -> None:
    """Measure frames a second through all tiers, beside the same answers computed without MQTT and Kafka."""
    _measure({"frames": frames_bench.run}, as_json)


def models(as_json: AsJson = False) -> None:
    """Measure the processor time of each model, beside one pass of the backbone."""
    _measure({"models": models_bench.run}, as_json)


def loop(as_json: AsJson = False) -> None:
    """Measure the cost of learning: a million features, a federated round, an edge's increment."""
    _measure({"loop": loop_bench.run}, as_json)


def everything(quixstreams: Quixstreams = None, as_json: AsJson = False) -> None:
    """Run all benchmarks, one after the other."""
    routing = partial(route_bench.run, peers_python=quixstreams)
    runs: dict[str, Callable[[], dict[str, Any]]] = {
        "ingest": ingest_bench.run,
        "route": routing,
        "frames": frames_bench.run,
        "idle": idle_bench.run,
        "models": models_bench.run,
        "loop": loop_bench.run,
    }
    _measure(runs, as_json)


def _measure(wanted: Mapping[str, Callable[[], dict[str, Any]]], as_json: bool) -> None:
    """Measure and print; with ``--json`` one object: the conditions, and each benchmark under its name."""
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    report: dict[str, Any] = {"conditions": conditions()}
    for name, run in wanted.items():
        if not as_json:
            errors.print(f"[dim]measuring {name}; run nothing else meanwhile[/]")
        report[name] = run()
        if not as_json:
            console.print(table(name, ROWS[name](report[name])))
    if as_json:
        print(msgspec.json.encode(report).decode())
    else:
        console.print(f"[dim]{_in_words(report['conditions'])}[/]")


def conditions() -> dict[str, Any]:
    """Return the conditions under which the figures hold."""
    return {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "tierwise": telemetry.version(),
        "commit": _commit(),
        "versions": {name: _version(name) for name in LIBRARIES},
    }


def _in_words(report: Mapping[str, Any]) -> str:
    return (
        f"{report['cores']} cores, load {report['load']} at the start, Python {report['python']}, tierwise {report['tierwise']}"
        f"{' at ' + report['commit'] if report['commit'] else ''}. Ratios are of one run; absolute figures are this machine's."
    )


def _commit() -> str | None:
    """Return the commit of this checkout; None if Tierwise is installed from a package."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


# --- tables ----------------------------------------------------------------------------------------------------


def table(name: str, rows: Rows) -> Table:
    """Draw the figures of one benchmark."""
    columns = (Column("", grows=True), Column("measured", right=True), Column("goal", right=True))
    return draw(columns, rows, WIDE, title=name)


def ingest_rows(report: Mapping[str, Any]) -> Rows:
    """Return the rows of `tierwise bench ingest`."""
    rows: Rows = []
    for name, found in report["receivers"].items():
        if why := found.get("skipped"):
            rows.append((name, f"skipped: {why}", ""))
            continue
        rows.append((f"{name}, CPU a message", f"{min(found['cpu_us_per_message']):.1f} µs", ""))
        rows.append((f"{name}, messages a second", f"{max(found['messages_per_s']):,}", ""))
    for peer, ratio in report["cpu_ratios"].items():
        goal = f"<= {report['goal']:g}" if peer == ingest_bench.PEER else ""
        rows.append((f"durable ingest to {peer}, CPU", f"{ratio:.2f}", goal))
    return [*rows, (f"{report['broker']}, max_inflight_messages", f"{report['max_inflight_messages']:,}", "")]


def route_rows(report: Mapping[str, Any]) -> Rows:
    """Return the rows of `tierwise bench route`."""
    rows: Rows = []
    for name, found in report["contestants"].items():
        measured = found.get("skipped") or (
            f"{found['records_per_s']:,.0f} records/s, {found['cpu_us_per_record']:.1f} µs of CPU each"
        )
        rows.append((name, measured, ""))
    for peer, times in report["cpu_ratios"].items():
        goal = report["goals"].get(peer)
        rows.append((f"ours to {peer}, by CPU", f"{times:.2f}", f">= {goal:g}" if goal else ""))
        rows.append((f"ours to {peer}, by time", f"{report['ratios'][peer]:.2f}", ""))
    return rows


def frames_rows(report: Mapping[str, Any]) -> Rows:
    """Return the rows of `tierwise bench frames`."""
    parts = " and ".join(f"{rate:.1f}" for rate in report["parts_per_s"])
    cpu: Rows = []
    if report["cpu_ratio"] is not None:
        spent = report["cpu_ms_per_frame"]
        cpu = [("the same in CPU time", f"{report['cpu_ratio']:.0%}", f"{spent['parts']} of {spent['road']} ms")]
    return [
        *((f"{tier}, one answer", f"{ms:.1f} ms", "") for tier, ms in report["parts_ms"].items()),
        (f"parts alone on {report['cores']} cores", f"{parts} frames/s", ""),
        ("through all tiers", f"{report['road_per_s']:.1f} frames/s", ""),
        ("the road to its parts", f"{report['ratio']:.0%}", f">= {report['goal']:.0%}"),
        *cpu,
    ]


def models_rows(report: Mapping[str, Any]) -> Rows:
    """Return the rows of `tierwise bench models`."""
    rows: Rows = [(name, f"{ms:.2f} ms", f"{report['ratio'][name]:.2f} of a pass") for name, ms in report["ms"].items()]
    return [
        *rows,
        *((f"{title}, files", f"{size / 1000:,.0f} kB", "") for title, size in report["bytes"].items()),
    ]


def loop_rows(report: Mapping[str, Any]) -> Rows:
    """Return the rows of `tierwise bench loop`."""
    head, sent, edge, goals = report["head"], report["round"], report["increment"], report["goals"]
    return [
        *((f"{head['features']:,} features: {what}", f"{s:.2f} s", "") for what, s in head["seconds"].items()),
        (
            "to a solved head, beside reading records",
            f"{head['ratio']['records']:.2f}",
            f"<= {goals['head']:g}",
        ),
        ("to a solved head, beside reading bare bytes", f"{head['ratio']['bare bytes']:.1f}", ""),
        *((f"accuracy, {who}", f"{share:.1%}", "") for who, share in sent["accuracy"].items()),
        *((f"bytes, {who}", f"{count:,}", "") for who, count in sent["bytes"].items()),
        ("one round's bytes to FedAvg's", f"{sent['ratio']:.3f}", f"<= {goals['round']:g}"),
        (
            f"an edge's increment, {edge['held back']} visits held back",
            f"{edge['ms']['median']:.2f} ms",
            f"<= {goals['increment_ms']:g} ms",
        ),
    ]


ROWS: Final[Mapping[str, Callable[[Mapping[str, Any]], Rows]]] = {
    "ingest": ingest_rows,
    "route": route_rows,
    "frames": frames_rows,
    "idle": idle_bench.rows,
    "models": models_rows,
    "loop": loop_rows,
}
