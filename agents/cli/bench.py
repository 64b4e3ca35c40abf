"""`tierwise bench ingest|route|frames|models|loop|all`: how fast are we, beside our peers and beside our own parts?

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
from agents.bench import ingest as ingest_bench
from agents.bench import loop as loop_bench
from agents.bench import models as models_bench
from agents.bench import route as route_bench
from agents.cli.options import AsJson
from agents.role import telemetry

app = typer.Typer(no_args_is_help=True)

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
"""Whose versions a figure depends on."""

Quixstreams = Annotated[
    Path | None,
    typer.Option("--quixstreams", metavar="PYTHON", help="A Python that has quixstreams installed."),
]

Rows = list[tuple[str, str, str]]
"""What, figure, goal."""


@app.command()
def ingest(as_json: AsJson = False) -> None:
    """CPU time of a durable message, against a plain subscriber that keeps nothing."""
    _tell({"ingest": ingest_bench.run}, as_json)


@app.command()
def route(quixstreams: Quixstreams = None, as_json: AsJson = False) -> None:
    """Records a second through the router, against a stock Faust agent, quixstreams and raw aiokafka."""
    _tell({"route": partial(route_bench.run, peers_python=quixstreams)}, as_json)


@app.command()
def frames(as_json: AsJson = False) -> None:
    """Frames a second through all tiers, against the same answers with no road between them."""
    _tell({"frames": frames_bench.run}, as_json)


@app.command()
def models(as_json: AsJson = False) -> None:
    """Processor time of each model, beside one pass of the backbone."""
    _tell({"models": models_bench.run}, as_json)


@app.command()
def loop(as_json: AsJson = False) -> None:
    """What learning costs: a million features, a federated round, an edge's increment."""
    _tell({"loop": loop_bench.run}, as_json)


@app.command("all")
def everything(quixstreams: Quixstreams = None, as_json: AsJson = False) -> None:
    """All of them, one after the other."""
    routing = partial(route_bench.run, peers_python=quixstreams)
    runs: dict[str, Callable[[], dict[str, Any]]] = {
        "ingest": ingest_bench.run,
        "route": routing,
        "frames": frames_bench.run,
        "models": models_bench.run,
        "loop": loop_bench.run,
    }
    _tell(runs, as_json)


def _tell(wanted: Mapping[str, Callable[[], dict[str, Any]]], as_json: bool) -> None:
    """Measure and print; with ``--json`` one object: the conditions, and each benchmark under its name."""
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    told: dict[str, Any] = {"conditions": conditions()}
    for name, run in wanted.items():
        if not as_json:
            errors.print(f"[dim]measuring {name}; leave the machine alone meanwhile[/]")
        told[name] = run()
        if not as_json:
            console.print(table(name, ROWS[name](told[name])))
    if as_json:
        print(msgspec.json.encode(told).decode())
    else:
        console.print(f"[dim]{_in_words(told['conditions'])}[/]", soft_wrap=True)


def conditions() -> dict[str, Any]:
    """What the figures hold for."""
    return {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "tierwise": telemetry.version(),
        "commit": _commit(),
        "versions": {name: _version(name) for name in LIBRARIES},
    }


def _in_words(told: Mapping[str, Any]) -> str:
    return (
        f"{told['cores']} cores, load {told['load']} at the start, Python {told['python']}, tierwise {told['tierwise']}"
        f"{' at ' + told['commit'] if told['commit'] else ''}. Ratios are of one run; absolute figures are this machine's."
    )


def _commit() -> str | None:
    """Of the checkout that runs; None where it is installed from a package."""
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
    """One benchmark for a person."""
    drawn = Table(title=name, title_justify="left")
    for column in ("", "measured", "goal"):
        drawn.add_column(column, justify="left" if not column else "right")
    for row in rows:
        drawn.add_row(*row)
    return drawn


def ingest_rows(told: Mapping[str, Any]) -> Rows:
    rows: Rows = []
    for name, found in told["receivers"].items():
        goal = f"<= {told['goal_us']:.0f} µs" if name == ingest_bench.OURS else ""
        rows.append((f"{name}, CPU a message", f"{min(found['cpu_us_per_message']):.1f} µs", goal))
        rows.append((f"{name}, messages a second", f"{max(found['messages_per_s']):,}", ""))
    return [*rows, ("durable ingest to plain paho, CPU", f"{told['cpu_ratio']:.2f}", "")]


def route_rows(told: Mapping[str, Any]) -> Rows:
    rows: Rows = []
    for name, found in told["contestants"].items():
        measured = found.get("skipped") or f"{found['records_per_s']:,.0f} records/s"
        rows.append((name, measured, ""))
    for peer, times in told["ratios"].items():
        goal = told["goals"].get(peer)
        rows.append((f"ours to {peer}", f"{times:.1f}", f">= {goal:g}" if goal else ""))
    return rows


def frames_rows(told: Mapping[str, Any]) -> Rows:
    parts = " and ".join(f"{rate:.1f}" for rate in told["parts_per_s"])
    cpu: Rows = []
    if told["cpu_ratio"] is not None:
        spent = told["cpu_ms_per_frame"]
        cpu = [
            ("the same in CPU time", f"{told['cpu_ratio']:.0%}", f"{spent['parts']} of {spent['road']} ms")
        ]
    return [
        *((f"{tier}, one answer", f"{ms:.1f} ms", "") for tier, ms in told["parts_ms"].items()),
        (f"parts alone on {told['cores']} cores", f"{parts} frames/s", ""),
        ("through all tiers", f"{told['road_per_s']:.1f} frames/s", ""),
        ("the road to its parts", f"{told['ratio']:.0%}", f">= {told['goal']:.0%}"),
        *cpu,
    ]


def models_rows(told: Mapping[str, Any]) -> Rows:
    rows: Rows = [
        (name, f"{ms:.2f} ms", f"{told['ratio'][name]:.2f} of a pass") for name, ms in told["ms"].items()
    ]
    return [
        *rows,
        *((f"{title}, files", f"{size / 1000:,.0f} kB", "") for title, size in told["bytes"].items()),
    ]


def loop_rows(told: Mapping[str, Any]) -> Rows:
    head, sent, edge, goals = told["head"], told["round"], told["increment"], told["goals"]
    return [
        *(
            (f"{head['features']:,} features: {what}", f"{s:.2f} s", "")
            for what, s in head["seconds"].items()
        ),
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
    "models": models_rows,
    "loop": loop_rows,
}
