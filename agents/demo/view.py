"""How the demo looks: answers as trees that refine in place, and beside them what each hop and each topic carries."""

from __future__ import annotations

from typing import Final

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from agents.client.answer_text import line, local_time, wording
from agents.demo.run import SIMULATED, Demo, Report
from agents.demo.scenes import SCENES
from pipeline.messages import Privacy, Rank, Result, Task

TREES: Final = 5
"""Events shown at once: as many as a terminal of 40 lines takes."""

COLOURS: Final = {Privacy.PUBLIC: "green", Privacy.EDGE_PRIVATE: "yellow", Privacy.USER_PRIVATE: "red"}
SEEN: Final = {scene.stream: scene.told for scene in SCENES}

STAYS: Final = frozenset({"person-in-frame", "person-a-moment-ago", "withdrawn"})
"""Rules by which a picture stays where it is for a person's sake."""

HOPS: Final = {
    "device-site": "device → its users",
    "device-edge": "device → edge",
    "edge-site": "edge → its users",
    "edge-cloud": "edge → cloud (the metered link)",
    "cloud-edge": "cloud → edge",
}


class View:
    """Keeps what to show; `render` draws it."""

    def __init__(self) -> None:
        self._demo: Demo | None = None
        self._events: list[str] = []
        self._room: Result | None = None
        self._pattern: dict[str, Result] = {}
        self._starting: list[str] = []

    def starting(self, text: str) -> None:
        """A line about a part that is coming up."""
        self._starting.append(text)

    def watch(self, demo: Demo) -> None:
        self._demo = demo

    def hear(self, told: Result) -> None:
        """Take in one answer."""
        if told.task is Task.WILDLIFE:
            if told.event not in self._events:
                self._events = [*self._events[-TREES + 1 :], told.event]
        elif told.rank is Rank.ACTIVITY:
            self._room = told
        elif told.rank is Rank.PATTERN:
            self._pattern[told.source] = told

    def render(self) -> RenderableType:
        demo = self._demo
        if demo is None:
            return Group(*(Text.from_markup(text) for text in self._starting))
        sides = Table.grid(expand=True, padding=(0, 1))
        sides.add_column(ratio=3)
        sides.add_column(ratio=2)
        sides.add_row(
            Panel(
                Group(*(self._tree(demo, event) for event in self._events)), title="answers, refined in place"
            ),
            Group(
                Panel(privacy_table(demo.privacy_topics), title="Kafka, by privacy"),
                Panel(hop_table(demo.bytes), title="bytes on each hop"),
                Panel(self._sensors(), title="sensors (simulated)"),
                Panel(seen_table(demo), title="seen where (no picture needed)"),
            ),
        )
        head = Text.from_markup(
            f"[bold]tierwise demo[/]  {demo.stage}; {demo.tally.published:,} published, "
            f"{demo.tally.unacknowledged + demo.tally.unanswered:,} on their way.  [dim]{SIMULATED}. Ctrl-C ends.[/]"
        )
        return Group(head, sides)

    def _tree(self, demo: Demo, event: str) -> Tree:
        answers = demo.tally.answers(event)
        first = answers[0]
        stream = f"{first.device}/{first.stream}"
        seen = SEEN.get(stream, "something")
        tree = Tree(f"[bold]{escape(stream)}[/] {local_time(first)}  [dim]the camera sees {seen}[/]")
        for result in answers:
            tree.add(_answer(result))
        last = max(answers, key=lambda result: result.revision)
        if last.pending:
            tree.add(f"[dim]… {last.pending}[/]")
        elif last.rule in STAYS:
            tree.add("[red]the picture stays on its device[/]")
        elif last.rule.startswith("policy-keeps"):
            tree.add("[yellow]policy keeps the rest at its site[/]")
        return tree

    def _sensors(self) -> RenderableType:
        lines = []
        if self._room is not None:
            lines.append(
                f"office: [bold]{self._room.label}[/] {self._room.probability:.2f}  [dim]{self._room.time[:16]}[/]"
            )
        for source, result in sorted(self._pattern.items()):
            lines.append(f"{source.partition('/')[2]}: {result.label}  [dim]{escape(result.reason)}[/]")
        return Text.from_markup("\n".join(lines) or "[dim]a week of readings is on its way[/]")


def _answer(result: Result) -> str:
    colour = COLOURS[result.privacy]
    return (
        f"{result.tier:<6} [bold]{escape(wording(result))}[/] {result.probability:.2f}  "
        f"[dim]{result.latency_ms:.0f} ms, {result.rule}[/]  [{colour}]{result.privacy}[/]"
    )


def privacy_table(counts: dict[str, int]) -> Table:
    """Records of features in each topic."""
    meaning = {
        "public": "in the clear",
        "edge-private": "sealed by the site's key",
        "user-private": "sealed by the user's key",
        "rejected": "why, never what",
    }
    table = Table.grid(padding=(0, 2))
    for level, count in counts.items():
        table.add_row(level, str(count), f"[dim]{meaning[level]}[/]")
    return table


def hop_table(sizes: dict[str, int]) -> Table:
    """Bytes that each hop carried."""
    table = Table.grid(padding=(0, 2))
    for hop, told in HOPS.items():
        if hop in sizes:
            table.add_row(told, f"{sizes[hop]:,}")
    return table


def seen_table(demo: Demo) -> Table:
    """Counts of closed public sightings."""
    table = Table.grid(padding=(0, 2))
    for total in demo.counts[:6]:
        table.add_row(
            escape(" > ".join(total.path) or total.label), f"{total.sightings}", f"[dim]{total.site}[/]"
        )
    if not demo.counts:
        table.add_row("[dim]a sighting is counted when it is over[/]")
    return table


def plain(told: Result) -> str | None:
    """One line for a terminal that is none."""
    if told.task is not Task.WILDLIFE:
        return None
    return f"{local_time(told)} {told.device + '/' + told.stream:<14} {line(told)}"


def ending(demo: Demo, report: Report) -> Group:
    """The figures, and what to try next."""
    table = Table(show_header=True, title="what happened")
    for column in ("", "events", "p50 ms", "p99 ms"):
        table.add_column(column, justify="left" if not column else "right")
    events = report.events
    table.add_row("published", f"{events['published']:,}", "", "")
    for tier, count in report.answered.items():
        latency = report.latency_ms[tier]
        table.add_row(f"answered by the {tier}", f"{count:,}", f"{latency.p50:.0f}", f"{latency.p99:.0f}")
    table.add_row("lost", str(report.lost), "", "")
    table.add_row("duplicated", str(report.duplicated), "", "")
    table.add_row("persons' pictures that left", str(report.person_pictures_that_left), "", "")
    folder = demo.settings.data_dir.parent
    return Group(
        table,
        Panel(privacy_table(report.privacy_topics), title="features in Kafka, by privacy"),
        Panel(hop_table(report.bytes), title="bytes on each hop"),
        Panel(seen_table(demo), title="seen where"),
        Text.from_markup(
            f"\nAll of it is in [bold]{escape(str(folder))}[/]: settings, logs, stores, pictures (on the device's side only).\n"
            "Try next:\n"
            "  [bold]tierwise up[/]                                 start it for good, with settings to edit\n"
            "  [bold]tierwise publish PHOTO[/]                      your own photo, answered by three tiers\n"
            "  [bold]tierwise demo --source rtsp://…[/]             your own camera (or 0, or a folder)\n"
            "  [bold]tierwise watch[/]  [bold]tierwise counts[/]             while it runs\n"
            "  [bold]tierwise classify PHOTO[/]                     the same answers with no broker"
        ),
    )
