"""What commands read of the edge on this machine: events by a part of their id, label requests, labels."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sample_edge import SampleEdge, sample_edge
from sample_messages import NOW_S, edge_model, event, event_id, photo, result

from agents.client import edge_reader
from pipeline import clock, messages
from pipeline.errors import Rejected
from pipeline.messages import Ask, Label, Privacy, Vector

# --- which event is meant --------------------------------------------------------------------------------------


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[SampleEdge]:
    (tmp_path / "edge").mkdir()
    with sample_edge(tmp_path / "edge") as opened:
        yield opened


@functools.cache
def cat_vector() -> tuple[int, ...]:
    return tuple(edge_model().predict(photo("chelsea.png")).vector.tolist())


def frame(edge: SampleEdge, number: int, sighting: int | None = None) -> None:
    """One of a cat, some clearer than others."""
    noise = np.random.default_rng(number).integers(-number, number + 1, 256)
    data = np.clip(np.array(cat_vector()) + noise, 0, 255).astype(np.uint8).tobytes()
    told = result(event_id(number), sighting=event_id(sighting or number))
    edge.deliver(event(told, sequence=number, body=Vector(space=edge_model().space, data=data)))
    edge.clock.turn(1)


def test_an_event_is_found_by_its_id_a_part_of_it_or_as_the_last(edge: SampleEdge, tmp_path: Path) -> None:
    frame(edge, 1)
    frame(edge, 2)
    with edge_reader.opened(tmp_path) as reader:
        assert reader is not None
        for text in (event_id(1), event_id(1)[-8:], event_id(1)[20:30]):
            assert reader.event(text).event == event_id(1)
        assert reader.event("last").event == event_id(2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (event_id(1)[:8], "event-ambiguous"),
        ("ffff0000", "unknown-event"),
        ("%", "event-invalid"),
        ("", "event-invalid"),
        ("zz'; --", "event-invalid"),
    ],
)
def test_what_names_no_event_or_several_is_refused(edge: SampleEdge, tmp_path: Path, text: str, reason: str) -> None:
    frame(edge, 1)
    frame(edge, 2)
    with edge_reader.opened(tmp_path) as reader, pytest.raises(Rejected) as refused:
        assert reader is not None
        reader.event(text)
    assert refused.value.reason == reason


def test_an_edge_that_told_nothing_has_no_last_event(edge: SampleEdge, tmp_path: Path) -> None:
    with edge_reader.opened(tmp_path) as reader, pytest.raises(Rejected, match="no last event"):
        assert reader is not None
        reader.event("last")


# --- what is worth asking about --------------------------------------------------------------------------------


def test_the_least_sure_of_each_sighting_comes_first_and_what_has_a_label_not_at_all(
    edge: SampleEdge, tmp_path: Path
) -> None:
    for number in range(1, 9):
        frame(edge, number, sighting=1 if number < 4 else None)
    edge.label(Label(event=event_id(8), label="Felis catus", by="ann"))
    with edge_reader.opened(tmp_path) as reader:
        assert reader is not None
        unsure = reader.unsure()
        assert reader.asks() == []
    sureness = [(len(told.path), told.probability) for told in unsure]
    assert sureness == sorted(sureness)
    assert event_id(8) not in {told.event for told in unsure}
    assert len(unsure) == len({told.sighting for told in unsure}) == 5


def test_what_the_edge_asks_about_is_read_from_its_table_without_what_has_a_label(
    edge: SampleEdge, tmp_path: Path
) -> None:
    frame(edge, 1)
    frame(edge, 2)
    with edge.spool.transaction() as tx:
        for number, settled in ((1, None), (2, None), (3, NOW_S)):
            ask = Ask(
                event=event_id(number),
                time=clock.rfc3339(NOW_S),
                site="home",
                device="cam1",
                stream="garden",
                label="animal",
                path=("animal",),
                probability=0.6,
                privacy=Privacy.PUBLIC,
                rule="unsure",
                reason="unsure",
                budget_left=3,
            )
            tx.db.execute(
                "INSERT INTO asks VALUES (?, ?, ?, ?, ?)",
                (ask.event, ask.event, number, messages.encode(ask), settled),
            )
    edge.label(Label(event=event_id(2), label="Felis catus", by="ann"))
    with edge_reader.opened(tmp_path) as reader:
        assert reader is not None
        assert [ask.event for ask in reader.asks()] == [event_id(1)]


def test_people_s_labels_are_listed_withdrawn_ones_too(edge: SampleEdge, tmp_path: Path) -> None:
    frame(edge, 1)
    frame(edge, 2)
    edge.label(Label(event=event_id(1), label="Felis catus", by="ann"))
    edge.label(Label(event=event_id(2), label="Felidae", by="ben"))
    edge.clock.turn(1)
    edge.label(Label(event=event_id(2), label=None, by="ben"))
    with edge_reader.opened(tmp_path) as reader:
        assert reader is not None
        found = [(each.event, each.by, each.label) for each in reader.labels(10)]
        assert found == [(event_id(1), "ann", "Felis catus"), (event_id(2), "ben", None)]
        assert len(reader.labels(1)) == 1
