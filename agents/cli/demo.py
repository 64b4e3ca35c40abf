"""`tierwise demo`: see the whole of it on this machine."""

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

from agents.cli.demo_learning import learning
from agents.demo.run import Demo, Plan, settings_for
from agents.demo.scenes import photo_folder
from agents.demo.view import View, ending, plain
from agents.role import exit_codes
from agents.up.supervisor import News, UpEvent
from pipeline.messages import Result

FOLDER: Final = Path("tierwise-demo")
REDRAWS_PER_S: Final = 4


app = typer.Typer(no_args_is_help=False)
app.command("learning")(learning)


@app.callback(invoke_without_command=True)
def demo(
    context: typer.Context,
    for_s: Annotated[
        float | None, typer.Option("--for", metavar="SECONDS", help="End by itself after so long.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the figures as JSON into this file.")] = None,
    source: Annotated[
        str, typer.Option(help="Your own camera: rtsp://…, a webcam's number, a video, a folder.")
    ] = "",
    folder: Annotated[
        Path, typer.Option(help="Where the demo keeps everything; what is there is replaced.")
    ] = FOLDER,
) -> None:
    """Start everything on this machine and watch photos being answered tier by tier. Ctrl-C ends it."""
    if context.invoked_subcommand is not None:
        return
    if not source:
        photo_folder()
    console = Console(highlight=False)
    asked = Plan(folder.absolute(), for_s, source)
    view = View()
    lively = console.is_terminal

    def starting(news: News) -> None:
        if news.event in (UpEvent.READY, UpEvent.SLOW, UpEvent.DIED, UpEvent.GAVE_UP):
            text = f"{news.part:<8} {escape(news.text)}" if news.part else escape(news.text)
            mark = "[green]✓[/]" if news.event is UpEvent.READY else "[yellow]…[/]"
            view.starting(f"{mark} {text}")
            if not lively:
                console.print(f"{mark} {text}", soft_wrap=True)

    running = Demo(asked, settings_for(asked), starting)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: running.end())

    def heard(told: Result) -> None:
        view.hear(told)
        if not lively and (text := plain(told)):
            console.print(escape(text), soft_wrap=True)

    console.print("starting brokers and roles on this machine: two brokers, six roles")
    try:
        with _screen(view, console) if lively else contextlib.nullcontext():
            running.start()
            view.watch(running)
            running.run(heard)
        told = running.report()
    finally:
        running.stop()
    if report is not None:
        report.write_bytes(msgspec.json.format(msgspec.json.encode(told)))
    console.print(ending(running, told), soft_wrap=True)
    if told.lost or told.duplicated or told.person_pictures_that_left:
        raise typer.Exit(exit_codes.FAILED)


def _screen(view: View, console: Console) -> Live:
    return Live(get_renderable=view.render, console=console, refresh_per_second=REDRAWS_PER_S, transient=True)
