"""`tierwise labels review`: go through the events whose labels would teach most, one after the other.

::

    1 of 9  home/cam1/garden  14:02:11  0193f0b8-7b1a-7c3e-9d0a-2f6f2f6b1c11
      edge    kingdom  animal                               0.61     41 ms  public
      asked: no family is sure enough (0.61), and nothing like it was labelled
      picture: data/device/pictures/0193f0b8-….jpg
    label> red fox

It shows the edge's label requests; without any, the answers that the edge was least sure of. Run it where the edge
runs, as its user. Pictures are shown if the device agent runs here as the same user. Labels are typed, or come from a
file, a line each.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape

from agents.cli.options import By, SettingsFile
from agents.cli.tables import line_width, text_console
from agents.client import edge_reader
from agents.client.answer_text import line, local_time
from agents.client.edge_reader import EdgeReader
from agents.client.labelling import LabelDelivery, now_text, person, replies_to_labels
from agents.client.pictures import picture_of
from agents.client.site_client import connect
from agents.client.window import DeliveryState
from models.labels.taxonomy import Taxonomy
from pipeline.errors import Rejected, Stop
from pipeline.messages import Label, Result
from pipeline.settings.settings import Settings

QUIT, HELP, BACK, SKIP = "q", "?", "-", ""

PROMPT: Final = "label> "
NEAREST: Final = 5

USAGE: Final = (
    "a label of any rank, scientific or English (Tab completes); Family/Species name or animal/Family/Species name for a "
    "species that the tree lacks; empty: no animal is there; Enter: skip; - withdraws your earlier label; ? and a name: "
    "the nearest labels; q: quit"
)


@dataclass(frozen=True, slots=True)
class ReviewPage:
    """One event to look at."""

    answer: Result
    why: str
    picture: Path | None


def review(
    by: By = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many events.")] = 20,
    pictures: Annotated[bool, typer.Option(help="Draw the pictures in the terminal.")] = True,
    settings: SettingsFile = None,
) -> None:
    """Go through the events whose labels would teach most, with their pictures where you may see them."""
    loaded = Settings.load(settings)
    console = text_console()
    with edge_reader.opened(loaded.data_dir) as reader:
        if reader is None:
            raise Stop(f"no edge ran on this machine ({loaded.data_dir / 'edge'}): run this where the edge runs")
        pages = list(_pages(reader, loaded, limit))
        tree = reader.tree()
    if not pages:
        console.print("nothing to review: every frame that the edge could learn from has a label")
        return
    devices = [page.answer.device for page in pages]
    with connect(loaded, "review", replies_to_labels(loaded.site, devices)) as site:

        def send(label: LabelDelivery) -> None:
            for _ in site.deliver_labels([label]):
                pass

        count = _through(
            pages,
            _input_reader(tree),
            send,
            console,
            tree,
            person(by),
            draw=pictures and console.is_terminal,
        )
    console.print(f"{count} of {len(pages)} labelled")


def _pages(reader: EdgeReader, settings: Settings, limit: int) -> Iterator[ReviewPage]:
    found: list[tuple[Result, str]] = []
    for ask in reader.asks()[:limit]:
        with contextlib.suppress(Rejected):  # forgotten since
            found.append((reader.event(ask.event), f"asked: {ask.reason}"))
    if not found:
        found = [(answer, "no label request is open; this answer is unsure") for answer in reader.unsure()]
    for answer, why in found[:limit]:
        picture = None
        with contextlib.suppress(OSError):  # another user's pictures
            picture = picture_of(settings, answer.event)
        yield ReviewPage(answer, why, picture)


def _through(
    pages: list[ReviewPage],
    read: Callable[[], str | None],
    send: Callable[[LabelDelivery], None],
    console: Console,
    tree: Taxonomy,
    by: str,
    *,
    draw: bool,
) -> int:
    """Ask about each page; return how many were labelled."""
    labelled = 0
    for number, page in enumerate(pages, start=1):
        _show(page, f"{number} of {len(pages)}", console, draw=draw)
        while True:
            text = read()
            if text is None or text == QUIT:
                return labelled
            if text == SKIP:
                break
            if text.startswith(HELP):
                console.print(f"  {escape(_help(text[1:].strip(), tree))}")
                continue
            answer = page.answer
            label = Label(event=answer.event, label=None if text == BACK else text, by=by, time=now_text())
            sent = LabelDelivery.of(label, answer.site, answer.device)
            send(sent)
            if sent.state is DeliveryState.REFUSED and sent.refusal is not None:
                console.print(f"  [red]{escape(sent.refusal.detail)}[/]")
                continue
            if sent.answer is not None:
                console.print(f"  {escape(line(sent.answer, line_width(console)))}")
                console.print(f"  [dim]{escape(sent.answer.reason)}[/]")
            labelled += label.label is not None
            break
    return labelled


def _show(page: ReviewPage, place: str, console: Console, *, draw: bool) -> None:
    answer = page.answer
    console.print(f"[bold]{place}[/]  {escape(answer.source)}  {local_time(answer.time)}  {answer.event}")
    console.print(f"  {escape(line(answer, line_width(console)))}\n  {escape(page.why)}")
    if page.picture is None:
        console.print("  picture: not kept any more, or not yours to see")
        return
    console.print(f"  picture: {escape(str(page.picture))}")
    if draw:
        from agents.cli.labels.thumbnail import thumbnail  # it loads OpenCV

        drawn = thumbnail(page.picture)
        if drawn is not None:
            console.print(drawn)


def _help(name: str, tree: Taxonomy) -> str:
    if not name:
        return USAGE
    near = tree.nearest(name, NEAREST)
    return ", ".join(near) if near else f"nothing in the tree is spelled like {name!r}"


def _input_reader(tree: Taxonomy) -> Callable[[], str | None]:
    """Return a function that reads the next line without the spaces around it; None at the end of the input."""
    if not sys.stdin.isatty():

        def next_line() -> str | None:
            text = sys.stdin.readline()
            return text.strip() if text else None

        return next_line
    _complete_by(tree)

    def ask() -> str | None:
        try:
            return input(PROMPT).strip()
        except (EOFError, KeyboardInterrupt):
            return None

    return ask


def _complete_by(tree: Taxonomy) -> None:
    """Let Tab complete names of the tree, where this Python has readline."""
    with contextlib.suppress(ImportError):
        import readline

        names = sorted({*tree.paths, *(tree.english(label) for label in tree.species)})

        def complete(text: str, state: int) -> str | None:
            found = [name for name in names if name.casefold().startswith(text.casefold())]
            return found[state] if state < len(found) else None

        readline.set_completer_delims("")
        readline.set_completer(complete)
        readline.parse_and_bind("tab: complete")
