"""The cloud's answers: species from a public feature alone, and what it does with records that are none."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from sample_messages import NOW_S, cloud_model, edge_model, event_id, photo

from agents.cloud.agent import Cloud, build
from models.answering.cloud import species_answer
from models.answering.model_source import FixedModel
from pipeline import clock, messages, records, topics
from pipeline.clock import HandClock
from pipeline.errors import Rejected
from pipeline.kafka import Fetched
from pipeline.messages import Envelope, Feature, Kind, Privacy, Rank, Result, Task, Tier
from pipeline.records import HourlySummary
from pipeline.settings.settings import Settings


def feature(path: tuple[str, ...] = ("animal", "Felidae"), **changes: object) -> Envelope:
    payload = Feature(
        data=edge_model().predict(photo("chelsea.png")).vector.tobytes(),
        sighting=event_id(1),
        wants=Rank.SPECIES,
        revision=2,
        path=path,
        probability=0.8,
        latency_ms=40.0,
    )
    fields: dict[str, object] = {
        "event": event_id(2),
        "kind": Kind.FEATURE,
        "privacy": Privacy.PUBLIC,
        "key": "home/cam1",
        "payload": messages.encode(payload),
        "source": "home/cam1/garden",
        "time": clock.rfc3339(NOW_S),
        "space": edge_model().space,
    }
    return Envelope(**(fields | changes))  # type: ignore[arg-type]


def answer(envelope: Envelope) -> Result:
    return species_answer(FixedModel(cloud_model()), envelope, NOW_S, lambda: NOW_S + 0.002).result


def test_the_answer_carries_the_events_id_and_goes_on_from_the_edges() -> None:
    told = answer(feature())
    assert (told.event, told.sighting, told.source) == (event_id(2), event_id(1), "home/cam1/garden")
    assert (told.tier, told.revision, told.pending, told.task) == (Tier.CLOUD, 3, None, Task.WILDLIFE)
    assert told.path[:2] == ("animal", "Felidae")
    assert (told.privacy, told.model, told.latency_ms) == (Privacy.PUBLIC, cloud_model().name, 42.0)


def test_the_vector_of_a_cat_says_cat() -> None:
    told = answer(feature())
    assert told.rule == "species-named"
    assert told.path == ("animal", "Felidae", "Felis catus")


def test_where_the_cloud_will_not_guess_what_the_edge_knew_stands() -> None:
    """A vector that looks like nothing: every component at its mean."""
    payload = messages.decode(Feature, feature().payload)
    nothing = msgspec.structs.replace(payload, data=np.full(len(payload.data), 128, np.uint8).tobytes())
    told = answer(feature(payload=messages.encode(nothing)))
    assert told.rule == "rolled-up"
    assert told.path == ("animal", "Felidae")
    assert told.probability == 0.8


def test_a_feature_of_another_space_is_refused_and_both_are_named() -> None:
    with pytest.raises(Rejected, match=f"of space old; this cloud answers {cloud_model().space}") as caught:
        answer(feature(space="old"))
    assert caught.value.reason == "other-space"


def test_a_vector_of_another_length_is_refused() -> None:
    payload = msgspec.structs.replace(messages.decode(Feature, feature().payload), data=b"short")
    with pytest.raises(Rejected) as caught:
        answer(feature(payload=messages.encode(payload)))
    assert caught.value.reason == "space-mismatch"


# --- records as they come --------------------------------------------------------------------------------------


class Producer:
    """The boundary: keeps what is delivered."""

    def __init__(self) -> None:
        self.delivered: list[Result] = []

    def deliver(self, cleared: list[object]) -> tuple[()]:
        self.delivered += [messages.decode(Result, record.value) for record in cleared]  # type: ignore[attr-defined]
        return ()


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """Its answers without its connections; the summaries of the past are empty."""
    role = build(Settings(), HandClock(NOW_S))
    role._models = FixedModel(cloud_model())
    role._producer = Producer()  # type: ignore[assignment]
    monkeypatch.setattr("agents.cloud.agent.read_all", lambda _kafka, _topic: {})
    return role


def fetched(envelope: Envelope) -> Fetched:
    record = records.to_record(envelope, topics.ROUTED[Privacy.PUBLIC])
    return Fetched(record.topic, 0, 0, 0, record.key, record.value, record.headers)


def summary(mean: float, hour: str = "2023-11-13T00:00:00.000Z") -> Fetched:
    told = HourlySummary(
        source="home/meter/power",
        hour=hour,
        task=Task.METER,
        unit="W",
        count=60,
        total=60 * mean,
        low=mean,
        high=mean,
        mean=mean,
        revision=1,
    )
    return Fetched(topics.SUMMARIES, 0, 0, 0, b"k", messages.encode(told), ())


def told_by(cloud: Cloud, *batch: Fetched) -> list[Result]:
    cloud._answer_until_delivered(batch, cloud._settings.kafka)
    return cloud._producer.delivered  # type: ignore[attr-defined,no-any-return]


def test_features_and_summaries_of_a_batch_are_answered_in_order(cloud: Cloud) -> None:
    first, second = told_by(cloud, fetched(feature()), summary(200.0))
    assert (first.rank, second.rank) == (Rank.SPECIES, Rank.PATTERN)
    assert second.source == "home/meter/power"
    assert cloud.metrics.value("tierwise_events_received_total", stream="home/cam1/garden", channel="feature") == 1


def test_a_bad_record_is_counted_and_holds_up_nothing(cloud: Cloud) -> None:
    good = fetched(feature())
    broken = [
        good._replace(headers=()),
        good._replace(value=b"\xff"),
        good._replace(value=None),
        fetched(feature(space="old")),
        Fetched(topics.SUMMARIES, 0, 0, 0, b"k", b"{", ()),
        Fetched(topics.SUMMARIES, 0, 0, 0, b"k", None, ()),
        summary(200.0, "nonsense"),
        summary(200.0, "9999-12-31T23:00:00Z"),
        summary(200.0, "2090-01-01T00:00:00Z"),
    ]
    assert len(told_by(cloud, *broken, good)) == 1
    counted = {"privacy-missing": 1, "malformed": 5, "value-missing": 1, "other-space": 1, "time-implausible": 1}
    assert {reason: cloud.metrics.value("tierwise_refused_total", reason=reason) for reason in counted} == counted


def test_the_same_record_again_is_the_same_answer(cloud: Cloud) -> None:
    first, second = told_by(cloud, fetched(feature()), fetched(feature()))
    assert first == second


def test_another_space_is_named_before_the_payload_is_read() -> None:
    with pytest.raises(Rejected) as caught:
        answer(feature(space="old", payload=b"laid out otherwise"))
    assert caught.value.reason == "other-space"
