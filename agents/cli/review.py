"""`tierwise review`: through the events whose labels would teach most, one after the other.

::

    1 of 9  home/cam1/garden  14:02:11  0193f0b8-7b1a-7c3e-9d0a-2f6f2f6b1c11
      edge    kingdom  animal                               0.61     41 ms  public
      asked: no family is sure enough (0.61), and nothing like it was labelled
      picture: data/device/pictures/0193f0b8-….jpg
    label> red fox

Which events: those that the edge asks about; where it asks about none, what it was least sure of. It runs where the edge
does, as its user; the picture is shown where the device's ring is this user's, too. Answers come from a person, or a line
each from a file.
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

from agents.cli.label import By
from agents.cli.options import SettingsFile
from agents.client.answer_text import line, local_time
from agents.client.connection import at_site
from agents.client.labelling import Given, Labelling, State, drive, now_text, subscriptions, whoever
from agents.device.picture_ring import Pictures
from agents.edge import store_reader
from agents.edge.label_rules import grown
from agents.edge.store_reader import EdgeView
from models.labels.taxonomy import Taxonomy, load_taxonomy
from pipeline import topics
from pipeline.errors import Rejected, Stop
from pipeline.messages import Label, Result
from pipeline.settings.settings import Settings

QUIT, HELP, BACK, SKIP = "q", "?", "-", ""

PROMPT: Final = "label> "
NEAREST: Final = 5

USAGE: Final = (
    "a label of any rank, scientific or English (Tab completes); Family/Species name or animal/Family/Species name for one "
    "that the tree lacks; empty: nobody is there; Enter: skip; - takes your earlier word back; ? and a name: the nearest "
    "labels; q: quit"
)


@dataclass(frozen=True, slots=True)
class Page:
    """One event to look at."""

    told: Result
    why: str
    picture: Path | None


def review(
    by: By = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many events.")] = 20,
    pictures: Annotated[bool, typer.Option(help="Draw the pictures in the terminal.")] = True,
    settings: SettingsFile = None,
) -> None:
    """Go through the events whose labels would teach most, with their pictures where they are yours to see."""
    loaded = Settings.load(settings)
    console = Console(highlight=False, soft_wrap=True)
    with store_reader.opened(loaded.data_dir) as view:
        if view is None:
            raise Stop(f"no edge ran on this machine ({loaded.data_dir / 'edge'}): run this where it does")
        pages = list(_pages(view, loaded, limit))
        tree = grown(load_taxonomy(), view.labels.brought_by_anyone())
    if not pages:
        console.print("nothing to ask about: no frame that could be learned from is without a label")
        return
    devices = [page.told.device for page in pages]
    with at_site(loaded, "review", subscriptions(loaded.site, devices)) as (connection, inbox):

        def give(given: Given) -> None:
            drive(Labelling([given]), connection, inbox, lambda _: None)

        read = _reader(tree)
        tally = _through(pages, read, give, console, tree, whoever(by), draw=pictures and console.is_terminal)
    console.print(f"{tally} of {len(pages)} labelled")


def _pages(view: EdgeView, settings: Settings, limit: int) -> Iterator[Page]:
    ring = Pictures(
        settings.data_dir / "device" / "pictures",
        max_bytes=settings.device.pictures_mib << 20,
        max_days=settings.device.pictures_days,
    )
    found: list[tuple[Result, str]] = []
    for ask in view.asks()[:limit]:
        with contextlib.suppress(Rejected):  # forgotten since
            found.append((view.event(ask.event), f"asked: {ask.reason}"))
    if not found:
        found = [
            (told, "nothing is asked about; of all without a label this is unsure") for told in view.unsure()
        ]
    for told, why in found[:limit]:
        picture = None
        with contextlib.suppress(OSError):  # the device's own user's
            picture = ring.find(told.event)
        yield Page(told, why, picture)


def _through(
    pages: list[Page],
    read: Callable[[], str | None],
    give: Callable[[Given], None],
    console: Console,
    tree: Taxonomy,
    by: str,
    *,
    draw: bool,
) -> int:
    """Ask about each page; how many were labelled."""
    labelled = 0
    for number, page in enumerate(pages, start=1):
        _show(page, f"{number} of {len(pages)}", console, draw=draw)
        while True:
            said = read()
            if said is None or said == QUIT:
                return labelled
            if said == SKIP:
                break
            if said.startswith(HELP):
                console.print(f"  {escape(_help(said[1:].strip(), tree))}")
                continue
            told = page.told
            label = Label(event=told.event, label=None if said == BACK else said, by=by, time=now_text())
            given = Given(told.event, label, topics.label(told.site, told.device))
            give(given)
            if given.state is State.REFUSED and given.refusal is not None:
                console.print(f"  [red]{escape(given.refusal.detail)}[/]")
                continue
            if given.answer is not None:
                console.print(f"  {escape(line(given.answer))}\n  [dim]{escape(given.answer.reason)}[/]")
            labelled += label.label is not None
            break
    return labelled


def _show(page: Page, place: str, console: Console, *, draw: bool) -> None:
    told = page.told
    console.print(f"[bold]{place}[/]  {escape(told.source)}  {local_time(told)}  {told.event}")
    console.print(f"  {escape(line(told))}\n  {escape(page.why)}")
    if page.picture is None:
        console.print("  picture: none that you may see here, or no longer kept")
        return
    console.print(f"  picture: {escape(str(page.picture))}")
    if draw:
        from agents.cli.thumbnail import thumbnail  # OpenCV, for who wants it

        drawn = thumbnail(page.picture)
        if drawn is not None:
            console.print(drawn)


def _help(name: str, tree: Taxonomy) -> str:
    if not name:
        return USAGE
    near = tree.nearest(name, NEAREST)
    return ", ".join(near) if near else f"nothing in the tree is spelled like {name!r}"


def _reader(tree: Taxonomy) -> Callable[[], str | None]:
    """The next answer, without the spaces around it; None at the end of the input."""
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
    """Tab completes names of the tree, where this Python has readline."""
    with contextlib.suppress(ImportError):
        import readline

        names = sorted({*tree.paths, *(tree.english(label) for label in tree.species)})

        def complete(text: str, state: int) -> str | None:
            found = [name for name in names if name.casefold().startswith(text.casefold())]
            return found[state] if state < len(found) else None

        readline.set_completer_delims("")
        readline.set_completer(complete)
        readline.parse_and_bind("tab: complete")
