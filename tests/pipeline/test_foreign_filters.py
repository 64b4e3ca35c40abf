"""Topic filters of other people's sensors, and names from outside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import topics
from pipeline.foreign import filters


@pytest.mark.parametrize(
    ("filter", "why"),
    [
        ("$SYS/broker/uptime", 'begin with "$"'),
        ("$share/g/zigbee2mqtt/+", 'begin with "$"'),
        ("#", "Tierwise's own topics"),
        ("+/#", "Tierwise's own topics"),
        ("tierwise/v1/home/cam1/frame/garden", "Tierwise's own topics"),
        ("+/+/home/+/reading/+", "Tierwise's own topics"),
        ("zigbee2mqtt/#/x", '"#" stands alone'),
        ("zigbee2mqtt/a#", '"#" stands alone'),
        ("zigbee2mqtt/a+", '"+" stands for a whole level'),
        ("a\nb", "no topic"),
    ],
)
def test_a_topic_that_no_stream_can_listen_on_has_its_reason(filter: str, why: str) -> None:
    assert why in (filters.problem(filter) or "")


@pytest.mark.parametrize("filter", ["zigbee2mqtt/+", "tele/+/SENSOR", "+/sensor/+/state", "a/#", "/odd//levels"])
def test_the_topics_of_sensors_are_fine(filter: str) -> None:
    assert filters.problem(filter) is None


@pytest.mark.parametrize(
    ("filter", "topic", "levels"),
    [
        ("a/b", "a/b", ()),
        ("a/+", "a/b", ("b",)),
        ("a/+/c/+", "a/b/c/d", ("b", "d")),
        ("a/#", "a/b/c", ("b", "c")),
        ("a/#", "a", ()),
        ("a/+", "a", None),
        ("a/+", "a/b/c", None),
        ("a/b", "a/c", None),
    ],
)
def test_wildcards_stand_for_levels(filter: str, topic: str, levels: tuple[str, ...] | None) -> None:
    assert filters.wild_levels(filter, topic) == levels


def test_a_filter_that_another_covers_is_left_out() -> None:
    assert filters.fewest(["a/b", "a/+", "a/+", "a/b/c", "x/#", "x", "x/+/z"]) == ["a/+", "a/b/c", "x/#"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Living_Room", "living_room"),
        ("0x00158D", "0x00158d"),
        ("Küche Fenster", "kuche-fenster"),
        ("switch:0", "switch-0"),
        ("_hidden", "hidden"),
    ],
)
def test_names_from_outside_are_mapped(text: str, name: str) -> None:
    assert filters.as_name(text) == name


@given(st.text(max_size=200))
def test_any_text_becomes_a_name(text: str) -> None:
    assert topics.is_name(filters.as_name(text))
