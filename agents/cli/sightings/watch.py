"""`tierwise watch`: what the site sees, refined in place when deeper tiers answer.

Without options a row is a sighting (all frames of one visit) or a sensor; with `--frames` a row is a frame or a
reading. The id at the end of a row names the event for `tierwise label` and `tierwise sightings picture`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from agents.cli.options import AsJson, SettingsFile
from agents.cli.tables import Column, draw
from agents.client import event_ids
from agents.client.answer_text import Board, line, local_time, wording
from agents.client.sighting_board import SightingBoard, SightingRow
from agents.client.site_client import SiteClient, connect
from agents.client.window import replies_to
from pipeline import topics
from pipeline.messages import Malformed, Privacy, Result, SightingReport, decode
from pipeline.settings.settings import Settings

TICK_S: Final = 0.25
TABLE_LINES: Final = 6
"""Lines of the screen that the table itself takes: title, heads, caption."""

STYLES: Final = {Privacy.PUBLIC: "green", Privacy.EDGE_PRIVATE: "yellow", Privacy.USER_PRIVATE: "red"}

SIGHTING_COLUMNS: Final = (
    Column("time"),
    Column("where"),
    Column("answer", grows=True),
    Column("p", right=True),
    Column("frames", right=True),
    Column("by", wide=True),
    Column("privacy", wide=True),
    Column("id"),
)
FRAME_COLUMNS: Final = (
    Column("time"),
    Column("where"),
    Column("answer", grows=True),
    Column("p", right=True),
    Column("tier"),
    Column("privacy", wide=True),
    Column("rule", wide=True),
    Column("id"),
)


def watch(
    frames: Annotated[bool, typer.Option("--frames", help="A row for each frame and reading.")] = False,
    as_json: AsJson = False,
    settings: SettingsFile = None,
) -> None:
    """Watch sightings and sensors in a live table. Ctrl-C ends it. With --json print every answer of every tier."""
    loaded = Settings.load(settings)
    # Private answers come only where the broker lets this client read them: on their owner's own machine.
    subscriptions = [*replies_to("+", "+"), topics.sighting("+", "+", "+")]
    with (
        connect(loaded, "watch", subscriptions) as site,
        contextlib.suppress(KeyboardInterrupt),
    ):
        console = Console(highlight=False)
        if as_json:
            _print_json(site)
        elif console.is_terminal:
            _show_table(console, site, _frames() if frames else _sightings(loaded.site))
        elif frames:
            _print_frames(site)
        else:
            _print_sightings(site)


# --- lines -----------------------------------------------------------------------------------------------------


def _print_json(site: SiteClient) -> None:
    while True:
        for message in _messages(site):
            if isinstance(message, Result):
                print(msgspec.json.encode(message).decode(), flush=True)


def _print_frames(site: SiteClient) -> None:
    board = Board()
    while True:
        for result in _messages(site):
            if isinstance(result, Result) and board.refine(result):
                print(
                    local_time(result.time),
                    event_ids.short(result.event),
                    f"{result.source:<26}",
                    line(result),
                    flush=True,
                )


def _print_sightings(site: SiteClient) -> None:
    board = SightingBoard()
    while True:
        for message in _messages(site):
            if (row := board.take(message)) is not None:
                print(
                    local_time(row.time),
                    event_ids.short(row.id),
                    f"{row.source:<26}",
                    f"{row.text:<36} {row.probability:4.2f}",
                    _frame_count(row),
                    flush=True,
                )


# --- tables ----------------------------------------------------------------------------------------------------

Drawing = Callable[[list[Result | SightingReport], int, int, str], Table]
"""New messages, the width, the most rows, why nothing can come -> the table."""


def _show_table(console: Console, site: SiteClient, drawing: Drawing) -> None:
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            rows = max(1, console.height - TABLE_LINES)
            live.update(drawing(_messages(site), console.width, rows, site.problem), refresh=True)


def _frames() -> Drawing:
    board = Board()

    def drawing(messages: list[Result | SightingReport], width: int, most: int, problem: str) -> Table:
        for message in messages:
            if isinstance(message, Result):
                board.refine(message)
        return frame_table(board.events[-most:], width, problem)

    return drawing


def _sightings(home: str) -> Drawing:
    board = SightingBoard()

    def drawing(messages: list[Result | SightingReport], width: int, most: int, problem: str) -> Table:
        for message in messages:
            board.take(message)
        return sighting_table(board.rows[-most:], width, problem, home)

    return drawing


def sighting_table(rows: tuple[SightingRow, ...], width: int, problem: str = "", home: str = "") -> Table:
    """Draw sightings and sensors, the newest last. `problem` is why none can arrive; `home` is this site."""
    cells = (
        (
            local_time(row.time),
            escape(row.source.removeprefix(f"{home}/")),
            escape(row.text) if row.is_pending else f"[bold]{escape(row.text)}[/]",
            f"{row.probability:.2f}",
            _frame_count(row),
            row.by,
            f"[{STYLES[row.privacy]}]{row.privacy}[/]",
            event_ids.short(row.id),
        )
        for row in rows
    )
    return draw(SIGHTING_COLUMNS, cells, width, title="Sightings", caption=_caption(problem), one_line=True)


def frame_table(answers: tuple[Result, ...], width: int, problem: str = "") -> Table:
    """Draw answers, the newest event last. `problem` is why none can arrive."""
    cells = (
        (
            local_time(answer.time),
            escape(f"{answer.device}/{answer.stream}"),
            escape(wording(answer)) if answer.pending else f"[bold]{escape(wording(answer))}[/]",
            f"{answer.probability:.2f}",
            f"{answer.tier} → {answer.pending}" if answer.pending else str(answer.tier),
            f"[{STYLES[answer.privacy]}]{answer.privacy}[/]",
            escape(answer.rule),
            event_ids.short(answer.event),
        )
        for answer in answers
    )
    return draw(FRAME_COLUMNS, cells, width, title="Frames", caption=_caption(problem), one_line=True)


def _caption(problem: str) -> str:
    return f"[red]{escape(problem)}[/]" if problem else "Ctrl-C ends. Label one: tierwise label ID LABEL"


def _frame_count(row: SightingRow) -> str:
    """Return the number of frames, with an ellipsis if the sighting may still grow."""
    if row.is_sensor:
        return ""
    return f"{row.frames}…" if row.is_pending else str(row.frames)


def _messages(site: SiteClient) -> list[Result | SightingReport]:
    found: list[Result | SightingReport] = []
    for message in site.take(TICK_S):
        parsed = topics.parse(message.topic)
        channel = parsed.channel if parsed else ""
        with contextlib.suppress(Malformed):  # anyone may publish there
            if channel in ("result", "private"):
                found.append(decode(Result, message.payload))
            elif channel == "sighting":
                found.append(decode(SightingReport, message.payload))
    return found
