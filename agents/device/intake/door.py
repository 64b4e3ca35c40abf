"""Put what cameras deliver into the device's inbox: pictures on their stream, reports as readings of their device.

::

    file ──> a picture, a video? ──decodes──> frame of the stream ──┐
              │ no                                                   ├──> inbox, one transaction
              └──> a report? ──> readings of the camera's device ───┘
                     └──no──> refused by its name on the rejected topic

The same bytes on a stream are the same event, however often and by whatever way a camera delivers them.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from agents.device.intake.profiles import name_time
from agents.device.intake.reports import REPORT_MAX_BYTES, time_of, values_of
from agents.device.store import SITE
from agents.role.dead_letters import INTERNAL_ERROR, refusal
from agents.role.telemetry import Metrics
from models.vision import images
from models.vision.capture_time import exif_tags, wall_time_s
from models.vision.clip_files import best_frame
from models.vision.photo_files import CLIP_SUFFIXES
from pipeline import ids, topics
from pipeline.clock import Clock
from pipeline.errors import Rejected, Retry, Stop
from pipeline.settings.settings import Settings
from pipeline.spool import Arrival, Spool

log = structlog.get_logger("intake")

NAME_MAX_CHARS: Final = 120
_PICTURES: Final = (b"\xff\xd8", b"\x89PNG")
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")


class IntakeDoor:
    """The way into the inbox that FTP and mail share. Threads may use it side by side."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        metrics: Metrics,
        clock: Clock,
        seen: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._spool = spool
        self._metrics = metrics
        self._clock = clock
        self._seen = seen

    def deliver(
        self, source: str, name: str, data: bytes, size: int | None = None, *, sent_s: float | None = None
    ) -> Rejected | None:
        """Store a file that a camera delivered; it is on disk when this returns. Return why it is refused, or None.

        Parameters
        ----------
        source
            The camera's stream, ``site/device/stream``.
        name
            The file with its folders, as the camera names it.
        size
            The file's size, where `data` are not all of it because it is too large.
        sent_s
            When the camera sent it, if that is known (UTC seconds): its time, unless the file or its name has one.

        Raises
        ------
        Retry
            The store has no room, or is busy. Nothing is taken: the camera may deliver the file again.
        """
        try:
            if size is not None and size > images.MAX_BYTES:
                raise images.too_large(size)
            arrivals = self._arrivals(source, name, data, sent_s)
        except Rejected as error:
            return self.refuse(error, topics.frame(*source.split("/")), name, data)
        except (Retry, Stop, MemoryError):
            raise
        except OSError as error:
            raise Retry(f"the disk does not take it ({error.strerror})") from None
        except Exception as error:  # a bug that one file reveals ends no connection
            log.exception("a file caused an internal error and is refused", source=source)
            why = Rejected(INTERNAL_ERROR, f"internal error ({type(error).__name__}); please report it with the log")
            return self.refuse(why, topics.frame(*source.split("/")), name, data)
        if self._spool.full or any(receipt.full for receipt in self._spool.receive(arrivals, link="")):
            raise Retry("the store is full")
        self._metrics.received(source, "camera")
        self._seen(source)
        return None

    def refuse(self, error: Rejected, topic: str, name: str, data: bytes) -> Rejected:
        """Refuse a file by its name on the rejected topic, and return the error with that name."""
        shown = "".join(letter if letter.isprintable() else "?" for letter in name)[-NAME_MAX_CHARS:]
        named = Rejected(error.reason, f"{shown}: {error}")
        log.warning("a file is refused", topic=topic, reason=error.reason, error=str(named))
        site, now_s = self._settings.site, self._clock.now()
        with self._spool.transaction() as tx:
            tx.send(refusal(named, topic, data, site=site, hop=SITE, now_s=now_s))
        self._metrics.refused(error.reason)
        if topics.is_frame(topic):
            self._metrics.frame_refused(topics.stream_of(topic))
        return named

    def _arrivals(self, source: str, name: str, data: bytes, sent_s: float | None) -> list[Arrival]:
        """Return what a file becomes. Raises `Rejected`."""
        if Path(name).suffix.lower() in CLIP_SUFFIXES and data:
            with tempfile.NamedTemporaryFile(suffix=Path(name).suffix.lower()) as clip:
                clip.write(data)
                clip.flush()
                return [self._picture(source, name, data, sent_s, best_frame(Path(clip.name)))]
        if data.startswith(_PICTURES) or not data:
            images.decode(data, at_least_px=images.MIN_SIDE_PX)
            return [self._picture(source, name, data, sent_s)]
        text = _text(data)
        if text is None:
            images.inspect(data)  # says what it is not
        readings = self._readings(source, text or "", data, sent_s)
        if not readings:
            raise Rejected("report-unreadable", "neither a picture nor a report with a battery, temperature or signal")
        return readings

    def _picture(
        self, source: str, name: str, data: bytes, sent_s: float | None, frame: bytes | None = None
    ) -> Arrival:
        """Return the event of a picture; `frame` is the picture of a video's `data`."""
        picture = data if frame is None else frame
        event = ids.of_content(wall_time_s(exif_tags(io.BytesIO(picture))), source, hashlib.sha256(data).digest())
        stated_s = name_time(name, self._settings.zone)
        captured_s = sent_s if stated_s is None else stated_s
        return Arrival(topics.frame(*source.split("/")), picture, self._clock.now(), event, captured_at=captured_s)

    def _readings(self, source: str, text: str, data: bytes, sent_s: float | None) -> list[Arrival]:
        site, device, _ = source.split("/")
        now_s, digest = self._clock.now(), hashlib.sha256(data).digest()
        time_s = sent_s if (stated_s := time_of(text, self._settings.zone)) is None else stated_s
        # The same words an hour later are another report, unless the report states its time.
        hour_s = now_s // 3600 * 3600 if time_s is None else time_s
        arrivals = []
        for stream, value, unit in values_of(text):
            reading = {"value": value, "unit": unit} | ({} if time_s is None else {"time": time_s})
            event = ids.of_content(hour_s, f"{site}/{device}/{stream}", digest)
            topic = topics.reading(site, device, stream)
            arrivals.append(Arrival(topic, json.dumps(reading).encode(), now_s, event))
        return arrivals


def _text(data: bytes) -> str | None:
    """Return a small file's text, or None for any other file."""
    if len(data) > REPORT_MAX_BYTES:
        return None
    if data.startswith(_UTF16):
        return data.decode("utf-16", "replace")
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")
