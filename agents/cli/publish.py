"""`tierwise publish PHOTO|DIR|VALUE`: as a camera or a sensor would over MQTT, and then see it answered.

$ tierwise publish cat.jpg
cat.jpg: committed as 0193f0b8-…
  device  kingdom  animal                               0.97     12 ms  public       → edge   ...
  edge    family   Felidae (cats)                       0.93     41 ms  public       → cloud  ...
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from agents.cli.options import AsJson, SettingsFile
from agents.client.answer_text import line
from agents.client.connection import Inbox, at_site
from agents.client.publishing import Item, Publishing, State
from agents.role import exit_codes
from pipeline import clock, ids, topics
from pipeline.errors import Rejected, Retry, Stop
from pipeline.messages import FRAME_MAX_BYTES, Result, Task, Tier
from pipeline.mqtt import Connection
from pipeline.privacy.gate import clear_capture
from pipeline.settings.settings import Settings

PHOTO_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png"})

NOTE_AFTER_S: Final = 10.0
"""When nothing was acknowledged by then, say what to look at."""

ACKNOWLEDGED_WITHIN_S: Final = 60.0
"""A device agent that restarts is back well before; then the command ends and says so."""

ANSWERED_WITHIN_S: Final = 60.0
"""Every tier's deadline is far below: an answer that is pending after this has lost its tier for good."""

TICK_S: Final = 0.2


def publish(
    what: Annotated[
        str, typer.Argument(metavar="PHOTO|DIR|VALUE", help="A JPEG or PNG, a folder of them, or a number.")
    ],
    stream: Annotated[
        str, typer.Option(help="[SITE/]DEVICE/STREAM; otherwise the first fitting one of the settings.")
    ] = "",
    unit: Annotated[str, typer.Option(help="Of a value: Cel, %RH, lx, ppm, W, ...")] = "",
    as_json: AsJson = False,
    settings: SettingsFile = None,
) -> None:
    """Publish a photo, a folder of photos or a reading; repeat until it is committed; show its answers as they refine."""
    loaded = Settings.load(settings)
    items = _items(what, stream, unit, loaded)
    teller = _Json() if as_json else _Folder(len(items)) if len(items) > 1 else _Single()
    site, device = items[0].topic.split("/")[2:4]
    with at_site(loaded, "publish", _subscriptions(site, device)) as (connection, inbox), teller:
        publishing = Publishing(items)
        _drive(publishing, connection, inbox, teller)
    if any(item.state is State.REFUSED for item in items):
        raise typer.Exit(exit_codes.STOP)


# --- what to publish -------------------------------------------------------------------------------------------


def _items(what: str, stream: str, unit: str, settings: Settings) -> list[Item]:
    path = Path(what)
    if path.is_dir():
        photos = sorted(p for p in path.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES)
        if not photos:
            raise Stop(f"{path}: no photo in this folder; photos end in {', '.join(sorted(PHOTO_SUFFIXES))}")
    elif path.exists():
        photos = [path]
    else:
        return [_reading(what, stream, unit, settings)]
    site, device, name = _stream(stream, settings, reading=False, unit="")
    topic = topics.frame(site, device, name)
    return [Item(photo.name, topic, _bytes(photo)) for photo in photos]


def _bytes(photo: Path) -> bytes:
    if photo.stat().st_size > FRAME_MAX_BYTES:
        raise Rejected(
            "image-too-large",
            f"{photo}: {photo.stat().st_size} bytes; a frame has at most {FRAME_MAX_BYTES}: save it smaller",
        )
    return photo.read_bytes()


def _reading(what: str, stream: str, unit: str, settings: Settings) -> Item:
    try:
        value = float(what)
    except ValueError:
        raise Stop(f"{what}: no such file or folder, and no number") from None
    site, device, name = _stream(stream, settings, reading=True, unit=unit)
    now_s = time.time()
    event = ids.event_id(now_s)
    body: dict[str, Any] = {"value": value, "time": clock.rfc3339(now_s), "id": event}
    if unit:
        body["unit"] = unit
    return Item(
        f"{what} {unit}".strip(), topics.reading(site, device, name), msgspec.json.encode(body), id=event
    )


