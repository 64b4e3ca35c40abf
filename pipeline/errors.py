"""Errors, named by the reaction they demand of whoever catches them.

::

    TierwiseError
    ├── Rejected      this input is refused for good: say why on the rejected topic, count it, go on
    │   └── Withheld  the input is good, but policy lets it go no further
    ├── Retry         the other side cannot be reached or is busy: keep what you have, try again later
    └── Stop          nothing sensible can be done: tell a person what to change, and end (exit code 2)

Third-party errors become one of these where they enter (`mqtt/`, `kafka/`, `influx.py`), so that no loop
needs to know which library it talks through.
"""

from __future__ import annotations


class TierwiseError(Exception):
    """Base of all errors that Tierwise raises on purpose."""


class Rejected(TierwiseError):
    """This one input is refused and will be refused again: never retry it.

    `reason` is the short kebab-case name that counters and the rejected topic carry (``image-too-large``);
    the message says what, where and what to do.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Withheld(Rejected):
    """The privacy gate keeps a record: it may not travel to the tier that it was meant for."""

    def __init__(self, message: str) -> None:
        super().__init__("withheld", message)


class Retry(TierwiseError):
    """A part that we depend on did not answer: keep the record, try again later."""


class Stop(TierwiseError):
    """A person has to change something (settings, a port, a key); the message says what."""
