"""Tables that read well in a terminal of 80 columns, and show more in a wide one.

>>> columns = (Column("id"), Column("label", grows=True), Column("rule", wide=True))
>>> [str(column.header) for column in draw(columns, [("1", "cat", "last-tier")], width=80).columns]
['id', 'label']
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

WIDE: Final = 110
"""A terminal of this width also shows the less important columns."""

PIPE_WIDTH: Final = 200
"""Columns of a file or a pipe."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `grows` takes the room that the others leave; `wide` is shown in wide terminals only."""

    title: str
    right: bool = False
    grows: bool = False
    wide: bool = False


def draw(
    columns: Sequence[Column],
    rows: Iterable[Sequence[str]],
    width: int,
    *,
    title: str = "",
    caption: str = "",
    one_line: bool = False,
) -> Table:
    """Draw rows of marked-up cells, one cell for each column. `one_line` cuts long cells; otherwise they wrap."""
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title=title or None,
        title_justify="left",
        caption=caption or None,
        caption_justify="left",
    )
    shown = [number for number, column in enumerate(columns) if not column.wide or width >= WIDE]
    for number in shown:
        column = columns[number]
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=one_line or not column.grows,
            ratio=1 if column.grows and one_line else None,
            overflow="ellipsis" if one_line else "fold",
        )
    table.expand = one_line and any(column.grows for column in columns)
    for row in rows:
        table.add_row(*(row[number] for number in shown))
    return table


def text_console(*, stderr: bool = False) -> Console:
    """Return a console for lines of text: a terminal wraps them between words, a file or a pipe keeps them whole."""
    console = Console(highlight=False, stderr=stderr)
    console.soft_wrap = not console.is_terminal
    return console


def line_width(console: Console) -> int:
    """Return how wide a line may be; lines that go to a file or a pipe stay whole."""
    return console.width if console.is_terminal else PIPE_WIDTH
