"""Labels on their way to the edge, and its answers to them. Decisions only, no I/O.

See `window` for the states. The edge publishes the answer that a label changed before it acknowledges the label, so a
label that is acknowledged is DONE.
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from agents.client.window import DeliveryState, DeliveryWindow, MessageDelivery, replies_to
from pipeline import clock, messages, topics
from pipeline.messages import Ack, Label, Refusal, Result, Tier
from pipeline.privacy import gate
from pipeline.privacy.gate import Cleared

WINDOW: Final = 50
"""Labels under way at once."""


@dataclass(slots=True, eq=False, kw_only=True)
class LabelDelivery(MessageDelivery):
    """A label. `answer` is the event's new answer, or None if the label did not change it."""

    label: Label

    @classmethod
    def of(cls, label: Label, site: str, device: str, name: str = "") -> LabelDelivery:
        """Make the delivery of a label about an event of this device; `name` is for the person."""
        return cls(
            name=name or label.event,
            topic=topics.label(site, device),
            payload=messages.encode(label),
            label=label,
        )

    def cleared(self) -> Cleared:
        """Return the label as the gate lets it out."""
        return gate.clear(self.label, self.topic, to=Tier.EDGE)


class Labelling(DeliveryWindow[LabelDelivery]):
    """The labels of a command."""

    def __init__(self, labels: Sequence[LabelDelivery]) -> None:
        super().__init__(labels, WINDOW)
        self._by_digest: dict[str, list[LabelDelivery]] = {}
        for each in labels:
            self._by_digest.setdefault(each.sha256, []).append(each)
        self._answers: dict[str, Result] = {}

    def _accept(self, ack: Ack) -> list[tuple[LabelDelivery, Result | None]]:
        return self._settle(ack.sha256, DeliveryState.DONE)

    def _refuse(self, refusal: Refusal) -> list[tuple[LabelDelivery, Result | None]]:
        return self._settle(refusal.sha256, DeliveryState.REFUSED, refusal)

    def _answered(self, result: Result) -> list[tuple[LabelDelivery, Result | None]]:
        known = self._answers.get(result.event)
        if known is None or known.revision < result.revision:
            self._answers[result.event] = result
        return []

    def _settle(
        self, digest: str, state: DeliveryState, refusal: Refusal | None = None
    ) -> list[tuple[LabelDelivery, Result | None]]:
        """Settle all equal labels: the edge keeps one of them."""
        settled = [each for each in self._by_digest.get(digest, ()) if each.state is DeliveryState.WAITING]
        for each in settled:
            each.state, each.refusal = state, refusal
            each.answer = self._answers.get(each.label.event)
        return [(each, each.answer) for each in settled]


def replies_to_labels(site: str, devices: Iterable[str]) -> list[str]:
    """Return the topics on which the edge answers labels of these devices' events."""
    return [topic for device in dict.fromkeys(devices) for topic in replies_to(site, device)]


def person(by: str | None) -> str:
    """Return the name that a label carries: the given one, otherwise that of who is logged in here."""
    if by is not None:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return ""


def now_text(ago_s: float = 0.0) -> str:
    """Return the time that a label carries; when the label is sent again, it stays the same."""
    return clock.rfc3339(time.time() - ago_s)
