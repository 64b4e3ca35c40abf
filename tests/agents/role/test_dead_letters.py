"""No record of an inbox ends its role."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from agents.role import dead_letters
from agents.role.dead_letters import INTERNAL_ERROR, answer_or_refuse
from pipeline.errors import Rejected, Retry, Stop


def failing(*errors: Exception) -> Callable[[], None]:
    """Raises these in turn, then succeeds."""
    left = list(errors)

    def answer() -> None:
        if left:
            raise left.pop(0)

    return answer


def refusals_of(answer: Callable[[], None]) -> list[str]:
    told: list[str] = []
    answer_or_refuse(answer, lambda error: told.append(error.reason), threading.Event())
    return told


def test_what_is_answered_is_not_refused() -> None:
    assert refusals_of(failing()) == []


def test_bad_input_is_refused_with_its_own_reason() -> None:
    assert refusals_of(failing(Rejected("image-damaged", "it does not decode"))) == ["image-damaged"]


def test_a_record_that_finds_a_bug_is_refused_instead_of_ending_the_role() -> None:
    assert refusals_of(failing(ZeroDivisionError())) == [INTERNAL_ERROR]


def test_a_full_disk_refuses_nothing_and_the_record_is_answered_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dead_letters, "RETRY_S", 0.0)
    assert refusals_of(failing(Retry("disk full"), Retry("disk full"))) == []


def test_a_broken_store_blames_no_record() -> None:
    with pytest.raises(Stop):
        refusals_of(failing(Stop("the file is corrupt")))


def test_a_record_that_can_be_neither_answered_nor_refused_stops_the_role() -> None:
    def refuse(_error: Rejected) -> None:
        raise ZeroDivisionError

    with pytest.raises(Stop, match="neither answered nor refused"):
        answer_or_refuse(failing(Rejected("x", "y")), refuse, threading.Event())
