"""The states of a stream that sends words: on and off, open and closed, or what the settings name.

A stream's states have numbers from 0 on, in the order of the settings, with the resting state first. Without settings
the usual words are known, as smart homes spell them. Any other word is refused, and not learned as a state of its own:
a misspelled one would become a state, and a text may hold anything.

    >>> place("OPEN")
    KnownState(name='open', number=1)
    >>> place("true", ("closed", "open")), place("Eco", ("off", "eco", "boost")), place("eco")
    (KnownState(name='open', number=1), KnownState(name='eco', number=1), None)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

MAX_CHARS: Final = 64
"""A longer text is no state."""

PAIRS: Final = (
    ("off", "on"),
    ("closed", "open"),
    ("clear", "detected"),
    ("no_motion", "motion"),
    ("dry", "wet"),
    ("no_leak", "leak"),
    ("locked", "unlocked"),
    ("idle", "active"),
    ("not_home", "home"),
    ("vacant", "occupied"),
    ("safe", "unsafe"),
    ("ok", "problem"),
)
"""The resting state and the other one."""

SPELLINGS: Final = {
    **dict.fromkeys(("false", "no", "inactive"), "off"),
    **dict.fromkeys(("true", "yes"), "on"),
    **dict.fromkeys(("close", "shut"), "closed"),
    **dict.fromkeys(("opened",), "open"),
    **dict.fromkeys(("away",), "not_home"),
    **dict.fromkeys(("unoccupied", "empty"), "vacant"),
    **dict.fromkeys(("nomotion", "motion_cleared"), "no_motion"),
    **dict.fromkeys(("motion_detected",), "motion"),
}
"""Other spellings of the words in `PAIRS`, in small letters with `_` for spaces and hyphens."""

_USUAL: Final = {word: (pair, number) for pair in PAIRS for number, word in enumerate(pair)}


class KnownState(NamedTuple):
    """A state and its number."""

    name: str
    number: int


def place(text: str, named: Sequence[str] = ()) -> KnownState | None:
    """Return the state that a text means, of those that the settings name, else of the usual ones; None if of none.

    A stream with two states takes the usual words and 0 and 1 for them, too; with more states, a number is a state's.
    """
    word = _folded(text)
    usual = SPELLINGS.get(word, word)
    for number, name in enumerate(named):
        if _folded(name) in (word, usual):
            return KnownState(name, number)
    pair, number = _USUAL.get(usual, ((), -1))
    if pair and not named:
        return KnownState(pair[number], number)
    if pair and len(named) == 2:
        return KnownState(named[number], number)
    if word.isascii() and word.isdecimal() and len(word) < 4 and int(word) < len(named):
        return KnownState(named[int(word)], int(word))
    return None


def _folded(text: str) -> str:
    return text.strip().casefold().replace(" ", "_").replace("-", "_")
