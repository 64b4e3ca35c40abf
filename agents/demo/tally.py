"""What the demo counts, from the outside: only what any MQTT client of the site could see. No I/O.

An event is `lost` when the device agent acknowledged it and no answer about it came; `duplicated` when one payload was
taken for two events. Both must be 0, and the numbers say so or not.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from pipeline import topics
from pipeline.messages import Ack, Event, Malformed, Report, Result, SightingReport, Tier, decode


class Percentiles(msgspec.Struct, frozen=True):
    """Of a tier's answers, from the event's receipt by the device agent."""

    p50: float
    p99: float


@dataclass(slots=True)
class Tally:
    """Fed with every message of the site."""

    published: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each payload that was published, and its stream (``device/stream``)."""
    events: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Acknowledged events by their payload's SHA-256."""
    answers: dict[str, dict[Tier, Result]] = field(default_factory=lambda: defaultdict(dict))
    """The newest answer of each tier, by event."""
    sightings: dict[str, SightingReport] = field(default_factory=dict)
    bodies: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Events that left their device with a picture or a vector, by stream."""

    def publish(self, sha256: str, stream: str) -> None:
        self.published[sha256] = stream

    def hear(self, topic: str, payload: bytes) -> Result | SightingReport | None:
        """Take in one message; returns what a person may want to see of it."""
        parsed = topics.parse(topic)
        try:
            match parsed and parsed.channel:
                case "ack":
                    ack = decode(Ack, payload)
                    self.events[ack.sha256].update(ack.ids)
                case "event":
                    event = decode(Event, payload)
                    if event.body is not None and not isinstance(event.body, Report):
                        self.bodies[event.result.source.partition("/")[2]] += 1
                case "result" | "private":
                    result = decode(Result, payload)
                    known = self.answers[result.event].get(result.tier)
                    if known is None or known.revision < result.revision:
                        self.answers[result.event][result.tier] = result
                        return result
                case "sighting":
                    report = decode(SightingReport, payload)
                    self.sightings[report.sighting] = report
                    return report
                case _:
                    pass
        except Malformed:
            return None
        return None

    @property
    def acknowledged(self) -> int:
        return sum(1 for sha256 in self.published if self.events.get(sha256))

    @property
    def lost(self) -> int:
        ours = (self.events.get(sha256, set()) for sha256 in self.published)
        return sum(1 for ids in ours for event in ids if event not in self.answers)

    @property
    def duplicated(self) -> int:
        return sum(max(0, len(self.events.get(sha256, ())) - 1) for sha256 in self.published)

    @property
    def is_settled(self) -> bool:
        """Whether everything published is acknowledged and answered, and no answer is pending."""
        return (
            self.acknowledged == len(self.published)
            and not self.lost
            and not any(self.last(event).pending for event in self.answers)
        )

    def last(self, event: str) -> Result:
        """The answer of the highest revision about an event."""
        return max(self.answers[event].values(), key=lambda result: result.revision)

    def answered(self) -> dict[str, int]:
        """How many events each tier answered."""
        return {tier.value: sum(tier in answers for answers in self.answers.values()) for tier in Tier}

    def latency_ms(self) -> dict[str, Percentiles]:
        """Of frames, by tier: readings of the past were received all at once, and tell nothing of a camera's day."""
        frames = [answers for answers in self.answers.values() if any(r.sighting for r in answers.values())]
        return {
            tier.value: percentiles([answers[tier].latency_ms for answers in frames if tier in answers])
            for tier in Tier
        }


def percentiles(values: Iterable[float]) -> Percentiles:
    """Nearest-rank percentiles; 0 where there is no value.

    >>> percentiles([1.0, 2.0, 3.0, 100.0])
    Percentiles(p50=2.0, p99=100.0)
    """
    ordered = sorted(values)
    if not ordered:
        return Percentiles(0.0, 0.0)
    return Percentiles(*(ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.99)))
