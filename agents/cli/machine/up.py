"""`tierwise up`: everything on this machine, until Ctrl-C."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.markup import escape

from agents.cli.machine.start_picture import StartPicture, line
from agents.cli.options import SettingsFile
from agents.cli.tables import text_console
from agents.role import exit_codes, telemetry
from agents.role.lifecycle import Ending, Endings
from agents.up.plan import plan
from agents.up.supervisor import News, Supervisor, UpEvent
from pipeline import topics
from pipeline.messages import Task
from pipeline.settings.settings import FILE, FILE_VARIABLE, STARTER, Settings


def up(
    settings: SettingsFile = None,
    only: Annotated[str, typer.Option(help="Start only these, as device,edge, and the brokers that they need.")] = "",
) -> None:
    """Start the embedded brokers and all roles on this machine; restart a part that ends.

    Writes starter settings if there are none. Ctrl-C stops everything in order.
    """
    console = text_console()
    file = (settings or Path(os.environ.get(FILE_VARIABLE) or FILE)).absolute()
    if not file.exists():
        write_starter(file)
        console.print(
            f"wrote {escape(str(file))}: settings of one camera and one room to start from; a comment on each line says why"
        )
    loaded = Settings.load(file)
    names = [name.strip() for name in only.split(",") if name.strip()]
    parts = plan(loaded, file, names)
    endings = Endings()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda n, _frame: endings.report(Ending(exit_codes.ASKED, signal.Signals(n).name)))

    picture = StartPicture([part.name for part in parts])
    live = Live(picture, console=console, refresh_per_second=10)
    held: list[str] = []
    """Lines that came during the start: the picture stands still meanwhile."""

    def report(news: News) -> None:
        picture.take(news)
        if news.event is UpEvent.ALL_READY:
            live.stop()
            if held:
                console.print(f"[dim]warnings during the start: {len(held)}, see the logs[/]")
            held.clear()
            console.print(_all_ready(loaded, news.seconds))
        elif news.event is UpEvent.GAVE_UP and not news.part:
            endings.report(Ending(exit_codes.STOP, news.text))
        elif not (text := line(news)):
            return
        elif not live.is_started:
            console.print(text)
        elif news.event is UpEvent.LINE:
            held.append(text)

    console.print(
        f"tierwise {telemetry.version()}, site {loaded.site}\n"
        f"  settings  {escape(str(file))}\n  data      {escape(str(loaded.data_dir))}"
    )
    supervisor = Supervisor(loaded, file, parts, report)
    supervisor.start()
    if console.is_terminal:
        live.start(refresh=True)
    try:
        ending = endings.wait()
    finally:
        live.stop()
        for text in held:
            console.print(text)
    console.print(f"stopping ({escape(ending.why)})")
    supervisor.stop()
    console.print("stopped")
    raise typer.Exit(ending.code)


def write_starter(file: Path) -> None:
    """Write the starter settings; raise `FileExistsError` rather than write over a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("x", encoding="utf-8") as new:
        new.write(STARTER)


def _all_ready(settings: Settings, seconds: float) -> str:
    broker = f"{settings.mqtt.host}:{settings.mqtt.port_number}"
    camera = next((s for s, asked in settings.named_streams.items() if asked.task is Task.WILDLIFE), None)
    lines = [
        f"[bold]ready[/] after {seconds:.1f} s",
        "  publish a photo   tierwise publish cat.jpg",
        "  see answers       tierwise watch",
        f"  logs              {escape(str(settings.data_dir / 'logs'))}",
        "  stop              Ctrl-C",
    ]
    if camera is not None:
        site, device, stream = camera.split("/")
        lines.insert(2, f"  from a camera     MQTT {broker}, {topics.frame(site, device, stream)}")
    return "\n".join(lines)
