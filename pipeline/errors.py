"""Errors, named by the reaction that they demand from the code that catches them.

::

    TierwiseError
    ├── Rejected      this input is refused for good: publish the reason on the rejected topic, count it, go on
    │   └── Withheld  the input is good, but the privacy policy lets it go no further
    ├── Retry         the other side is away or busy: keep the records and try again later
    └── Stop          the program cannot go on: show a person what to change, and end (exit code 2)

Errors of libraries become one of these where they enter (`mqtt/`, `kafka/`, `series/influx.py`), so that no loop
needs to know the library underneath.
"""

from __future__ import annotations


class TierwiseError(Exception):
    """Base of all errors that Tierwise raises on purpose."""


class Rejected(TierwiseError):
    """An input is refused and would be refused again: never retry it.

    `reason` is the short kebab-case name in counters and on the rejected topic (``image-too-large``). The message
    names the problem, the place and the remedy.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Withheld(Rejected):
    """The privacy gate holds a record back: it may not travel to the tier that it was addressed to."""

    def __init__(self, message: str) -> None:
        super().__init__("withheld", message)


class Retry(TierwiseError):
    """A part of the system did not answer: keep the record and try again later."""


class Stop(TierwiseError):
    """A person has to change something (a setting, a port, a key); the message names it."""
