"""Sightings at the edge: what is told of them, to whom, and when they are over."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sample_edge import SampleEdge, sample_edge
from sample_messages import edge_model, event, event_id, photo, result, settings

from models.answering.sightings import AnswerTally
from models.labels.taxonomy import load_taxonomy
from pipeline import messages
from pipeline.messages import Event, Kind, Levels, Privacy, SightingReport, Vector
from pipeline.settings.settings import RuleSettings

Labels = tuple[str, ...]
PATHS: list[Labels] = [(), ("animal",), ("animal", "Felidae"), ("plant",)]


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[SampleEdge]:
    with sample_edge(tmp_path) as opened:
        yield opened


def still(number: int, **changes: object) -> Event:
    """A frame of the first frame's sighting, which its device answered for good."""
    fields: dict[str, object] = {"sighting": event_id(1), "pending": None, "rule": "nothing-moved"}
    return event(result(event_id(number), **(fields | changes)), sequence=number)


def cat(number: int) -> Event:
    """One that the edge names."""
    answer = result(event_id(number), sighting=event_id(1))
    vector = edge_model().predict(photo("chelsea.png")).vector.tobytes()
    return event(answer, sequence=number, body=Vector(space=edge_model().space, data=vector))


def close(edge: SampleEdge) -> list[SightingReport]:
    """Let it be over, and hear what is told."""
    edge.clock.turn(1000)
    edge.sightings.close_quiet(edge.clock.now())
    return edge.take_reports()


def test_a_sightings_consensus_is_told_with_each_answer_and_once_more_when_it_is_over(
    edge: SampleEdge,
) -> None:
    edge.deliver(cat(1), cat(2))
    reports = edge.take_reports()
    assert (reports[-1].frames, reports[-1].agree, reports[-1].path) == (2, 2, ("animal", "Felidae"))
    assert not reports[-1].closed
    edge.take_up()
    (closed,) = close(edge)
    assert closed.closed
    assert closed.revision > reports[-1].revision
    (envelope,) = edge.take_up()
    assert (envelope.kind, envelope.event, envelope.revision) == (Kind.RESULT, event_id(1), closed.revision)
    assert messages.decode(SightingReport, envelope.payload) == closed
    assert close(edge) == []


@pytest.mark.slow
@hypothesis_settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from(PATHS), st.integers(0, 10_000)), max_size=12))
def test_the_sums_are_those_of_each_frames_newest_answer(answers: list[tuple[int, Labels, int]]) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        sample_edge(Path(folder)) as edge,
        edge.spool.transaction() as tx,
    ):
        for number, path, weight in answers:
            edge.store.sightings.vote("s", event_id(number), path, weight, Privacy.PUBLIC, tx)
        found = edge.store.sightings.tallies("s", tx)
    newest = {number: (path, weight) for number, path, weight in answers}
    expected = {
        path: (len(held := [w for p, w in newest.values() if p == path]), sum(held))
        for path in {path for path, _ in newest.values()}
    }
    assert {tally.path: (tally.frames, tally.weight) for tally in found} == expected


def test_of_many_frames_only_the_sums_by_path_are_read(edge: SampleEdge) -> None:
    with edge.spool.transaction() as tx:
        for number in range(1, 51):
            edge.sightings.count(result(event_id(number), sighting=event_id(1), probability=0.9), tx)
        assert edge.store.sightings.tallies(event_id(1), tx) == [AnswerTally(("animal",), 50, 50 * 9000)]


# --- how private it is -----------------------------------------------------------------------------------------


def test_a_private_sighting_is_told_at_its_site_alone(edge: SampleEdge) -> None:
    person = result(
        event_id(1),
        path=("person",),
        label="person",
        pending=None,
        privacy=Privacy.EDGE_PRIVATE,
        rule="person-in-frame",
    )
    edge.deliver(event(person, levels=Levels()))
    assert [report.privacy for report in close(edge)][-1] is Privacy.EDGE_PRIVATE
    assert edge.take_up() == []


def test_one_private_frame_makes_its_sighting_private_for_good(edge: SampleEdge) -> None:
    edge.deliver(still(1), still(2, privacy=Privacy.EDGE_PRIVATE), still(3))
    edge.take()
    with edge.spool.transaction() as tx:
        edge.sightings.count(still(2).result, tx)  # answered anew, as if it were public
    assert [report.privacy for report in close(edge)] == [Privacy.EDGE_PRIVATE]
    assert edge.take_up() == []


def test_a_user_private_answer_is_not_told_through_its_sighting(tmp_path: Path) -> None:
    rule = RuleSettings(
        name="no-cats", label="Felidae", raise_={Kind.RESULT: Privacy.USER_PRIVATE}, reason="mine alone"
    )
    with sample_edge(tmp_path, settings(tmp_path, rules=(rule,))) as edge:
        edge.deliver(still(1))
        assert [report.path for report in edge.take_reports()] == [("animal",)]
        edge.deliver(cat(2), still(3))
        assert edge.take_reports() == []
        edge.take_up()
        assert close(edge) == []
        assert edge.take_up() == []


def test_a_sighting_of_which_nothing_may_be_told_is_over_all_the_same(edge: SampleEdge) -> None:
    edge.deliver(still(1, privacy=Privacy.USER_PRIVATE))
    assert close(edge) == []
    assert edge.store.sightings.quiet(edge.clock.now()) == []


def test_no_persons_sighting_goes_to_the_cloud_whatever_its_level(edge: SampleEdge) -> None:
    edge.deliver(still(1, path=("person",), label="person"))
    assert [report.privacy for report in close(edge)][-1] is Privacy.PUBLIC
    assert edge.take_up() == []


# --- when it is over -------------------------------------------------------------------------------------------


def test_a_frame_that_comes_while_its_sighting_is_about_to_be_closed_keeps_it_open(
    edge: SampleEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge.deliver(still(1))
    edge.clock.turn(1000)
    seen_quiet = edge.store.sightings.quiet(edge.clock.now())
    edge.deliver(still(2))
    edge.take()
    with monkeypatch.context() as patched:
        patched.setattr(edge.store.sightings, "quiet", lambda _before_s: seen_quiet)
        edge.sightings.close_quiet(edge.clock.now())
    assert edge.take_reports() == []
    (closed,) = close(edge)
    assert (closed.closed, closed.frames) == (True, 2)


def test_no_label_of_the_tree_breaks_how_votes_are_kept() -> None:
    assert not [label for label in load_taxonomy().paths if "/" in label]
