"""Samples that the tests of Kafka records and stream processors share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st

from pipeline import clock, records
from pipeline.messages import (
    Envelope,
    Kind,
    Privacy,
    Rank,
    Result,
    SightingReport,
    Summary,
    Task,
    Tier,
    decode,
    encode,
)
from pipeline.stream.delivery import ProducerRecord

NOON_S = 1_777_636_800.0
NOON = clock.rfc3339(NOON_S)

NAMES = st.sampled_from(["home", "barn", "cam1", "room-2", "x_3"])
TEXTS = st.text(st.characters(codec="ascii"), min_size=1, max_size=20)


@st.composite
def _envelopes(draw: st.DrawFn) -> Envelope:
    privacy = draw(st.sampled_from(Privacy))
    common = {
        "event": draw(TEXTS),
        "kind": draw(st.sampled_from(Kind)),
        "privacy": privacy,
        "key": draw(TEXTS),
        "payload": draw(st.binary(max_size=50)),
        "revision": draw(st.integers(1, 999_999_999)),
        "sealed_by": "" if privacy is Privacy.PUBLIC else draw(TEXTS),
    }
    if privacy is not Privacy.USER_PRIVATE:
        common |= {
            "source": "/".join(draw(st.tuples(NAMES, NAMES, NAMES))),
            "time": clock.rfc3339(draw(st.floats(0, 4e9))),
            "space": draw(st.just("") | TEXTS),
        }
    return Envelope(**common)


ENVELOPES = _envelopes()
"""Envelopes as the gate lets them through: what is above public is sealed, what is user-private says nothing."""


class ConsumedRecord(NamedTuple):
    """A record as a consumer hands it out."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def taken(envelope: Envelope, topic: str = "t", offset: int = 0) -> ConsumedRecord:
    record = records.to_record(envelope, topic)
    return ConsumedRecord(topic, 3, offset, round(NOON_S * 1000), record.key, record.value, record.headers)


def envelope(kind: Kind, payload: bytes, source: str = "home/cam1/garden", **more: object) -> Envelope:
    """A public one."""
    site, device, _ = source.split("/")
    return Envelope(
        **{
            "event": "0193",
            "kind": kind,
            "privacy": Privacy.PUBLIC,
            "key": f"{site}/{device}",
            "payload": payload,
            "source": source,
            "time": NOON,
            **more,
        }
    )


def report(
    sighting: str = "s1",
    path: tuple[str, ...] = ("animal", "Felidae"),
    rank: Rank = Rank.FAMILY,
    *,
    source: str = "home/cam1/garden",
    time: str = NOON,
    probability: float = 0.9,
    privacy: Privacy = Privacy.PUBLIC,
) -> SightingReport:
    site, device, stream = source.split("/")
    return SightingReport(
        sighting=sighting,
        time=time,
        until=time,
        site=site,
        device=device,
        stream=stream,
        revision=1,
        rank=rank,
        label=path[-1],
        path=path,
        probability=probability,
        frames=3,
        agree=3,
        privacy=privacy,
        closed=False,
        rule="majority",
        model="lite0@3",
    )


def result(rank: Rank = Rank.SPECIES, task: Task = Task.WILDLIFE, time: str = NOON) -> Result:
    return Result(
        event="0193",
        time=time,
        site="home",
        device="cam1",
        stream="garden",
        sighting="s1",
        task=task,
        tier=Tier.CLOUD,
        revision=3,
        pending=None,
        rank=rank,
        label="Felis catus",
        path=("animal", "Felidae", "Felis catus"),
        probability=0.8,
        privacy=Privacy.PUBLIC,
        rule="deepest",
        reason="",
        model="lite0@3",
        latency_ms=41.0,
    )


def reported(told: SightingReport, offset: int = 0) -> ConsumedRecord:
    """On the results topic."""
    return taken(envelope(Kind.RESULT, encode(told), told.source), "tierwise.results", offset)


def summarised(
    hour: str = "2026-05-01T12:00:00.000Z", revision: int = 1, source: str = "home/room1/co2", **more: float
) -> ConsumedRecord:
    """On the topic of summaries as they come."""
    summary = Summary(
        hour=hour,
        task=Task.OCCUPANCY,
        unit="ppm",
        **{"count": 2, "total": 1000.0, "low": 400.0, "high": 600.0, **more},
        revision=revision,
    )
    return taken(envelope(Kind.SUMMARY, encode(summary), source, revision=revision), "tierwise.summaries.ingest")


# --- what handlers are driven with ---------------------------------------------------------------------------


class Died(Exception):
    pass


class Kafka:
    """Takes what is delivered, keeps the last value of each key; dies when told so."""

    def __init__(self) -> None:
        self.topics: dict[str, list[ProducerRecord]] = {}
        self.dies_at = ""

    async def __call__(self, topic: str, partition: int, records: Sequence[ProducerRecord]) -> None:
        await asyncio.sleep(0)
        if topic == self.dies_at:
            raise Died(topic)
        self.topics.setdefault(topic, []).extend(records)

    def values(self, topic: str, kind: Any) -> list[Any]:
        return [decode(kind, record.value or b"") for record in self.topics.get(topic, [])]


class Table:
    """A Faust table as `batches.store` uses it: a dictionary and the log of its changes."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.log: list[tuple[int, str, Any]] = []
        self.dies = False

    @property
    def changelog_topic(self) -> Table:
        return self

    def get_topic_name(self) -> str:
        return "changelog"

    async def _sent(self, entry: tuple[int, str, Any]) -> None:
        await asyncio.sleep(0)
        if self.dies:
            raise Died("changelog")
        self.log.append(entry)

    def send_changelog(self, partition: int, key: str, value: Any, value_serializer: str | None) -> Any:
        assert (value is None) == (value_serializer == "raw")
        return self._sent((partition, key, value))
