"""The start of brokers and roles as one steady picture: a line for each part, a spinner until it is ready.

::

    ✓ mqtt      127.0.0.1:1883                        0.2 s
    ✓ kafka     127.0.0.1:9092                        0.8 s
    ⠋ device    is starting
    · edge      waits for the parts above
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import RenderableType
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table

from agents.up.supervisor import News, UpEvent

NAME_WIDTH: Final = 8

LINES: Final = {
    UpEvent.READY: "[green]✓[/] {part} {text}  [dim]{seconds:.1f} s[/]",
    UpEvent.SLOW: "[yellow]…[/] {part} not ready after {seconds:.0f} s: {text}",
    UpEvent.LINE: "  {part} {text}",
    UpEvent.DIED: "[red]✗[/] {part} {text}",
    UpEvent.GAVE_UP: "[red]✗[/] {part} {text}",
}
"""The line of each event, where there is no picture; events without one are not printed."""


def line(news: News) -> str:
    """Return the line of an event, as markup; empty: none."""
    text = LINES.get(news.event, "") if news.part else ""
    return text.format(part=f"{news.part:<{NAME_WIDTH}}", text=escape(news.text), seconds=news.seconds)


@dataclass(frozen=True, slots=True)
class _Row:
    mark: RenderableType
    text: str
    time: str = ""


class StartPicture:
    """The picture that `rich.live.Live` draws while parts start. `take` receives all news, from any thread."""

    def __init__(self, parts: Sequence[str]) -> None:
        self._rows = {part: _Row("[dim]·[/]", "[dim]waits[/]") for part in parts}

    def take(self, news: News) -> None:
        """Change the line of a part."""
        match news.event:
            case _ if news.part not in self._rows:
                return
            case UpEvent.STARTING:
                row = _Row(Spinner("dots", style="cyan"), "[dim]is starting[/]")
            case UpEvent.READY:
                row = _Row("[green]✓[/]", f"[green]{escape(news.text)}[/]", f"[dim]{news.seconds:.1f} s[/]")
            case UpEvent.SLOW:
                row = _Row(Spinner("dots", style="yellow"), f"[yellow]{escape(news.text)}[/]")
            case UpEvent.DIED | UpEvent.GAVE_UP:
                row = _Row("[red]✗[/]", f"[red]{escape(news.text)}[/]")
            case _:
                return
        self._rows[news.part] = row

    def __rich__(self) -> Table:
        """Draw all parts."""
        table = Table.grid(padding=(0, 2, 0, 0))
        for part, row in list(self._rows.items()):
            table.add_row(row.mark, f"{part:<{NAME_WIDTH}}", row.text, row.time)
        return table
