"""Sightings: which frames belong together, and what they agree on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.answering.sightings import (
    LONGEST_S,
    WEIGHT_ONE,
    AnswerTally,
    Consensus,
    Visit,
    consensus,
    join,
    weight,
)
from pipeline.messages import UNKNOWN

GAP_S = 30.0

paths = st.sampled_from(
    (
        (),
        ("animal",),
        ("person",),
        ("animal", "Felidae"),
        ("animal", "Canidae"),
        ("animal", "Felidae", "Felis catus"),
        ("animal", "Felidae", "Panthera tigris"),
        ("animal", "Canidae", "Canis lupus"),
    )
)
votes = st.lists(st.tuples(paths, st.floats(0.01, 1.0)), max_size=12)

Vote = tuple[tuple[str, ...], float]
"""One frame's path and probability."""


def tallied(ballots: list[Vote]) -> list[AnswerTally]:
    """As the edge sums them."""
    by_path: dict[tuple[str, ...], list[int]] = {}
    for path, probability in ballots:
        by_path.setdefault(path, []).append(weight(probability))
    return [AnswerTally(path, len(held), sum(held)) for path, held in by_path.items()]


# --- one sighting or two ---------------------------------------------------------------------------------------

kingdoms = st.sampled_from(("animal", "plant", "person"))
visits = st.builds(Visit, id=st.just("a"), label=kingdoms, last_s=st.floats(0, 1e6))


@given(visits, kingdoms, st.floats(-100, 100))
def test_a_frame_joins_iff_it_is_near_in_time_and_of_the_same_kingdom(visit: Visit, label: str, later_s: float) -> None:
    time_s = visit.last_s + later_s
    joined = join(visit, event="b", time_s=time_s, label=label, gap_s=GAP_S)
    same = abs(time_s - visit.last_s) <= GAP_S and label == visit.label
    assert joined.id == ("a" if same else "b")
    assert joined.label == label
    assert joined.last_s == (max(time_s, visit.last_s) if same else time_s)


@given(visits, st.floats(0, GAP_S))
def test_a_frame_of_unknown_kingdom_joins_what_is_running_and_keeps_its_kingdom(visit: Visit, later_s: float) -> None:
    joined = join(visit, event="b", time_s=visit.last_s + later_s, label=UNKNOWN, gap_s=GAP_S + 1)
    assert (joined.id, joined.label) == ("a", visit.label)


def test_a_sighting_that_began_unknown_gets_the_first_kingdom_that_is_seen() -> None:
    visit = join(None, event="a", time_s=0.0, label=UNKNOWN, gap_s=GAP_S)
    visit = join(visit, event="b", time_s=1.0, label="animal", gap_s=GAP_S)
    assert visit == Visit(id="a", label="animal", last_s=1.0, first_s=0.0)
    assert join(visit, event="c", time_s=2.0, label="person", gap_s=GAP_S).id == "c"


@pytest.mark.slow
@given(st.lists(st.floats(0.1, GAP_S), min_size=1, max_size=15))
def test_a_visit_may_last_far_longer_than_the_gap(pauses_s: list[float]) -> None:
    visit, time_s = None, 0.0
    for number, pause_s in enumerate(pauses_s):
        time_s += pause_s
        visit = join(visit, event=str(number), time_s=time_s, label="animal", gap_s=GAP_S + 0.001)
    assert visit is not None
    assert visit.id == "0"


@given(st.floats(2.0, GAP_S))
def test_who_stays_is_told_as_another_sighting_after_a_while(pause_s: float) -> None:
    began_s: dict[str, float] = {}
    visit, time_s = None, 0.0
    while time_s < 2.5 * LONGEST_S:
        visit = join(visit, event=str(time_s), time_s=time_s, label="animal", gap_s=GAP_S)
        assert time_s - began_s.setdefault(visit.id, time_s) <= LONGEST_S
        time_s += pause_s
    assert len(began_s) == 3


# --- consensus -------------------------------------------------------------------------------------------------


@given(votes, st.randoms())
def test_the_order_of_votes_does_not_matter(ballots: list[Vote], chance: object) -> None:
    shuffled = list(ballots)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert consensus(tallied(shuffled)) == consensus(tallied(ballots))


@given(votes)
def test_votes_summed_by_path_and_one_by_one_agree_on_the_same(ballots: list[Vote]) -> None:
    one_by_one = [AnswerTally(path, 1, weight(probability)) for path, probability in ballots]
    assert consensus(one_by_one) == consensus(tallied(ballots))


@given(votes)
def test_every_frame_is_counted_and_those_that_agree_are_no_more(ballots: list[Vote]) -> None:
    agreed = consensus(tallied(ballots))
    assert agreed.frames == len(ballots)
    assert 0 <= agreed.agree <= agreed.frames
    assert (agreed.agree > 0) == bool(agreed.path)


@given(votes)
def test_the_consensus_is_a_path_that_some_frame_gave(ballots: list[Vote]) -> None:
    agreed = consensus(tallied(ballots))
    assert not agreed.path or any(path[: len(agreed.path)] == agreed.path for path, _ in ballots)


@given(votes)
def test_its_probability_is_the_mean_of_the_frames_that_agree(ballots: list[Vote]) -> None:
    agreed = consensus(tallied(ballots))
    held = [probability for path, probability in ballots if _agrees(path, agreed.path)]
    assert len(held) == agreed.agree
    if held:
        assert min(held) - 1 / WEIGHT_ONE <= agreed.probability <= max(held) + 1 / WEIGHT_ONE
    else:
        assert agreed.probability == 0.0


def _agrees(answer: tuple[str, ...], path: tuple[str, ...]) -> bool:
    return any(answer) and bool(path) and all(one == other for one, other in zip(answer, path, strict=False))


CAT = ("animal", "Felidae", "Felis catus")
TIGER = ("animal", "Felidae", "Panthera tigris")
WOLF = ("animal", "Canidae", "Canis lupus")


@given(st.floats(0.01, 1.0), st.integers(1, 4))
def test_two_species_that_tie_are_told_as_their_family(probability: float, frames: int) -> None:
    agreed = consensus(tallied([(CAT, probability), (TIGER, probability)] * frames))
    assert agreed.path == ("animal", "Felidae")
    assert agreed.agree == 2 * frames


def test_frames_that_answered_less_deeply_neither_support_nor_oppose() -> None:
    agreed = consensus(tallied([(CAT, 0.6), *[(("animal",), 0.99)] * 5]))
    assert agreed == Consensus(CAT, 0.925, 6, 6)


def test_frames_without_an_answer_are_counted_and_do_not_agree() -> None:
    assert consensus(tallied([((), 0.0), (("animal",), 0.8)])) == Consensus(("animal",), 0.8, 2, 1)
    assert consensus([]) == Consensus((), 0.0, 0, 0)
    assert consensus(tallied([((), 0.0)])) == Consensus((), 0.0, 1, 0)


def test_a_majority_of_weight_wins_at_each_rank() -> None:
    assert consensus(tallied([(CAT, 0.5), (CAT, 0.5), (WOLF, 0.9)])).path == CAT
    assert consensus(tallied([(CAT, 0.5), (WOLF, 0.9)])).path == WOLF
