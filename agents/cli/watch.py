"""`tierwise watch`: the site's answers, refined in place as deeper tiers have their say."""

from __future__ import annotations

import contextlib

import msgspec
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from agents.cli.options import AsJson, SettingsFile
from agents.client.answer_text import Board, line, local_time, wording
from agents.client.connection import Inbox, at_site
from pipeline import topics
from pipeline.messages import Malformed, Privacy, Result, Tier, decode
from pipeline.mqtt import Connection
from pipeline.settings.settings import Settings

TICK_S = 0.25
FRAME_ROWS = 6
"""Of the screen, taken by the table's own lines."""

EVENT_SHOWN = 8
"""Of an event's id: its random end, which `tierwise picture` takes as well."""

STYLES = {Privacy.PUBLIC: "green", Privacy.EDGE_PRIVATE: "yellow", Privacy.USER_PRIVATE: "red"}


def watch(as_json: AsJson = False, settings: SettingsFile = None) -> None:
    """A live table of answers, refined in place. Ctrl-C ends it."""
    loaded = Settings.load(settings)
    # Private ones among them come only where the broker lets this client have them: their owner's own machine.
    answers = [topic for tier in Tier for topic in topics.answers_of("+", "+", tier)]
    with (
        at_site(loaded, "watch", answers) as (connection, inbox),
        contextlib.suppress(KeyboardInterrupt),
    ):
        console = Console(highlight=False)
        if as_json:
            _print_json(inbox)
        elif console.is_terminal:
            _show_table(console, connection, inbox)
        else:
            _print_lines(inbox)


def _print_json(inbox: Inbox) -> None:
    while True:
        for result in _answers(inbox):
            print(msgspec.json.encode(result).decode(), flush=True)


def _print_lines(inbox: Inbox) -> None:
    board = Board()
    while True:
        for result in filter(board.refine, _answers(inbox)):
            print(
                local_time(result),
                result.event[-EVENT_SHOWN:],
                f"{result.source:<26}",
                line(result),
                flush=True,
            )


def _show_table(console: Console, connection: Connection, inbox: Inbox) -> None:
    board = Board()
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            for result in _answers(inbox):
                board.refine(result)
            rows = max(1, console.height - FRAME_ROWS)
            live.update(table(board.events[-rows:], connection.problem), refresh=True)


def _answers(inbox: Inbox) -> list[Result]:
    found = []
    for message in inbox.take(TICK_S):
        with contextlib.suppress(Malformed):  # anyone may publish there; what is no answer is not shown
            found.append(decode(Result, message.payload))
    return found


def table(answers: tuple[Result, ...], problem: str) -> Table:
    """The answers as a table, the newest event last; `problem` says why none can come, or is empty."""
    caption = f"[red]{escape(problem)}[/]" if problem else "Ctrl-C ends; one picture: tierwise picture EVENT"
    shown = Table(expand=True, caption=caption, title="Answers")
    for column in ("time", "stream", "answer", "p", "tier", "refined by", "privacy", "rule", "ms", "event"):
        shown.add_column(column, justify="right" if column in ("p", "ms") else "left", no_wrap=True)
    for answer in answers:
        shown.add_row(
            local_time(answer),
            escape(answer.source),
            f"[bold]{escape(wording(answer))}[/]" if not answer.pending else escape(wording(answer)),
            f"{answer.probability:.2f}",
            answer.tier,
            f"… {answer.pending}" if answer.pending else "",
            f"[{STYLES[answer.privacy]}]{answer.privacy}[/]",
            escape(answer.rule),
            f"{answer.latency_ms:.0f}",
            answer.event[-EVENT_SHOWN:],
        )
    return shown
