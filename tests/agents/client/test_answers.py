"""Answers as people see them: the newest of each event, of each sighting, of each sensor."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sample_device import answer

from agents.client.answer_text import Board, line
from agents.client.sighting_board import SightingBoard
from pipeline.messages import Privacy, Rank, Result, SightingReport, Task, Tier


@given(st.permutations([(event, revision) for event in ("e1", "e2") for revision in (1, 2, 3)]), st.data())
def test_a_board_ends_with_the_highest_revision_in_whatever_order_answers_come(
    order: list[tuple[str, int]], data: st.DataObject
) -> None:
    board = Board()
    for event, revision in [*order, *data.draw(st.lists(st.sampled_from(order)))]:
        board.refine(answer(event, revision))
    assert {(a.event, a.revision) for a in board.events} == {("e1", 3), ("e2", 3)}


def test_a_board_keeps_the_most_recent_events_only() -> None:
    board = Board(most=2)
    for event in ("e1", "e2", "e3"):
        assert board.refine(answer(event))
    assert [a.event for a in board.events] == ["e2", "e3"]


def test_an_answer_reads_as_tier_rank_label_and_who_may_refine_it() -> None:
    words = line(answer(revision=2, pending=Tier.CLOUD)).split()
    assert words[:3] == ["edge", "family", "Felidae"]
    assert words[-3:] == ["→", "cloud", "last-tier"]


def test_a_line_fits_into_a_narrow_terminal() -> None:
    text = line(answer(revision=1, pending=Tier.EDGE, privacy=Privacy.USER_PRIVATE), 80)
    assert len(text) <= 78
    assert "Felidae" in text


# --- sightings ---------------------------------------------------------------------------------------------------


def frame(event: str, **changes: object) -> Result:
    return answer(event, sighting="s1", **changes)


def report(revision: int, label: str, *, closed: bool = False) -> SightingReport:
    return SightingReport(
        sighting="s1",
        time="2026-01-01T00:00:00.000Z",
        until="2026-01-01T00:00:09.000Z",
        site="home",
        device="cam1",
        stream="garden",
        revision=revision,
        rank=Rank.SPECIES,
        label=label,
        path=("animal", "Felidae", label),
        probability=0.8,
        frames=5,
        agree=4,
        privacy=Privacy.PUBLIC,
        closed=closed,
        rule="consensus",
        model="lite0@1",
    )


def test_the_frames_of_a_visit_are_one_row_that_shows_the_deepest_answer() -> None:
    board = SightingBoard()
    assert board.take(frame("e1", label="animal", path=("animal",))) is not None
    assert board.take(frame("e2")) is not None
    assert board.take(frame("e2")) is None, "a repeat"
    (row,) = board.rows
    assert (row.id, row.text, row.frames, row.by) == ("s1", "Felidae", 2, Tier.DEVICE)


def test_the_edge_s_consensus_stands_once_it_is_reported() -> None:
    board = SightingBoard()
    board.take(frame("e1"))
    board.take(report(2, "Felis catus"))
    assert board.take(frame("e3", label="Panthera leo", path=("animal", "Felidae", "Panthera leo"))) is None
    assert board.take(report(1, "Panthera leo")) is None, "older"
    (row,) = board.rows
    assert (row.text, row.frames, row.is_pending) == ("Felis catus (cat)", 5, True)
    assert board.take(report(3, "Felis catus", closed=True)) is row
    assert not row.is_pending


def test_a_sensor_is_one_row_with_its_newest_reading() -> None:
    board = SightingBoard()
    for second, value in ((2, 21.5), (1, 20.0)):
        reading = answer(
            f"e{second}",
            sighting=None,
            task=Task.METER,
            time=f"2026-01-01T00:00:0{second}.000Z",
            label="normal",
            path=("normal",),
            value=value,
            unit="W",
        )
        board.take(reading)
    (row,) = board.rows
    assert (row.id, row.text, row.is_sensor) == ("e2", "21.5 W normal", True)


def test_a_board_of_sightings_keeps_the_most_recent_rows_only() -> None:
    board = SightingBoard(most=2)
    for number in range(4):
        board.take(answer(f"e{number}", sighting=f"s{number}"))
    assert [row.id for row in board.rows] == ["s2", "s3"]
