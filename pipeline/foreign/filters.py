"""MQTT topic filters of other people's sensors, and the names that their topics give to devices and streams.

>>> wild_levels("zigbee2mqtt/+/+", "zigbee2mqtt/Living_Room/temperature")
('Living_Room', 'temperature')
>>> as_name("Living_Room"), as_name("0x00158D"), as_name("Küche/Fenster")
('living_room', '0x00158d', 'kuche-fenster')
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from itertools import zip_longest
from typing import Final

from pipeline import topics

NAME_MAX_CHARS: Final = 63
TOPIC_MAX_BYTES: Final = 65_535

_OURS: Final = f"{topics.ROOT}/#"
_OTHER: Final = re.compile(r"[^a-z0-9_-]+")


def problem(filter: str) -> str | None:
    """Return why no stream can listen on this topic; None if it can."""
    levels = filter.split("/")
    if filter.startswith("$"):
        return 'topics that begin with "$" belong to the broker'
    if len(filter.encode()) > TOPIC_MAX_BYTES or not filter.isprintable():
        return "it is no topic: use printable characters, at most 65535 bytes"
    if "#" in filter and (levels.index("#") if "#" in levels else -1) != len(levels) - 1:
        return '"#" stands alone, as the last level'
    if any("+" in level and level != "+" for level in levels):
        return '"+" stands for a whole level, as in zigbee2mqtt/+'
    if overlap(filter, _OURS):
        return f"it would also match Tierwise's own topics ({_OURS}); begin with the sensors' own first level"
    return None


def wildcards(filter: str) -> int:
    """Return for how many names the wildcards of a filter can stand at least; `#` counts for two."""
    levels = filter.split("/")
    return levels.count("+") + 2 * levels.count("#")


def overlap(first: str, second: str) -> bool:
    """Return whether a topic can match both filters."""
    for a, b in zip_longest(first.split("/"), second.split("/")):
        if a == "#" or b == "#":
            return True
        if a is None or b is None or (a != b and "+" not in (a, b)):
            return False
    return True


def covers(wide: str, narrow: str) -> bool:
    """Return whether every topic that matches `narrow` matches `wide`, too."""
    for a, b in zip_longest(wide.split("/"), narrow.split("/")):
        if a == "#":
            return True
        if a is None or b is None or b == "#" or (a not in ("+", b)):
            return False
    return True


def fewest(filters: Sequence[str]) -> list[str]:
    """Return the filters that no other one covers: some brokers deliver a message once for each filter."""
    known = dict.fromkeys(filters)
    return [each for each in known if not any(other != each and covers(other, each) for other in known)]


def wild_levels(filter: str, topic: str) -> tuple[str, ...] | None:
    """Return the levels of a topic that the wildcards stand for, or None if the topic does not match."""
    levels = topic.split("/")
    parts = filter.split("/")
    found: list[str] = []
    for at, part in enumerate(parts):
        if part == "#":
            return (*found, *levels[at:])
        if at >= len(levels) or part not in ("+", levels[at]):
            return None
        if part == "+":
            found.append(levels[at])
    return tuple(found) if len(levels) == len(parts) else None


def as_name(text: str) -> str:
    """Return the name of a device or stream for a text from outside. Equal texts have equal names.

    Letters become small and lose their accents; other characters become `-`. A text of which nothing is left, such as
    one in another script, becomes a digest.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().casefold()
    name = _OTHER.sub("-", plain.replace("/", "-")).strip("-_")[:NAME_MAX_CHARS]
    if topics.is_name(name):
        return name
    return f"{name}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}".lstrip("-")[
        :NAME_MAX_CHARS
    ]
