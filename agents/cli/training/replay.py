"""`tierwise training replay`: learn from the labelled visits of one camera, and answer the others.

$ tierwise training replay --frames trap --labels trap.csv
$ tierwise training replay --frames trap --labels trap.csv --json > answers.jsonl
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import Progress

from agents.cli.options import AsJson
from models.evaluation.frame_sequence import GAP_S, read_sequence
from models.evaluation.label_value import ReplaySummary, render, summary
from models.evaluation.replay import TRAIN_SHARE, ReplayedFrame
from models.evaluation.replay import replay as replayed
from models.vision.capture_time import exif_tags_of, wall_time_s
from pipeline import topics
from pipeline.errors import Stop


def replay(
    frames: Annotated[
        Path,
        typer.Option(
            "--frames",
            metavar="DIR",
            help="A folder with the frames of one fixed camera; subfolders count too.",
        ),
    ],
    labels: Annotated[
        Path,
        typer.Option(
            "--labels",
            metavar="CSV",
            help="Columns path and label, perhaps time and event; frames without a label are answered.",
        ),
    ],
    stream: Annotated[
        str,
        typer.Option("--stream", metavar="NAME", help="A name for the camera; its model is called after it."),
    ] = "site",
    gap_s: Annotated[
        float, typer.Option("--gap", min=0.0, metavar="SECONDS", help="Frames further apart are two visits.")
    ] = GAP_S,
    train_share: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="If all frames have labels: learn from this share of the visits, measure on the rest.",
        ),
    ] = TRAIN_SHARE,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out rows that cannot be used, and list them.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Write the summary into this file, as JSON."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: as many as cores.")] = None,
    as_json: AsJson = False,
) -> None:
    """Learn a fixed camera's place from the labels of some visits; answer the others, and sum up."""
    if not topics.is_name(stream):
        raise Stop(f"--stream {stream!r}: use a-z, 0-9, - and _, at most 63 characters, first a letter or digit")
    sequence = read_sequence(frames, labels, gap_s=gap_s, time_of=_taken_s, skip_bad=skip_bad)
    with _progress() as bar:
        task = bar.add_task("reading frames", total=sum(len(event.frames) for event in sequence.events))
        done = replayed(
            sequence,
            stream=stream,
            train_share=train_share,
            workers=workers,
            progress=lambda count: bar.advance(task, count),
        )
    figures = summary(sequence, done)
    for line in (*sequence.left_out, *done.left_out):
        typer.echo(f"left out: {line}", err=True)
    if report is not None:
        _write(report, figures)
    if as_json:
        for each in done.answers:
            typer.echo(msgspec.json.encode(each))
        typer.echo(msgspec.json.encode({"summary": figures}))
    else:
        for each in done.answers:
            typer.echo(line_of(each))
        Console().print(Markdown(render(figures)))


def line_of(answer: ReplayedFrame) -> str:
    """Return one frame's answer as one line."""
    now, before = (" > ".join(path) or "unknown" for path in (answer.path, answer.before))
    return f"{answer.file:<28} {now:<44} {answer.probability:4.2f}  before: {before:<44} {answer.rule}"


def _taken_s(file: Path) -> float | None:
    """Return when a frame was taken, by its EXIF block; a file's own time is that of the copy."""
    return wall_time_s(exif_tags_of(file))


def _write(file: Path, figures: ReplaySummary) -> None:
    try:
        file.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
    except OSError as error:
        raise Stop(f"--report {file} cannot be written: {error.strerror}") from error


def _progress() -> Progress:
    """Return a progress bar on stderr."""
    return Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
