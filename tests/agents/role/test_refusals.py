"""What bad input gets: why, and enough to recognise it by; never what it held."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st
from sample_messages import NOW_S

from agents.role import outbox
from agents.role.dead_letters import refusal, refusal_of
from pipeline import messages, topics
from pipeline.errors import Rejected
from pipeline.messages import Refusal

ERROR = Rejected("image-damaged", "the JPEG ends within its picture; send it again")


def test_a_refusal_says_why_where_and_of_which_payload() -> None:
    topic = topics.frame("home", "cam1", "garden")
    told = refusal_of(ERROR, topic, b"payload", NOW_S)
    assert told == Refusal(
        reason="image-damaged",
        detail="the JPEG ends within its picture; send it again",
        topic=topic,
        size_bytes=7,
        sha256=hashlib.sha256(b"payload").hexdigest(),
        time="2023-11-14T22:13:20.000Z",
    )


@given(st.binary(min_size=8, max_size=64))
def test_a_refusal_holds_nothing_of_the_payload(payload: bytes) -> None:
    told = messages.encode(refusal_of(ERROR, "t", payload, NOW_S))
    assert payload not in told


def test_it_is_told_under_the_device_that_it_came_from() -> None:
    letter = refusal(ERROR, topics.frame("home", "cam1", "garden"), b"x", site="home", hop="site", now_s=NOW_S)
    assert letter.topic == topics.rejected("home", "cam1")
    assert isinstance(outbox.opened(letter), Refusal)


def test_under_an_odd_name_it_is_told_under_no_device() -> None:
    for topic in (topics.frame("home", "Käfig", "garden"), topics.frame("home", "$x", "g"), "elsewhere", ""):
        letter = refusal(ERROR, topic, b"x", site="home", hop="site", now_s=NOW_S)
        assert letter.topic == topics.rejected("home", topics.NO_DEVICE)


def test_two_refusals_of_one_moment_are_two_records_only_for_two_payloads() -> None:
    def name(payload: bytes, now_s: float) -> str:
        return refusal(ERROR, "t", payload, site="home", hop="site", now_s=now_s).id

    assert name(b"a", NOW_S) == name(b"a", NOW_S)
    assert len({name(b"a", NOW_S), name(b"b", NOW_S), name(b"a", NOW_S + 1)}) == 3
