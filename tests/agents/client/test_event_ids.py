"""Short ids of events: any part that is unique names the event, and an ambiguous one is answered with the
candidates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_messages import event_id

from agents.client.event_ids import find, short
from pipeline.errors import Rejected

EVENTS = [event_id(number) for number in range(20)]


@given(st.sampled_from(EVENTS))
def test_the_id_that_tables_show_is_enough(event: str) -> None:
    assert find(short(event), EVENTS) == event
    assert find(event, EVENTS) == event


def test_last_is_the_newest() -> None:
    assert find("last", EVENTS) == EVENTS[-1]
    with pytest.raises(Rejected, match="no last one"):
        find("last", [])


def test_an_ambiguous_part_names_candidates() -> None:
    with pytest.raises(Rejected) as refused:
        find(EVENTS[0][:8], EVENTS)
    assert refused.value.reason == "event-ambiguous"
    text = str(refused.value)
    assert short(EVENTS[-1]) in text
    assert "20 events" in text
    assert "15 more" in text


@given(st.text(max_size=50))
def test_no_text_finds_another_event(text: str) -> None:
    try:
        assert text in find(text, EVENTS)
    except Rejected as error:
        assert error.reason in ("event-invalid", "unknown-event", "event-ambiguous")
    except AssertionError:
        assert text == "last"
