"""`tierwise publish PHOTO|DIR|VALUE`: as a camera or a sensor would over MQTT, and then see it answered.

$ tierwise publish cat.jpg
cat.jpg: committed as 0193f0b8-…
  device  kingdom  animal                               0.97     12 ms  public       → edge   ...
  edge    family   Felidae (cats)                       0.93     41 ms  public       → cloud  ...
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from agents.cli.options import AsJson, SettingsFile
from agents.cli.tables import line_width, text_console
from agents.client.answer_text import line, wording
from agents.client.edge_reader import standing_answer
from agents.client.publishing import Capture, Publishing
from agents.client.site_client import ANSWERED_WITHIN_S, SiteClient, connect, reading
from agents.client.window import DeliveryState, replies_to
from agents.role import exit_codes
from agents.role.dead_letters import refusal_of
from models.vision.clip_files import read_picture
from models.vision.photo_files import PICTURE_SUFFIXES
from pipeline import topics
from pipeline.errors import Rejected, Retry, Stop
from pipeline.messages import FRAME_MAX_BYTES, Result, Task
from pipeline.settings.settings import Settings
from pipeline.units import convert

NOTE_AFTER_S: Final = 10.0
"""After so long without an acknowledgement, print a hint."""

FOLDER_WIDE: Final = 145
"""A terminal of this width shows the whole `answer_text.line` of a photo."""

ACKNOWLEDGED_WITHIN_S: Final = 60.0
"""A device agent that restarts is back well before; after that the command ends with a message."""


def publish(
    what: Annotated[
        str, typer.Argument(metavar="PHOTO|DIR|VALUE", help="A JPEG or PNG, a video, a folder of them, or a number.")
    ],
    stream: Annotated[
        str, typer.Option(help="[SITE/]DEVICE/STREAM; otherwise the first fitting one of the settings.")
    ] = "",
    unit: Annotated[str, typer.Option(help="Of a value: Cel, %RH, lx, ppm, W, ...")] = "",
    as_json: AsJson = False,
    settings: SettingsFile = None,
) -> None:
    """Publish a photo, a folder of photos or a reading; repeat it until it is acknowledged; show the answers."""
    loaded = Settings.load(settings)
    captures = _captures(what, stream, unit, loaded)
    printer = _Json() if as_json else _Folder(len(captures)) if len(captures) > 1 else _Single()
    site_name, device = captures[0].topic.split("/")[2:4]
    with printer:
        for capture in captures:
            if capture.state is DeliveryState.REFUSED:
                printer.show(capture, None)
        if any(capture.state is DeliveryState.WAITING for capture in captures):
            with connect(loaded, "publish", replies_to(site_name, device)) as site:
                _publish(site, Publishing(captures, partial(standing_answer, loaded.data_dir)), printer)
    if any(capture.state is DeliveryState.REFUSED for capture in captures):
        raise typer.Exit(exit_codes.STOP)


# --- what to publish -------------------------------------------------------------------------------------------


def _captures(what: str, stream: str, unit: str, settings: Settings) -> list[Capture]:
    path = Path(what)
    if path.is_dir():
        photos = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
        if not photos:
            raise Stop(f"{path}: no photo in this folder; photos end in {', '.join(sorted(PICTURE_SUFFIXES))}")
    elif path.exists():
        photos = [path]
    else:
        return [_reading(what, stream, unit, settings)]
    site, device, name = _stream(stream, settings, takes_readings=False, unit="")
    topic = topics.frame(site, device, name)
    return [_photo(photo, topic) for photo in photos]


def _photo(photo: Path, topic: str) -> Capture:
    """Return a photo to publish; one that cannot be published is refused by its name, and the others go on."""
    data = b""
    try:
        data = read_picture(photo)
        if len(data) <= FRAME_MAX_BYTES:
            return Capture(photo.name, topic, data)
        error = Rejected("image-too-large", f"a frame has at most {FRAME_MAX_BYTES} bytes: save it smaller")
    except OSError as problem:
        error = Rejected("unreadable", f"it cannot be read: {problem.strerror}")
    except Rejected as problem:
        error = problem
    refused = refusal_of(error, topic, data, time.time())
    return Capture(photo.name, topic, b"", state=DeliveryState.REFUSED, refusal=refused)


def _reading(what: str, stream: str, unit: str, settings: Settings) -> Capture:
    try:
        value = float(what)
    except ValueError:
        raise Stop(f"{what}: no such file or folder, and not a number") from None
    site, device, name = _stream(stream, settings, takes_readings=True, unit=unit)
    return reading(site, device, name, value, unit)


def _stream(stream: str, settings: Settings, *, takes_readings: bool, unit: str) -> tuple[str, str, str]:
    """Return the site, device and stream asked for, or the first stream of the settings that takes such a capture."""
    if not stream:
        stream = next(
            (
                source
                for source, asked in settings.named_streams.items()
                if (asked.task is not Task.WILDLIFE) == takes_readings
                and (not unit or (asked.unit and convert(0.0, unit, asked.unit) is not None))
            ),
            "",
        )
        if not stream:
            raise Stop("the settings name no stream that takes this: name one with --stream DEVICE/STREAM")
    parts = stream.split("/")
    if len(parts) == 2:
        parts.insert(0, settings.site)
    if len(parts) != 3 or not all(map(topics.is_name, parts)):
        raise Stop(f"--stream {stream}: write DEVICE/STREAM or SITE/DEVICE/STREAM, names of a-z, 0-9, - and _")
    return parts[0], parts[1], parts[2]


# --- until it is answered --------------------------------------------------------------------------------------


def _publish(site: SiteClient, publishing: Publishing, printer: _Printer) -> None:
    """Publish and print, until everything is answered or the patience is over."""
    progressed_s = began_s = time.monotonic()
    noted = False
    count = len(publishing.deliveries)
    for news in site.deliver(publishing):
        for capture, result in news:
            progressed_s = time.monotonic()
            printer.show(capture, result)
        waited_s = time.monotonic() - progressed_s
        if not noted and publishing.accepted == 0 and time.monotonic() - began_s > NOTE_AFTER_S:
            noted = True
            printer.note(site.problem or "no device agent acknowledges yet: is one running? See `tierwise health`")
        if publishing.accepted == count and waited_s > ANSWERED_WITHIN_S:
            if all(capture.repeat for capture in publishing.deliveries if capture.answer is None):
                printer.note("it was published before; the machine of the edge knows its answer")
            else:
                printer.note("an answer is still pending; `tierwise watch` shows it when it comes")
            return
        if publishing.accepted < count and waited_s > ACKNOWLEDGED_WITHIN_S:
            raise Retry(
                f"{publishing.accepted} of {count} acknowledged, then no acknowledgement for "
                f"{ACKNOWLEDGED_WITHIN_S:.0f} s: is a device agent running? See `tierwise health`"
            )


# --- printing --------------------------------------------------------------------------------------------------


class _Printer:
    """Prints what happens to captures; a context, so that a progress bar ends with it."""

    def __init__(self) -> None:
        self.console = text_console()
        self.errors = text_console(stderr=True)

    def __enter__(self) -> _Printer:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: only a progress bar has to end."""

    def show(self, capture: Capture, result: Result | None) -> None:
        """Print that a capture was acknowledged or refused (no result), or answered."""

    def note(self, text: str) -> None:
        self.errors.print(f"[yellow]{escape(text)}[/]")

    def refused(self, capture: Capture) -> None:
        if (refusal := capture.refusal) is not None:
            self.errors.print(f"[red]{escape(capture.name)}: refused ({refusal.reason}): {escape(refusal.detail)}[/]")


