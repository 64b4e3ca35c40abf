"""What `tierwise publish` still has to do: what to publish now, and what an arriving message means. No I/O.

Each item is published, and published again until the device agent said on its ack topic that it committed it; from
then on its answers belong to it. A frame is recognised by its SHA-256, a reading by its own id::

    WAITING ──(published, again each REPEAT_AFTER_S)──> WAITING ──(Ack)──> ANSWERING ──(pending: null)──> DONE
                                                           └───(Refusal)──> REFUSED
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from pipeline import topics
from pipeline.messages import Ack, Malformed, Refusal, Result, decode

REPEAT_AFTER_S: Final = 5.0
"""An acknowledged commit takes milliseconds; after this long the message or its acknowledgement was lost."""

WINDOW: Final = 8
"""Items under way at once: enough to keep a device busy, few enough not to fill a broker."""

EARLY_MAX: Final = 1000
"""Answers kept for events that no Ack has named yet: an answer may overtake it."""


class State(enum.Enum):
    WAITING = enum.auto()
    ANSWERING = enum.auto()
    DONE = enum.auto()
    REFUSED = enum.auto()


@dataclass(slots=True)
class Item:
    """One thing to publish, and how far it got."""

    name: str
    """For the person: a file's name, or the value."""
    topic: str
    payload: bytes
    id: str = ""
    """The reading's own id; empty: the device makes one."""
    state: State = State.WAITING
    published_s: float | None = None
    event: str = ""
    answer: Result | None = None
    """The highest revision so far."""
    revisions: set[int] = field(default_factory=set)
    refusal: Refusal | None = None
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        self.sha256 = hashlib.sha256(self.payload).hexdigest()


class Publishing:
    """The state of all items. `hear` returns the items that a message changed, with the answer it brought, if any."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = list(items)
        self._early: dict[str, list[Result]] = {}

    def to_publish(self, now_s: float) -> list[Item]:
        """What to publish now, in order."""
        waiting = [item for item in self.items if item.state is State.WAITING][:WINDOW]
        return [
            item for item in waiting if item.published_s is None or now_s - item.published_s >= REPEAT_AFTER_S
        ]

    def acknowledged(self) -> int:
        return sum(item.state is not State.WAITING for item in self.items)

    def is_done(self) -> bool:
        return all(item.state in (State.DONE, State.REFUSED) for item in self.items)

    def hear(self, topic: str, payload: bytes) -> list[tuple[Item, Result | None]]:
        """Take one message in. What is not of our own form is another release's business and is left alone."""
        parsed = topics.parse(topic)
        try:
            match parsed.channel if parsed else "":
                case "ack":
                    return self._acknowledge(decode(Ack, payload))
                case "rejected":
                    return self._refuse(decode(Refusal, payload))
                case "result" | "private":
                    return self._answer(decode(Result, payload))
        except Malformed:
            pass
        return []

    def _acknowledge(self, ack: Ack) -> list[tuple[Item, Result | None]]:
        item = self._find(ack.sha256, ack.ids)
        if item is None:
            return []
        item.state, item.event = State.ANSWERING, ack.ids[0]
        early = self._early.pop(item.event, [])
        return [(item, None), *(found for result in early for found in self._answer(result))]

    def _refuse(self, refusal: Refusal) -> list[tuple[Item, Result | None]]:
        item = self._find(refusal.sha256, ())
        if item is None:
            return []
        item.state, item.refusal = State.REFUSED, refusal
        return [(item, None)]

    def _answer(self, result: Result) -> list[tuple[Item, Result | None]]:
        item = next((item for item in self.items if item.event == result.event), None)
        if item is None:
            if len(self._early) < EARLY_MAX:
                self._early.setdefault(result.event, []).append(result)
            return []
        if result.revision in item.revisions:
            return []
        item.revisions.add(result.revision)
        if (
            item.answer is None or item.answer.revision < result.revision
        ):  # tiers' answers may overtake each other
            item.answer = result
            item.state = State.ANSWERING if result.pending else State.DONE
        return [(item, result)]

    def _find(self, sha256: str, ids: Iterable[str]) -> Item | None:
        """The first item that still waits for this acknowledgement: equal files are several events."""
        return next(
            (
                item
                for item in self.items
                if item.state is State.WAITING
                and item.published_s is not None
                and (item.id in ids if item.id and ids else item.sha256 == sha256)
            ),
            None,
        )
