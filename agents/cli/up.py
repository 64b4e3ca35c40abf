"""`tierwise up`: everything on this machine, until Ctrl-C."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape

from agents.cli.options import SettingsFile
from agents.role import exit_codes, telemetry
from agents.role.lifecycle import Ending, Endings
from agents.up.plan import plan
from agents.up.supervisor import News, Supervisor, UpEvent
from pipeline import topics
from pipeline.messages import Task
from pipeline.settings.settings import FILE, FILE_VARIABLE, STARTER, Settings

NAME_WIDTH: Final = 8

LINES: Final = {
    UpEvent.STARTING: None,
    UpEvent.READY: "[green]✓[/] {part} {text}  [dim]{seconds:.1f} s[/]",
    UpEvent.SLOW: "[yellow]…[/] {part} not ready after {seconds:.0f} s: {text}",
    UpEvent.LINE: "  {part} {text}",
    UpEvent.DIED: "[red]✗[/] {part} {text}",
    UpEvent.GAVE_UP: "[red]✗[/] {part} {text}",
}
"""How each kind of news is told; None: not at all."""


def up(
    settings: SettingsFile = None,
    only: Annotated[
        str, typer.Option(help="Only these, comma between: device,edge. Their brokers come along.")
    ] = "",
) -> None:
    """Start the embedded brokers and all roles on this machine, wait until each is ready, restart what dies.

    Writes starter settings where there are none. Ctrl-C stops everything in order.
    """
    console = Console(highlight=False, soft_wrap=True)
    file = (settings or Path(os.environ.get(FILE_VARIABLE) or FILE)).absolute()
    if not file.exists():
        write_starter(file)
        console.print(
            f"wrote {escape(str(file))}: one camera and one room to start from; every line says why"
        )
    loaded = Settings.load(file)
    names = [name.strip() for name in only.split(",") if name.strip()]
    parts = plan(loaded, file, names)
    endings = Endings()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(
            number, lambda n, _frame: endings.report(Ending(exit_codes.ASKED, signal.Signals(n).name))
        )

    def tell(news: News) -> None:
        if news.event is UpEvent.ALL_READY:
            console.print(_all_ready(loaded, news.seconds))
        elif news.event is UpEvent.GAVE_UP and not news.part:
            endings.report(Ending(exit_codes.STOP, news.text))
        elif line := LINES[news.event]:
            console.print(
                line.format(part=f"{news.part:<{NAME_WIDTH}}", text=escape(news.text), seconds=news.seconds)
            )

    console.print(
        f"tierwise {telemetry.version()}: site {loaded.site}, settings {escape(str(file))}, "
        f"data {escape(str(loaded.data_dir))}"
    )
    supervisor = Supervisor(loaded, file, parts, tell)
    supervisor.start()
    ending = endings.wait()
    console.print(f"stopping ({escape(ending.why)})")
    supervisor.stop()
    console.print("stopped")
    raise typer.Exit(ending.code)


def write_starter(file: Path) -> None:
    """Write the starter settings, never over a file that is there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("x", encoding="utf-8") as new:
        new.write(STARTER)


def _all_ready(settings: Settings, seconds: float) -> str:
    broker = f"{settings.mqtt.host}:{settings.mqtt.port_number}"
    camera = next((s for s, asked in settings.streams.items() if asked.task is Task.WILDLIFE), None)
    lines = [
        f"[bold]ready[/] after {seconds:.1f} s",
        "  publish a photo   tierwise publish cat.jpg",
        "  see answers       tierwise watch",
        f"  logs              {escape(str(settings.data_dir / 'logs'))}",
        "  stop              Ctrl-C",
    ]
    if camera is not None:
        site, device, stream = camera.split("/")
        lines.insert(
            2, f"  or from a camera  MQTT {broker}, topic {topics.frame(site, device, stream)}, JPEG or PNG"
        )
    return "\n".join(lines)