class _Single(_Printer):
    def show(self, capture: Capture, result: Result | None) -> None:
        if result is not None:
            self.console.print(f"  {escape(line(result, line_width(self.console)))}")
            if not result.pending and result.reason:
                self.console.print(f"  [dim]{escape(result.reason)}[/]")
        elif capture.state is DeliveryState.REFUSED:
            self.refused(capture)
        else:
            before = " before" if capture.repeat else ""
            self.console.print(f"{escape(capture.name)}: committed{before} as {capture.event}")


class _Folder(_Printer):
    """A bar while it runs; a line for each photo when its last answer is there."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._bar = Progress(
            TextColumn("answered"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console if self.console.is_terminal else self.errors,
            transient=True,
        )
        self._task = self._bar.add_task("", total=count)

    def __enter__(self) -> _Printer:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, capture: Capture, result: Result | None) -> None:
        if capture.state is DeliveryState.REFUSED:
            self.refused(capture)
        elif capture.state is DeliveryState.DONE and result is not None and result is capture.answer:
            self.console.print(escape(_photo_line(capture.name, result, line_width(self.console))))
        else:
            return
        self._bar.advance(self._task)


class _Json(_Printer):
    def show(self, capture: Capture, result: Result | None) -> None:
        fields: dict[str, Any] = {"file": capture.name}
        if result is not None:
            fields["result"] = result
        elif capture.refusal is not None:
            fields["refused"] = capture.refusal
        else:
            fields["event"] = capture.event
            if capture.repeat:
                fields["repeat"] = True
        print(msgspec.json.encode(fields).decode(), flush=True)


def _photo_line(name: str, result: Result, width: int) -> str:
    if width < FOLDER_WIDE:
        return f"{name[:24]:<24} {wording(result)[:33]:<33} {result.probability:4.2f} {result.privacy}"
    return f"{name:<28} {line(result, width)}"
