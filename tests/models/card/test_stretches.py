"""Stretches of a card: pauses cut, a time-lapse is cut with a lead, and no picture is lost."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from models.card.stretches import LONGEST, CardPicture, in_tasks, stretches


def pictures(*times_s: float | None, folder: str = "cam1") -> list[CardPicture]:
    return [CardPicture(f"{folder}/{at}.jpg", Path(folder, f"{at}.jpg"), time_s) for at, time_s in enumerate(times_s)]


def test_a_pause_cuts_and_pictures_are_in_the_order_of_their_capture() -> None:
    cut = list(stretches(pictures(100.0, 0.0, 5.0, 36.0), pause_s=30))
    assert [[picture.taken_s for picture in each.pictures] for each in cut] == [[0.0, 5.0], [36.0], [100.0]]
    assert all(not each.lead for each in cut)


def test_folders_do_not_mix_and_a_picture_without_a_time_stands_alone() -> None:
    cut = list(stretches(pictures(0.0, None) + pictures(1.0, folder="cam2"), pause_s=30))
    assert [[picture.name for picture in each.pictures] for each in cut] == [
        ["cam1/0.jpg"],
        ["cam1/1.jpg"],
        ["cam2/0.jpg"],
    ]


def test_a_time_lapse_is_cut_and_each_part_knows_the_pictures_before_it() -> None:
    first, second = stretches(pictures(*map(float, range(0, 10 * (LONGEST + 1), 10))), pause_s=30)
    assert (len(first.pictures), len(second.pictures)) == (LONGEST, 1)
    assert [picture.taken_s for picture in second.lead] == [10.0 * (LONGEST - each) for each in (3, 2, 1)]


@given(st.lists(st.none() | st.floats(0, 1e5)), st.integers(1, 20))
def test_every_picture_is_in_one_task(times_s: list[float | None], size: int) -> None:
    card = pictures(*times_s)
    tasks = list(in_tasks(stretches(card, pause_s=30), size))
    assert sorted(p.name for task in tasks for each in task for p in each.pictures) == sorted(p.name for p in card)
