"""Photos and readings on their way to a device agent, and their answers. Decisions only, no I/O.

See `window` for the states: a photo is DONE when no tier may refine its answer any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from agents.client.window import DeliveryState, DeliveryWindow, MessageDelivery
from pipeline.messages import Ack, Refusal, Result
from pipeline.privacy.gate import Cleared, clear_capture

WINDOW: Final = 8
"""Photos under way at once: enough to keep a device busy, few enough not to fill a broker."""

BUSY: Final = "busy"
"""The reason of a refusal for now: the agent asks for the photo again, later."""

EARLY_MAX: Final = 1000
"""Events whose answers are kept although no Ack has named them yet."""


@dataclass(slots=True, eq=False)
class Capture(MessageDelivery):
    """A photo or a reading."""

    id: str = ""
    """Id of the reading. If it is empty, the device makes an id."""
    event: str = ""
    """Id of the event for this photo or reading."""
    repeat: bool = False
    """The agent had committed it before."""
    revisions: set[int] = field(default_factory=set)

    def cleared(self) -> Cleared:
        """Return the capture as the gate lets it out."""
        return clear_capture(self.topic, self.payload)


class Publishing(DeliveryWindow[Capture]):
    """The photos and readings of a command."""

    def __init__(
        self, publications: Sequence[Capture], standing: Callable[[str], Result | None] = lambda _: None
    ) -> None:
        """`standing` returns the answer that an event has; a photo that was published before is not answered again."""
        super().__init__(publications, WINDOW)
        self._standing = standing
        self._early: dict[str, list[Result]] = {}
        """Answers that overtook their Ack, by event."""

    def _accept(self, ack: Ack) -> list[tuple[Capture, Result | None]]:
        found = self._find(ack.sha256, ack.ids)
        if found is None:
            return []
        found.state, found.event, found.repeat = DeliveryState.ACCEPTED, ack.ids[0], ack.repeat
        answers = self._early.pop(found.event, [])
        if ack.repeat and (standing := self._standing(found.event) or self._answer_of(found.event)):
            answers.append(standing)
        return [(found, None), *(news for result in answers for news in self._answered(result))]

    def _answer_of(self, event: str) -> Result | None:
        return next((each.answer for each in self.deliveries if each.event == event and each.answer), None)

    def _refuse(self, refusal: Refusal) -> list[tuple[Capture, Result | None]]:
        found = self._find(refusal.sha256, ())
        if found is None or refusal.reason == BUSY:  # it is published again, as if nobody had answered
            return []
        found.state, found.refusal = DeliveryState.REFUSED, refusal
        return [(found, None)]

    def _answered(self, result: Result) -> list[tuple[Capture, Result | None]]:
        found = [each for each in self.deliveries if each.event == result.event]
        if not found:
            if len(self._early) < EARLY_MAX:
                self._early.setdefault(result.event, []).append(result)
            return []
        news: list[tuple[Capture, Result | None]] = []
        for each in found:  # equal photos are one event
            if result.revision in each.revisions:
                continue
            each.revisions.add(result.revision)
            if each.answer is None or each.answer.revision < result.revision:  # tiers may overtake each other
                each.answer = result
                each.state = DeliveryState.ACCEPTED if result.pending else DeliveryState.DONE
            news.append((each, result))
        return news

    def _find(self, sha256: str, ids: Iterable[str]) -> Capture | None:
        """Return the first that still waits for this acknowledgement: equal photos get one each."""
        return next(
            (
                each
                for each in self.deliveries
                if each.state is DeliveryState.WAITING
                and each.published_s is not None
                and (each.id in ids if each.id and ids else each.sha256 == sha256)
            ),
            None,
        )