def _stream(stream: str, settings: Settings, *, reading: bool, unit: str) -> tuple[str, str, str]:
    """The stream asked for, or the first of the settings that takes such a thing."""
    if not stream:
        stream = next(
            (
                source
                for source, asked in settings.streams.items()
                if (asked.task is not Task.WILDLIFE) == reading and (not unit or asked.unit == unit)
            ),
            "",
        )
        if not stream:
            raise Stop("the settings name no stream that takes this: say which with --stream DEVICE/STREAM")
    parts = stream.split("/")
    if len(parts) == 2:
        parts.insert(0, settings.site)
    if len(parts) != 3 or not all(map(topics.is_name, parts)):
        raise Stop(
            f"--stream {stream}: write DEVICE/STREAM or SITE/DEVICE/STREAM, names of a-z, 0-9, - and _"
        )
    return parts[0], parts[1], parts[2]


def _subscriptions(site: str, device: str) -> list[str]:
    answers = [topic for tier in Tier for topic in topics.answers_of(site, device, tier)]
    return [topics.ack(site, device), topics.rejected(site, device), *answers]


# --- until it is answered --------------------------------------------------------------------------------------


def _drive(publishing: Publishing, connection: Connection, inbox: Inbox, teller: _Teller) -> None:
    """Publish, listen, tell; until all is answered or an end has to be made."""
    progressed_s = began_s = time.monotonic()
    noted = False
    while not publishing.is_done():
        now_s = time.monotonic()
        for item in publishing.to_publish(now_s):
            try:
                connection.publish(clear_capture(item.topic, item.payload))
            except Retry:
                break  # connecting again, or the broker is slow: the next round tries again
            item.published_s = now_s
        for message in inbox.take(TICK_S):
            for item, result in publishing.hear(message.topic, message.payload):
                progressed_s = time.monotonic()
                teller.tell(item, result)
        waited_s = time.monotonic() - progressed_s
        everything_committed = publishing.acknowledged() == len(publishing.items)
        if not noted and publishing.acknowledged() == 0 and time.monotonic() - began_s > NOTE_AFTER_S:
            noted = True
            teller.note(
                connection.problem
                or "no device agent acknowledges yet: is one running? See `tierwise health`"
            )
        if everything_committed and waited_s > ANSWERED_WITHIN_S:
            teller.note("still pending; `tierwise watch` shows what comes later")
            return
        if not everything_committed and waited_s > ACKNOWLEDGED_WITHIN_S:
            raise Retry(
                f"{publishing.acknowledged()} of {len(publishing.items)} committed, then no acknowledgement for "
                f"{ACKNOWLEDGED_WITHIN_S:.0f} s: is a device agent running? See `tierwise health`"
            )


# --- telling ---------------------------------------------------------------------------------------------------


class _Teller:
    """Shows what happens to items; a context, so that a progress bar ends where it should."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self.errors = Console(stderr=True, highlight=False, soft_wrap=True)

    def __enter__(self) -> _Teller:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to put away."""

    def tell(self, item: Item, result: Result | None) -> None:
        """An item was committed or refused (no result), or answered."""

    def note(self, text: str) -> None:
        self.errors.print(f"[yellow]{escape(text)}[/]")

    def refused(self, item: Item) -> None:
        if item.refusal is not None:
            self.errors.print(
                f"[red]{escape(item.name)}: refused ({item.refusal.reason}): {escape(item.refusal.detail)}[/]"
            )


class _Single(_Teller):
    def tell(self, item: Item, result: Result | None) -> None:
        if result is not None:
            self.console.print(f"  {escape(line(result))}")
            if not result.pending and result.reason:
                self.console.print(f"  [dim]{escape(result.reason)}[/]")
        elif item.state is State.REFUSED:
            self.refused(item)
        else:
            self.console.print(f"{escape(item.name)}: committed as {item.event}")


class _Folder(_Teller):
    """A bar while it runs; one line for each photo once its last answer is there."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._bar = Progress(
            TextColumn("answered"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.errors,
        )
        self._task = self._bar.add_task("", total=count)

    def __enter__(self) -> _Teller:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def tell(self, item: Item, result: Result | None) -> None:
        if item.state is State.REFUSED:
            self.refused(item)
        elif item.state is State.DONE and result is not None and result is item.answer:
            self.console.print(f"{escape(item.name):<28} {escape(line(result))}")
        else:
            return
        self._bar.advance(self._task)


class _Json(_Teller):
    def tell(self, item: Item, result: Result | None) -> None:
        if result is not None:
            told: dict[str, Any] = {"file": item.name, "result": result}
        elif item.refusal is not None:
            told = {"file": item.name, "refused": item.refusal}
        else:
            told = {"file": item.name, "event": item.event}
        print(msgspec.json.encode(told).decode(), flush=True)
