"""Translate messages on other people's topics into readings and frames of our streams.

A stream of the settings names where it listens (`topic`) and how to read it (`format`, `value`). What it finds becomes
a message of the stream's own topic, and goes through the same checks as if the sensor had published there. Pure::

    zigbee2mqtt/Porch {"temperature":21.5,"humidity":40}
        -> tierwise/v1/home/porch/reading/temperature {"value":21.5,"unit":"Cel"}
        -> tierwise/v1/home/porch/reading/humidity {"value":40.0,"unit":"%RH"}
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from pipeline import states
from pipeline.errors import Rejected
from pipeline.foreign import filters, formats
from pipeline.foreign.formats import Scalar, SensorMessage, Value
from pipeline.messages import Task
from pipeline.settings.patterns import is_pattern
from pipeline.settings.settings import Settings, StreamSettings
from pipeline.topics import Parsed

SECONDS_MAX: Final = 1e11
"""A larger number is a time in milliseconds, microseconds or nanoseconds: seconds reach it in the year 5138."""
_DOTTED_DATE: Final = re.compile(r"(\d{4})\.(\d{2})\.(\d{2})")
NO_TIME_S: Final = 0.0
"""Stands for a time that cannot be read. It is implausible, so the reading is flagged and takes the time of receipt."""


class Feed(NamedTuple):
    """What a message has for one stream."""

    origin: Parsed
    found: bytes | Rejected | None
    """The payload for the stream's own topic; or why there is none; None: the message has no such value."""


class ForeignTopics:
    """The streams of a device agent that listen on other people's topics."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._entries = [
            (key, stream)
            for key, stream in settings.streams.items()
            if stream.topic and (is_pattern(key.split("/")[1]) or self._is_mine(key.split("/")[1]))
        ]

    def subscriptions(self) -> list[str]:
        """Return the topic filters to subscribe to."""
        return filters.fewest([stream.topic for _, stream in self._entries])

    def feeds(self, topic: str, payload: bytes) -> list[Feed]:
        """Return what a message has for each stream that listens there; empty if none does."""
        found = []
        for key, stream in self._entries:
            levels = filters.wild_levels(stream.topic, topic)
            if levels is not None:
                found += [feed for feed in self._read(key, stream, levels, topic, payload) if self._belongs(key, feed)]
        return found

    def _is_mine(self, device: str) -> bool:
        return not self._settings.device.names or device in self._settings.device.names

    def _belongs(self, key: str, feed: Feed) -> bool:
        """Return whether this agent answers for the stream, and no more specific entry says where that listens."""
        entry = self._settings.entry(_source(feed.origin))
        listens_elsewhere = entry is not None and entry != key and bool(self._settings.streams[entry].topic)
        return self._is_mine(feed.origin.device) and not listens_elsewhere

    def _read(
        self, key: str, stream: StreamSettings, levels: tuple[str, ...], topic: str, payload: bytes
    ) -> Iterator[Feed]:
        """Yield what a message has for the streams of one entry."""
        if stream.task is Task.WILDLIFE:
            yield from _feed(_named(key, levels, topic, "frame"), payload)
            return
        try:
            content = formats.read(stream.format, topic, payload, _path(stream), stream.time)
        except Rejected as error:
            named = _named(key, levels, topic, "reading", by_message=bool(stream.format and not stream.value))
            yield from _feed(named, error)
            return
        if content.single:
            found = content.values[0] if content.values else None
            body = self._payload(stream, found, content)
            if _is_own_form(stream) and (body is not None or payload.lstrip()[:1] == b"["):
                body = payload  # with its own id, unit and time, or a SenML pack
            yield from _feed(_named(key, levels, topic, "reading"), body)
            return
        device = _named(key, levels, topic, "reading", by_message=True)
        if device is None:
            return
        pattern, matched = key.split("/")[2], False
        for value in content.values:
            if fnmatchcase(value.name, pattern) and (_is_reading(value.value, stream) or not is_pattern(pattern)):
                matched = True
                yield Feed(device._replace(name=value.name), self._payload(stream, value, content))
        if not matched and not is_pattern(pattern):
            yield Feed(device._replace(name=pattern), None)

    def _payload(self, stream: StreamSettings, found: Value | None, content: SensorMessage) -> bytes | None:
        """Return the reading as a sensor of ours would send it, or None for no value."""
        if found is None or found.value is None:
            return None
        value: Scalar = found.value
        fields: dict[str, object] = {"value": value}
        if isinstance(value, float) and stream.scale != 1.0:
            fields["value"] = float(f"{value * stream.scale:.12g}")
        elif found.unit is not None:
            fields["unit"] = found.unit
        if content.time is not None:
            fields["time"] = seconds_of(content.time, self._settings.zone)
        return json.dumps(fields).encode()


def seconds_of(time: object, zone: dt.tzinfo) -> float:
    """Return the seconds since the epoch of a time as people's devices write it, or `NO_TIME_S` if it is none.

    A number may count seconds, milliseconds, microseconds or nanoseconds. A text without an offset is local time.
    """
    try:
        if isinstance(time, str):
            if not time.replace(".", "", 1).isdecimal():
                moment = dt.datetime.fromisoformat(_DOTTED_DATE.sub(r"\1-\2-\3", time.strip(), count=1))
                return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()
            time = float(time)
        if isinstance(time, bool) or not isinstance(time, int | float) or not math.isfinite(time):
            return NO_TIME_S
        while abs(time) > SECONDS_MAX:
            time /= 1000
        return float(time)
    except (ValueError, OverflowError, OSError):
        return NO_TIME_S


def _is_reading(value: Scalar | None, stream: StreamSettings) -> bool:
    """Return whether a value is a number or a known state. Other texts, as a colour mode, are no sensor's value."""
    return not isinstance(value, str) or states.place(value, stream.states) is not None


def _is_own_form(stream: StreamSettings) -> bool:
    """Return whether messages are read as on our own topics: a number, an object with a value, SenML."""
    return not (stream.format or stream.value or stream.time) and stream.scale == 1.0


def _path(stream: StreamSettings) -> str:
    return stream.value or ("" if stream.format else formats.VALUE)


def _source(origin: Parsed) -> str:
    return f"{origin.site}/{origin.device}/{origin.name}"


def _feed(origin: Parsed | None, found: bytes | Rejected | None) -> Iterator[Feed]:
    if origin is not None:
        yield Feed(origin, found)


def _named(key: str, levels: tuple[str, ...], topic: str, channel: str, *, by_message: bool = False) -> Parsed | None:
    """Return the stream that a message belongs to: the wildcards of its topic fill those of the entry, in order.

    If both device and stream are open, the first level names the device and the others the stream. If only one is
    open, all levels name it. `by_message` leaves the stream open, since the message names it; a stream that no level
    names has the last level of the topic. Returns None if the names do not match the entry's pattern.
    """
    site, device, name = key.split("/")
    left = levels
    if is_pattern(device):
        shared = is_pattern(name) and not by_message
        mine, left = (levels[:1], levels[1:]) if shared else (levels, ())
        found = filters.as_name("/".join(mine))
        if not mine or not fnmatchcase(found, device):
            return None
        device = found
    if is_pattern(name) and not by_message:
        found = filters.as_name("/".join(left) or topic.rpartition("/")[2])
        if not fnmatchcase(found, name):
            return None
        name = found
    return Parsed(site, device, channel, name)
