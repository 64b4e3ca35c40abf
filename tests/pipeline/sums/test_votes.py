"""The label that stands, and who judges."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.messages import Vote
from pipeline.sums.votes import HELD_OUT_SHARE, Majority, held_out, majority


def test_the_label_with_most_votes_stands_with_what_was_said_of_its_place() -> None:
    votes = [
        Vote("urva", "ann"),
        Vote("urva", "bob", "Herpestidae", "mongoose"),
        Vote("cat", "eve", "Felidae"),
        Vote(None, "max"),
    ]
    assert majority(votes) == Majority("urva", "Herpestidae", "mongoose")


def test_equally_many_votes_are_a_dispute_and_none_are_none() -> None:
    assert majority([Vote("cat", "ann"), Vote("fox", "bob")]) == Majority(None, disputed=("cat", "fox"))
    assert majority([Vote(None, "ann")]) == majority([]) == Majority(None)


@given(votes=st.permutations([Vote("cat", "a"), Vote("cat", "b", "Felidae"), Vote("fox", "c"), Vote("cat", "d", "X")]))
def test_the_order_of_the_votes_does_not_matter(votes: list[Vote]) -> None:
    assert majority(votes) == Majority("cat", "Felidae", "")


def test_about_a_fifth_of_all_events_judges_always_the_same() -> None:
    judges = [number for number in range(5000) if held_out(f"event-{number}")]
    assert abs(len(judges) / 5000 - HELD_OUT_SHARE) < 0.02
    assert judges[:5] == [number for number in range(judges[4] + 1) if held_out(f"event-{number}")]
