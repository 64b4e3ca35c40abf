"""Messages on their way: published again until the agent acknowledges them. Decisions only, no I/O.

A message is recognised by its SHA-256, a reading by its own id::

    WAITING ──(published, again each REPEAT_AFTER_S)──> WAITING ──(Ack)──> ACCEPTED ──(last answer)──> DONE
                                                           └───(Refusal)──> REFUSED

`publishing.Publishing` is the window of photos and readings, `labelling.Labelling` that of labels.
"""

from __future__ import annotations

import enum
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from pipeline import topics
from pipeline.errors import Retry
from pipeline.messages import Ack, Malformed, Refusal, Result, Tier, decode
from pipeline.privacy.gate import Cleared

REPEAT_AFTER_S: Final = 5.0
"""An agent acknowledges within milliseconds; after this long the message or its acknowledgement was lost."""


class DeliveryState(enum.Enum):
    """States of a message on its way."""

    WAITING = enum.auto()
    ACCEPTED = enum.auto()
    """Acknowledged: nothing will lose it. Answers may still come."""
    DONE = enum.auto()
    REFUSED = enum.auto()


@dataclass(slots=True, eq=False)
class MessageDelivery(ABC):
    """A message to publish, and its state."""

    name: str
    """Name to show: a file's name, a value, an event."""
    topic: str
    payload: bytes
    state: DeliveryState = DeliveryState.WAITING
    published_s: float | None = None
    answer: Result | None = None
    """The highest revision so far."""
    refusal: Refusal | None = None
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        self.sha256 = hashlib.sha256(self.payload).hexdigest()

    @abstractmethod
    def cleared(self) -> Cleared:
        """Return the message as the gate lets it out."""


D = TypeVar("D", bound=MessageDelivery)


class DeliveryWindow(ABC, Generic[D]):
    """All messages of a command. At most `limit` of them wait for their acknowledgement at once."""

    def __init__(self, deliveries: Sequence[D], limit: int) -> None:
        self.deliveries = list(deliveries)
        self._limit = limit

    def due(self, now_s: float) -> list[D]:
        """Return what to publish now, in order."""
        return [
            delivery
            for delivery in self._waiting()[: self._limit]
            if delivery.published_s is None or now_s - delivery.published_s >= REPEAT_AFTER_S
        ]

    def publish_due(self, publish: Callable[[Cleared], object], now_s: float) -> None:
        """Publish what is due; where the broker is away, stop until the next round."""
        for delivery in self.due(now_s):
            try:
                publish(delivery.cleared())
            except Retry:
                return
            delivery.published_s = now_s

    def receive(self, topic: str, payload: bytes) -> list[tuple[D, Result | None]]:
        """Take one message in. Return the deliveries that it changed, each with the answer that it brought, if any.

        A message of another form is of another release, or anybody's: it changes nothing.
        """
        parsed = topics.parse(topic)
        try:
            match parsed.channel if parsed else "":
                case "ack":
                    return self._accept(decode(Ack, payload))
                case "rejected":
                    return self._refuse(decode(Refusal, payload))
                case "result" | "private":
                    return self._answered(decode(Result, payload))
        except Malformed:
            pass
        return []

    @property
    def accepted(self) -> int:
        """Return the number of accepted or refused messages."""
        return len(self.deliveries) - len(self._waiting())

    def is_done(self) -> bool:
        """Return whether every message was refused, or has its last answer."""
        return all(delivery.state in (DeliveryState.DONE, DeliveryState.REFUSED) for delivery in self.deliveries)

    def _waiting(self) -> list[D]:
        return [delivery for delivery in self.deliveries if delivery.state is DeliveryState.WAITING]

    @abstractmethod
    def _accept(self, ack: Ack) -> list[tuple[D, Result | None]]: ...

    @abstractmethod
    def _refuse(self, refusal: Refusal) -> list[tuple[D, Result | None]]: ...

    @abstractmethod
    def _answered(self, result: Result) -> list[tuple[D, Result | None]]: ...


def replies_to(site: str, device: str) -> list[str]:
    """Return the topics on which a device's acknowledgements, refusals and answers come (`+`: every device's).

    >>> replies_to("home", "cam1")[0]
    'tierwise/v1/home/cam1/ack'
    """
    answers = [topic for tier in Tier for topic in topics.answers_of(site, device, tier)]
    return [topics.ack(site, device), topics.rejected(site, device), *answers]
