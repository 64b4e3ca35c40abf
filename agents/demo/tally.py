"""The demo's figures, counted from the messages that any MQTT client of the site can see. No I/O.

An event is `lost` when the device agent acknowledged it and no answer came; `duplicated` when one payload became two
events. Both must be 0.
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Iterable

import msgspec

from pipeline import topics
from pipeline.messages import Ack, Event, Malformed, Report, Result, SightingReport, Tier, decode


class Percentiles(msgspec.Struct, frozen=True):
    """Latency of a tier's answers in milliseconds, from the event's receipt by the device agent."""

    p50: float
    p99: float


class TrafficTally:
    """Counts every message of the site; publishers, listener and screen use it from their own threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._published: dict[str, str] = {}
        """SHA-256 of each payload that was published, and its stream (``device/stream``)."""
        self._events: dict[str, set[str]] = defaultdict(set)
        """Acknowledged events by their payload's SHA-256."""
        self._answers: dict[str, dict[Tier, Result]] = defaultdict(dict)
        """The newest answer of each tier, by event."""
        self._unacknowledged: set[str] = set()
        self._unanswered: set[str] = set()
        """Events that were acknowledged and have no answer yet."""
        self._pending: set[str] = set()
        self._sightings: set[str] = set()
        self._bodies: dict[str, int] = defaultdict(int)
        """Events that left their device with a picture or a vector, by stream."""

    def publish(self, sha256: str, stream: str) -> None:
        """Count a payload that is about to be published."""
        with self._lock:
            self._published[sha256] = stream
            self._unacknowledged.add(sha256)

    def take(self, topic: str, payload: bytes) -> Result | None:
        """Take one message in; return its answer, if it is a new one."""
        parsed = topics.parse(topic)
        if parsed is None:
            return None
        try:
            with self._lock:
                return self._count(parsed, payload)
        except Malformed:
            return None

    def _count(self, parsed: topics.Parsed, payload: bytes) -> Result | None:
        match parsed.channel:
            case "ack":
                ack = decode(Ack, payload)
                self._events[ack.sha256].update(ack.ids)
                self._unacknowledged.discard(ack.sha256)
                self._unanswered.update(event for event in ack.ids if event not in self._answers)
            case "event":
                event = decode(Event, payload)
                if event.body is not None and not isinstance(event.body, Report):
                    self._bodies[event.result.source.partition("/")[2]] += 1
            case "result" | "private":
                return self._answered(decode(Result, payload))
            case "sighting":
                self._sightings.add(decode(SightingReport, payload).sighting)
        return None

    def _answered(self, result: Result) -> Result | None:
        known = self._answers[result.event].get(result.tier)
        if known is not None and known.revision >= result.revision:
            return None
        self._answers[result.event][result.tier] = result
        self._unanswered.discard(result.event)
        if self._last(result.event).pending:
            self._pending.add(result.event)
        else:
            self._pending.discard(result.event)
        return result

    def _last(self, event: str) -> Result:
        return max(self._answers[event].values(), key=lambda result: result.revision)

    # --- figures ---------------------------------------------------------------------------------------------

    @property
    def published(self) -> int:
        """The number of payloads."""
        return len(self._published)

    @property
    def unacknowledged(self) -> int:
        """The number of payloads that no agent acknowledged yet."""
        return len(self._unacknowledged)

    @property
    def unanswered(self) -> int:
        """The number of acknowledged events without an answer: on their way during the run, lost after it."""
        return len(self._unanswered)

    @property
    def sightings(self) -> int:
        """The number of sightings."""
        return len(self._sightings)

    @property
    def is_settled(self) -> bool:
        """Return whether all payloads are acknowledged and answered, and no answer is pending."""
        return not (self._unacknowledged or self._unanswered or self._pending)

    def answers(self, event: str) -> list[Result]:
        """Return the newest answer of each tier about an event, in the order of the tiers."""
        with self._lock:
            return [self._answers[event][tier] for tier in Tier if tier in self._answers[event]]

    def duplicated(self) -> int:
        """Return the number of events beyond one for each payload."""
        with self._lock:
            return sum(max(0, len(self._events[sha256]) - 1) for sha256 in self._published if sha256 in self._events)

    def published_of(self, streams: frozenset[str]) -> int:
        """Return how many payloads were published on these streams."""
        with self._lock:
            return sum(stream in streams for stream in self._published.values())

    def bodies_of(self, streams: frozenset[str]) -> int:
        """Return how many events of these streams left their device with a picture or a vector."""
        with self._lock:
            return sum(count for stream, count in self._bodies.items() if stream in streams)

    def answered(self) -> dict[str, int]:
        """Return how many events each tier answered."""
        with self._lock:
            return {tier.value: sum(tier in answers for answers in self._answers.values()) for tier in Tier}

    def latency_ms(self) -> dict[str, Percentiles]:
        """Return the latency of frames by tier. Readings do not count: those of the past are received all at once."""
        with self._lock:
            frames = [answers for answers in self._answers.values() if any(r.sighting for r in answers.values())]
        return {
            tier.value: percentiles([answers[tier].latency_ms for answers in frames if tier in answers])
            for tier in Tier
        }


def percentiles(values: Iterable[float]) -> Percentiles:
    """Return nearest-rank percentiles; 0 if there is no value.

    >>> percentiles([1.0, 2.0, 3.0, 100.0])
    Percentiles(p50=2.0, p99=100.0)
    """
    ordered = sorted(values)
    if not ordered:
        return Percentiles(0.0, 0.0)
    return Percentiles(*(ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.99)))
