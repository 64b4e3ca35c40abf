"""The screen of the demo: answers as trees that refine in place; beside them, the traffic of each hop and topic."""

from __future__ import annotations

from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from agents.client.answer_text import WIDE, line, local_time, wording
from agents.demo.run import SIMULATED, Demo, DemoReport
from agents.demo.scenes import SCENES
from pipeline.messages import Privacy, Rank, Result, Task

TREES: Final = 5
"""Events shown at once: as many as a terminal of 40 lines takes."""

COLOURS: Final = {Privacy.PUBLIC: "green", Privacy.EDGE_PRIVATE: "yellow", Privacy.USER_PRIVATE: "red"}
SEEN: Final = {scene.stream: scene.subject for scene in SCENES}

STAYS: Final = frozenset({"person-in-frame", "person-a-moment-ago", "withdrawn"})
"""Rules by which a picture stays on its device because of a person."""

HOPS: Final = {
    "device-site": "device → its users",
    "device-edge": "device → edge",
    "edge-site": "edge → its users",
    "edge-cloud": "edge → cloud, metered",
    "cloud-edge": "cloud → edge",
}


class DemoScreen:
    """Keeps the newest answers; rich draws them. Until the demo runs, it shows the start."""

    def __init__(self, start: RenderableType) -> None:
        self._start = start
        self._demo: Demo | None = None
        self._events: list[str] = []
        self._room: Result | None = None
        self._pattern: dict[str, Result] = {}

    def watch(self, demo: Demo) -> None:
        """Draw this demo from now on."""
        self._demo = demo

    def take(self, result: Result) -> None:
        """Take one answer in."""
        if result.task is Task.WILDLIFE:
            if result.event not in self._events:
                self._events = [*self._events[-TREES + 1 :], result.event]
        elif result.rank is Rank.ACTIVITY:
            self._room = result
        elif result.rank is Rank.PATTERN:
            self._pattern[result.source] = result

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw everything; in a narrow terminal without reasons and explanations."""
        if self._demo is None:
            yield self._start
        else:
            yield self._running(self._demo, is_wide=options.max_width >= WIDE)

    def _running(self, demo: Demo, *, is_wide: bool) -> RenderableType:
        sides = Table.grid(expand=True, padding=(0, 1))
        sides.add_column(ratio=3)
        sides.add_column(ratio=2)
        trees = Group(*(self._tree(demo, event, is_wide=is_wide) for event in self._events))
        sides.add_row(
            Panel(trees, title="answers, refined in place"),
            Group(
                Panel(privacy_table(demo.privacy_topics, explain=is_wide), title="Kafka, by privacy"),
                Panel(hop_table(demo.bytes), title="bytes on each hop"),
                Panel(self._sensors(explain=is_wide), title="sensors (simulated)"),
                Panel(seen_table(demo), title="seen where"),
            ),
        )
        head = Text.from_markup(
            f"[bold]tierwise demo[/]  {demo.stage}; {demo.tally.published:,} published, "
            f"{demo.tally.unacknowledged + demo.tally.unanswered:,} on their way.  [dim]{SIMULATED}. Ctrl-C ends.[/]"
        )
        return Group(head, sides)

    def _tree(self, demo: Demo, event: str, *, is_wide: bool) -> Tree:
        answers = demo.tally.answers(event)
        first = answers[0]
        stream = f"{first.device}/{first.stream}"
        seen = SEEN.get(stream, "something")
        tree = Tree(f"[bold]{escape(stream)}[/] {local_time(first.time)}  [dim]{seen}[/]")
        for result in answers:
            tree.add(_answer(result, is_wide=is_wide))
        last = max(answers, key=lambda result: result.revision)
        if last.pending:
            tree.add(f"[dim]… {last.pending}[/]")
        elif last.rule in STAYS:
            tree.add("[red]the picture stays on its device[/]")
        elif last.rule.startswith("policy-keeps"):
            tree.add("[yellow]policy keeps the rest at its site[/]")
        return tree

    def _sensors(self, *, explain: bool) -> RenderableType:
        lines = []
        if self._room is not None:
            lines.append(
                f"office: [bold]{self._room.label}[/] {self._room.probability:.2f}  [dim]{self._room.time[:16]}[/]"
            )
        for source, result in sorted(self._pattern.items()):
            why = f"  [dim]{escape(result.reason)}[/]" if explain else ""
            lines.append(f"{source.partition('/')[2]}: {result.label}{why}")
        return Text.from_markup("\n".join(lines) or "[dim]a week of readings is on its way[/]")


def _answer(result: Result, *, is_wide: bool) -> str:
    colour = COLOURS[result.privacy]
    how = f"  [dim]{result.latency_ms:.0f} ms, {result.rule}[/]" if is_wide else ""
    return (
        f"{result.tier:<6} [bold]{escape(wording(result))}[/] {result.probability:.2f}{how}  "
        f"[{colour}]{result.privacy}[/]"
    )


def privacy_table(counts: dict[str, int], *, explain: bool = True) -> Table:
    """Draw the number of feature records in each topic."""
    meaning = {
        "public": "in the clear",
        "edge-private": "sealed by the site's key",
        "user-private": "sealed by the user's key",
        "rejected": "reasons without content",
    }
    table = Table.grid(padding=(0, 2))
    for level, count in counts.items():
        table.add_row(level, str(count), f"[dim]{meaning[level]}[/]" if explain else "")
    return table


def hop_table(sizes: dict[str, int]) -> Table:
    """Draw the bytes that each hop carried."""
    table = Table.grid(padding=(0, 2))
    for hop, name in HOPS.items():
        if hop in sizes:
            table.add_row(name, f"{sizes[hop]:,}")
    return table


def seen_table(demo: Demo) -> Table:
    """Draw the counts of closed public sightings."""
    table = Table.grid(padding=(0, 2))
    for total in demo.counts[:6]:
        table.add_row(escape(" > ".join(total.path) or total.label), f"{total.sightings}", f"[dim]{total.site}[/]")
    if not demo.counts:
        table.add_row("[dim]a sighting is counted when it is over[/]")
    return table


def plain(result: Result) -> str | None:
    """Return an answer as one line, for output that is not a terminal. Return None for an answer not to show."""
    if result.task is not Task.WILDLIFE:
        return None
    return f"{local_time(result.time)} {result.device + '/' + result.stream:<14} {line(result)}"


def ending(demo: Demo, report: DemoReport) -> Group:
    """Draw the figures, and commands to try next."""
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
    next_steps = Table.grid(padding=(0, 2))
    for command, meaning in NEXT:
        next_steps.add_row("", f"[bold]tierwise {escape(command)}[/]", meaning)
    return Group(
        table,
        Panel(privacy_table(report.privacy_topics), title="features in Kafka, by privacy"),
        Panel(hop_table(report.bytes), title="bytes on each hop"),
        Panel(seen_table(demo), title="seen where"),
        Text.from_markup(
            f"\nEverything is in [bold]{escape(str(folder))}[/]: settings, logs, stores, pictures (the device's only)."
        ),
        Text("Try next:"),
        next_steps,
    )


NEXT: Final = (
    ("up", "start it for good, with settings to edit"),
    ("publish PHOTO", "your own photo, answered by three tiers"),
    ("demo --source rtsp://…", "your own camera (or 0, or a folder)"),
    ("watch", "sightings as they come, while it runs"),
    ("sightings list", "what was seen, by day"),
    ("classify PHOTO", "the same answers without a broker"),
)
"""Commands to try after the demo."""
