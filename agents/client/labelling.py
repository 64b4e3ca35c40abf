"""What a command that labels still has to do: what to publish now, and what an arriving message means.

Each label is published, and published again until the edge said on the device's ack topic that it is in, or on its
rejected topic why it is not; a label is recognised by its SHA-256. The answer that it changed comes before the word::

    WAITING ──(published, again each REPEAT_AFTER_S)──> WAITING ──(Ack)──> TAKEN
                                                           └───(Refusal)──> REFUSED
"""

from __future__ import annotations

import enum
import getpass
import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from agents.client.connection import Inbox
from pipeline import clock, messages, topics
from pipeline.errors import Retry
from pipeline.messages import Ack, Label, Malformed, Refusal, Result, Tier
from pipeline.mqtt import Connection
from pipeline.privacy import gate

REPEAT_AFTER_S: Final = 5.0
"""A label is dealt with in milliseconds; after so long it, or the word about it, was lost."""

WINDOW: Final = 50
"""Labels under way at once."""

WITHIN_S: Final = 45.0
"""Longer than the edge waits for an event that its label has overtaken."""

TICK_S: Final = 0.2


class State(enum.Enum):
    WAITING = enum.auto()
    TAKEN = enum.auto()
    REFUSED = enum.auto()


@dataclass(slots=True)
class Given:
    """One label on its way."""

    name: str
    """For the person: the event, or the line of a file."""
    label: Label
    topic: str
    state: State = State.WAITING
    published_s: float | None = None
    answer: Result | None = None
    """What is told of its event since; None: the label changed nothing."""
    refusal: Refusal | None = None
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        self.sha256 = hashlib.sha256(messages.encode(self.label)).hexdigest()


class Labelling:
    """The state of all labels."""

    def __init__(self, given: Sequence[Given]) -> None:
        self.given = list(given)
        self._by_digest: dict[str, list[Given]] = {}
        for each in given:
            self._by_digest.setdefault(each.sha256, []).append(each)
        self._answers: dict[str, Result] = {}

    def to_publish(self, now_s: float) -> list[Given]:
        """What to publish now, in order."""
        waiting = [each for each in self.given if each.state is State.WAITING][:WINDOW]
        return [
            each for each in waiting if each.published_s is None or now_s - each.published_s >= REPEAT_AFTER_S
        ]

    def is_done(self) -> bool:
        return all(each.state is not State.WAITING for each in self.given)

    def hear(self, topic: str, payload: bytes) -> list[Given]:
        """Take one message in, and return the labels about which it is the edge's word."""
        parsed = topics.parse(topic)
        try:
            match parsed.channel if parsed else "":
                case "ack":
                    return self._settle(messages.decode(Ack, payload).sha256, State.TAKEN)
                case "rejected":
                    refusal = messages.decode(Refusal, payload)
                    return self._settle(refusal.sha256, State.REFUSED, refusal)
                case "result" | "private":
                    answer = messages.decode(Result, payload)
                    known = self._answers.get(answer.event)
                    if known is None or known.revision < answer.revision:
                        self._answers[answer.event] = answer
        except Malformed:
            pass  # another release's, or anybody's
        return []

    def _settle(self, digest: str, state: State, refusal: Refusal | None = None) -> list[Given]:
        settled = [each for each in self._by_digest.get(digest, ()) if each.state is State.WAITING]
        for each in settled:
            each.state, each.refusal = state, refusal
            each.answer = self._answers.get(each.label.event)
        return settled


def subscriptions(site: str, devices: Iterable[str]) -> list[str]:
    """What tells how labels of these devices' events fare."""
    found = []
    for device in dict.fromkeys(devices):
        answers = [topic for tier in Tier for topic in topics.answers_of(site, device, tier)]
        found += [topics.ack(site, device), topics.rejected(site, device), *answers]
    return found


def drive(labelling: Labelling, connection: Connection, inbox: Inbox, tell: Callable[[Given], None]) -> None:
    """Publish and listen until the edge had its word about each label.

    Raises
    ------
    Retry
        It says nothing for too long.
    """
    progressed_s = time.monotonic()
    while not labelling.is_done():
        now_s = time.monotonic()
        for each in labelling.to_publish(now_s):
            try:
                connection.publish(gate.clear(each.label, each.topic, to=Tier.EDGE))
            except Retry:
                break  # connecting again, or the broker is slow: the next round tries again
            each.published_s = now_s
        for message in inbox.take(TICK_S):
            for each in labelling.hear(message.topic, message.payload):
                progressed_s = time.monotonic()
                tell(each)
        if time.monotonic() - progressed_s > WITHIN_S:
            left = sum(each.state is State.WAITING for each in labelling.given)
            raise Retry(
                f"no word from the edge for {WITHIN_S:.0f} s about {left} of {len(labelling.given)} labels: is one "
                "running? See `tierwise health`; it takes what was published once it is back"
            )


def whoever(by: str | None) -> str:
    """Who labels: as told, otherwise who is logged in here."""
    if by is not None:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return ""


def now_text(ago_s: float = 0.0) -> str:
    """The time that a label carries: repeats of it say the same."""
    return clock.rfc3339(time.time() - ago_s)
