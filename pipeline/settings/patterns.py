"""Patterns over streams: ``*/temperature`` stands for the temperature of every device.

`*` is any text and `?` any one character, within the name of a device or of a stream. Where several entries match a
stream, the most specific one is in force, alone: keys are never mixed, so a privacy level stands in the entry that a
person reads.

    >>> ranked(("home/*/*", "home/*/temperature", "home/barn/*"), "home/barn/temperature")
    ['home/*/temperature', 'home/barn/*', 'home/*/*']
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

WILD: Final = frozenset("*?")
_PART: Final = re.compile(r"[a-z0-9*?][a-z0-9_*?-]{0,62}")


def is_pattern(key: str) -> bool:
    """Return whether a stream's key or a part of it stands for several names."""
    return not WILD.isdisjoint(key)


def is_part(word: str) -> bool:
    """Return whether a pattern may have this part, as ``barn-*``."""
    return is_pattern(word) and _PART.fullmatch(word) is not None


def matches(pattern: str, source: str) -> bool:
    """Return whether a pattern stands for this stream; both are ``site/device/stream``."""
    parts, names = pattern.split("/"), source.split("/")
    return len(parts) == len(names) and all(map(fnmatchcase, names, parts))


def ranked(keys: Iterable[str], source: str) -> list[str]:
    """Return the keys that match a stream, the most specific first: a plain name, then the one with most letters.

    Of equally specific keys the earlier one comes first.
    """
    found = [key for key in keys if key == source or (is_pattern(key) and matches(key, source))]
    return sorted(found, key=lambda key: (key != source, -sum(letter not in WILD for letter in key)))
