"""The edge tells drift and asks for labels: within the budget, once a sighting, and never about what others may not
see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sample_edge import SampleEdge, sample_edge
from sample_messages import NOW_S, OPEN, edge_model, event, event_id, result, settings

from models.site_learning.drift import LEARNED, USUAL
from pipeline import clock, messages, topics
from pipeline.messages import Ask, Drift, Event, Label, Privacy, Vector
from pipeline.mqtt import Message
from pipeline.privacy import gate
from pipeline.settings.settings import EdgeSettings, StreamSettings

HOUR_S = 3600.0
MIDNIGHT_S = NOW_S - NOW_S % 86_400


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[SampleEdge]:
    with sample_edge(tmp_path, settings(tmp_path, edge=EdgeSettings(asks_a_day=5))) as opened:
        opened.clock.turn(MIDNIGHT_S + 86_400 - NOW_S)
        yield opened


def vector(seed: int, *, shift: int = 0) -> bytes:
    """No animal that anybody knows: near the middle of the space, where no head is sure."""
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(128 + shift, 6, 256), 0, 255).astype(np.uint8).tobytes()


def seen(
    edge: SampleEdge,
    number: int,
    *,
    data: bytes | None = None,
    sighting: int | None = None,
    **changes: object,
) -> Event:
    """A frame of the garden, now."""
    first = event_id(sighting or number)
    answer = result(event_id(number), sighting=first, time=clock.rfc3339(edge.clock.now()), **changes)  # type: ignore[arg-type]
    return event(
        answer,
        sequence=number,
        received_s=edge.clock.now(),
        body=Vector(space=edge_model().space, data=data or vector(number)),
    )


def sighted(edge: SampleEdge, *events: Event) -> None:
    """These sightings come, and are over."""
    for each in events:
        edge.deliver(each)
        edge.clock.turn(100)
        edge.sightings.close_quiet(edge.clock.now())
        edge.drift.request_labels()


def open_requests(edge: SampleEdge) -> list[Ask]:
    """What a program that shows requests to people reads."""
    rows = edge.spool.query("SELECT told FROM asks WHERE settled IS NULL ORDER BY at DESC")
    return [messages.decode(Ask, row) for (row,) in rows]


def asks(edge: SampleEdge) -> list[Ask]:
    return [each for each in edge.take() if isinstance(each, Ask)]


def label(edge: SampleEdge, of: str, label: str | None) -> None:
    payload = messages.encode(Label(event=of, label=label, by="ann"))
    edge.deliver_raw(Message(topics.label("home", "cam1"), payload, False))
    edge.labels.notify_listeners()


@pytest.mark.slow
def test_a_run_of_unsure_answers_leads_to_asks_through_the_day_and_within_the_budget(
    edge: SampleEdge,
) -> None:
    for number in range(1, 97):
        sighted(edge, seen(edge, number))
        edge.clock.turn(HOUR_S / 4 - 100)

    asked = asks(edge)

    assert 3 <= len(asked) <= 5
    assert [ask.budget_left for ask in asked] == [4, 3, 2, 1, 0][: len(asked)]
    assert {ask.rule for ask in asked} == {"unsure-and-new"}
    assert len({ask.event for ask in asked}) == len(asked)


@pytest.mark.slow
def test_the_next_day_has_a_budget_of_its_own(edge: SampleEdge) -> None:
    for number in range(1, 49):
        sighted(edge, seen(edge, number))
        edge.clock.turn(HOUR_S - 100)

    assert 6 <= len(asks(edge)) <= 10


def test_nothing_is_asked_where_people_want_no_questions(tmp_path: Path) -> None:
    with sample_edge(tmp_path, settings(tmp_path, edge=EdgeSettings(asks_a_day=0))) as edge:
        sighted(edge, *(seen(edge, number) for number in range(1, 20)))

        assert asks(edge) == []


def test_of_a_sighting_one_frame_is_asked_about_and_only_once_it_is_over(edge: SampleEdge) -> None:
    frames = [seen(edge, number, sighting=1) for number in range(1, 5)]
    edge.deliver(*frames)
    edge.drift.request_labels()
    assert asks(edge) == []

    edge.clock.turn(100)
    edge.sightings.close_quiet(edge.clock.now())
    edge.drift.request_labels()
    edge.drift.request_labels()

    assert len(asks(edge)) == 1


def test_what_is_like_what_was_asked_is_not_asked_again(edge: SampleEdge) -> None:
    edge.clock.turn(20 * HOUR_S)
    same = vector(1)
    sighted(edge, *(seen(edge, number, data=same) for number in range(1, 20)))

    assert len(asks(edge)) == 1


def test_a_person_found_later_is_asked_about_no_more(edge: SampleEdge) -> None:
    sighted(edge, seen(edge, 1))
    (ask,) = open_requests(edge)

    label(edge, ask.event, "person")
    edge.drift.request_labels()

    assert open_requests(edge) == []
    assert not edge.store.requests.outdated()


def test_a_stream_whose_features_stay_on_the_device_is_not_asked_about(tmp_path: Path) -> None:
    private = StreamSettings(pixels=Privacy.EDGE_PRIVATE, feature=Privacy.USER_PRIVATE, result=Privacy.EDGE_PRIVATE)
    with sample_edge(tmp_path, settings(tmp_path, streams={"home/cam1/garden": private})) as edge:
        levels = msgspec.structs.replace(OPEN, feature=Privacy.USER_PRIVATE)
        sighted(edge, *(msgspec.structs.replace(seen(edge, number), levels=levels) for number in range(1, 9)))

        assert asks(edge) == []


def test_a_label_of_any_frame_settles_the_ask_and_taking_it_back_opens_it_again(edge: SampleEdge) -> None:
    edge.deliver(seen(edge, 1, sighting=1))
    sighted(edge, seen(edge, 2, sighting=1))
    (ask,) = open_requests(edge)
    other = ({event_id(1), event_id(2)} - {ask.event}).pop()

    label(edge, other, "Felis catus")
    assert open_requests(edge) == []

    label(edge, other, None)
    assert open_requests(edge) == [ask]


def test_frames_of_a_broken_camera_are_neither_drift_nor_asked_about(edge: SampleEdge) -> None:
    sighted(edge, *(seen(edge, number, flags=("camera-blurred",)) for number in range(1, 20)))

    assert [each for each in edge.take() if isinstance(each, Ask | Drift)] == []
    assert edge.spool.query("SELECT 1 FROM watches") == []


@pytest.mark.slow
def test_a_stream_that_stays_as_it_is_is_no_drift(edge: SampleEdge) -> None:
    edge.deliver(*(seen(edge, number) for number in range(1, 301)))

    assert [each for each in edge.take() if isinstance(each, Drift)] == []


@pytest.mark.slow
def test_a_stream_that_changed_is_told_once_and_its_share_of_the_asks_rises(edge: SampleEdge) -> None:
    settled = USUAL + LEARNED + 30
    edge.deliver(*(seen(edge, number) for number in range(1, settled)))
    edge.take()

    edge.deliver(*(seen(edge, number, data=vector(number, shift=12)) for number in range(settled, settled + 60)))
    sent = [each for each in edge.take() if isinstance(each, Drift)]

    assert "feature-moved" in {drift.rule for drift in sent}
    assert all(drift.privacy is Privacy.PUBLIC and "requested" in drift.reason for drift in sent)
    assert edge.metrics.value("tierwise_drift_total", stream="home/cam1/garden", rule="feature-moved") == 1.0
    gate.clear(sent[0], topics.drift("home", "cam1"), to=messages.Tier.EDGE)
    edge.clock.turn(20 * HOUR_S)
    sighted(edge, seen(edge, 1000, data=vector(5, shift=-12)))
    assert {ask.rule for ask in asks(edge)} == {"drifting"}


@pytest.mark.slow
def test_drift_goes_on_where_it_was_after_a_restart(tmp_path: Path) -> None:
    half = (USUAL + LEARNED) // 2
    with sample_edge(tmp_path) as edge:
        edge.deliver(*(seen(edge, number) for number in range(1, half)))
    with sample_edge(tmp_path) as edge:
        edge.deliver(*(seen(edge, number) for number in range(half, 2 * half + 40)))
        edge.take()
        edge.deliver(*(seen(edge, number, data=vector(number, shift=12)) for number in range(500, 560)))

        assert "feature-moved" in {each.rule for each in edge.take() if isinstance(each, Drift)}


@pytest.mark.slow
def test_labels_that_contradict_the_models_are_drift(edge: SampleEdge) -> None:
    for number in range(1, 101):
        edge.deliver(seen(edge, number))
        answered = edge.store.answer(event_id(number))
        assert answered is not None
        agrees = number < 60 or number % 4 == 0
        label(
            edge,
            event_id(number),
            "animal" if agrees == (answered.models.path[:1] in ((), ("animal",))) else "plant",
        )

    assert "labels-disagree" in {each.rule for each in edge.take() if isinstance(each, Drift)}
