"""What one release has that another has not."""

from __future__ import annotations

from sample_release import NEW, sample_release

from models.heads.delta import between, events_of

FIRST, MORE = sample_release(3), sample_release(4, events=60)


def test_from_the_shipped_model_all_that_was_learned_is_gained() -> None:
    delta = between(None, FIRST)
    assert (delta.gained, delta.rows, delta.events, delta.bytes_before) == ((NEW,), (NEW,), {NEW: (0, 40)}, 0)
    assert delta.bytes_after == sum(map(len, FIRST.files().values()))


def test_back_to_the_shipped_model_all_of_it_is_lost() -> None:
    assert between(FIRST, None).lost == (NEW,)


def test_more_events_of_a_label_are_no_new_label() -> None:
    delta = between(FIRST, MORE)
    assert (delta.gained, delta.lost, delta.rows, delta.events) == ((), (), (), {NEW: (40, 60)})


def test_nothing_differs_in_a_release_from_itself() -> None:
    delta = between(FIRST, FIRST)
    assert (delta.gained, delta.lost, delta.rows, delta.events) == ((), (), (), {})
    assert events_of(None) == {}
