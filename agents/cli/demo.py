"""`tierwise demo`: see everything on this machine."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape

from agents.cli.machine.start_picture import StartPicture, line
from agents.cli.tables import text_console
from agents.demo.run import Demo, DemoRequest, settings_for
from agents.demo.scenes import photo_folder
from agents.demo.view import DemoScreen, ending, plain
from agents.role import exit_codes
from agents.up.plan import BROKER_NAMES, ROLE_NAMES
from agents.up.supervisor import News, UpEvent
from pipeline.messages import Result

FOLDER: Final = Path("tierwise-demo")
REDRAWS_PER_S: Final = 4


def demo(
    context: typer.Context,
    for_s: Annotated[float | None, typer.Option("--for", metavar="SECONDS", help="End after so many seconds.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the figures as JSON into this file.")] = None,
    source: Annotated[str, typer.Option(help="Your own camera: rtsp://…, a webcam's number, a video, a folder.")] = "",
    folder: Annotated[Path, typer.Option(help="The folder of the demo; existing contents are replaced.")] = FOLDER,
) -> None:
    """Start everything on this machine, and watch photos being answered tier by tier. Ctrl-C ends it."""
    if context.invoked_subcommand is not None:
        return
    if not source:
        photo_folder()
    console = text_console()
    wanted = DemoRequest(folder.absolute(), for_s, source)
    lively = console.is_terminal
    picture = StartPicture([*BROKER_NAMES, *ROLE_NAMES])
    screen = DemoScreen(picture)

    def starting(news: News) -> None:
        picture.take(news)
        if not lively and news.event is not UpEvent.LINE and (text := line(news)):
            console.print(text)

    running = Demo(wanted, settings_for(wanted), starting)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: running.end())

    def on_answer(result: Result) -> None:
        screen.take(result)
        if not lively and (text := plain(result)):
            console.print(escape(text))

    console.print("starting brokers and roles on this machine: two brokers, six roles")
    try:
        with _live(screen, console) if lively else contextlib.nullcontext():
            running.start()
            screen.watch(running)
            running.run(on_answer)
        figures = running.report()
    finally:
        running.stop()
    if report is not None:
        report.write_bytes(msgspec.json.format(msgspec.json.encode(figures)))
    console.print(ending(running, figures))
    if figures.lost or figures.duplicated or figures.person_pictures_that_left:
        raise typer.Exit(exit_codes.FAILED)


def _live(screen: DemoScreen, console: Console) -> Live:
    return Live(screen, console=console, refresh_per_second=REDRAWS_PER_S, transient=True)
