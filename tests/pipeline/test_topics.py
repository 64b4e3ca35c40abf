"""Topic names: each is taken apart into what it was made of, and no word of ours can be mistaken for a name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import topics
from pipeline.messages import Kind, Privacy, Tier
from pipeline.topics import Parsed

names = st.from_regex(topics.NAME, fullmatch=True).filter(topics.is_name)

STREAM_TOPICS = {
    "frame": topics.frame,
    "reading": topics.reading,
    "event": topics.event,
    "sighting": topics.sighting,
}
DEVICE_TOPICS = {
    "ack": topics.ack,
    "event-ack": topics.event_ack,
    "rejected": topics.rejected,
    "status": topics.status,
}
SITE_TOPICS = (topics.uplink, topics.uplink_ack, topics.downlink, topics.downlink_ack)


@pytest.mark.slow
@pytest.mark.parametrize("channel", STREAM_TOPICS)
@given(site=names, device=names, stream=names)
def test_a_streams_topic_parses_into_its_parts(channel: str, site: str, device: str, stream: str) -> None:
    assert topics.parse(STREAM_TOPICS[channel](site, device, stream)) == Parsed(site, device, channel, stream)


@pytest.mark.slow
@pytest.mark.parametrize("channel", DEVICE_TOPICS)
@given(site=names, device=names)
def test_a_devices_topic_parses_into_its_parts(channel: str, site: str, device: str) -> None:
    assert topics.parse(DEVICE_TOPICS[channel](site, device)) == Parsed(site, device, channel, "")


@pytest.mark.slow
@given(site=names, device=names, tier=st.sampled_from(list(Tier)), privacy=st.sampled_from(list(Privacy)))
def test_private_answers_have_a_branch_of_their_own(site: str, device: str, tier: Tier, privacy: Privacy) -> None:
    topic = topics.result(site, device, tier, privacy)
    branch = "private" if privacy is Privacy.USER_PRIVATE else "result"
    assert topics.parse(topic) == Parsed(site, device, branch, tier)
    assert topic in topics.answers_of(site, device, tier)


@pytest.mark.parametrize("make", SITE_TOPICS, ids=lambda make: make.__name__)
@given(site=names)
def test_a_sites_uplink_topics_name_the_site_and_are_no_devices_topics(make: object, site: str) -> None:
    topic = make(site)  # type: ignore[operator]
    assert topics.site_of(topic) == site
    assert topics.parse(topic) is None
    assert topics.is_uplink(topic) is (make is topics.uplink)


@given(site=names, device=names, stream=names)
def test_a_devices_topic_belongs_to_no_uplink(site: str, device: str, stream: str) -> None:
    assert topics.site_of(topics.frame(site, device, stream)) is None
    assert not topics.is_uplink(topics.frame(site, device, stream))


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "/",
        "tierwise/v1",
        "tierwise/v1/home/cam1",
        "tierwise/v2/home/cam1/frame/garden",
        "other/v1/home/cam1/frame/garden",
        "tierwise/v1/home/cam1/frame/garden/more",
    ],
)
def test_a_topic_of_another_form_is_none_of_ours(topic: str) -> None:
    assert topics.parse(topic) is None


@pytest.mark.parametrize(
    "word",
    [
        "",
        "_",
        "-cam",
        "Cam1",
        "cam 1",
        "cam/1",
        "+",
        "#",
        "$share",
        "käfig",
        "c" * 64,
        "cam1\n",
        *sorted(topics.RESERVED),
    ],
)
def test_odd_and_reserved_words_are_no_names(word: str) -> None:
    assert not topics.is_name(word)


@pytest.mark.parametrize("word", ["c", "0", "cam-1", "cam_1", "c" * 63])
def test_plain_words_are_names(word: str) -> None:
    assert topics.is_name(word)


def test_the_stand_in_for_a_refused_device_is_no_name_itself() -> None:
    assert not topics.is_name(topics.NO_DEVICE)


def test_each_level_of_features_has_a_kafka_topic_of_its_own() -> None:
    assert set(topics.ROUTED) == set(Privacy)
    assert len(set(topics.KAFKA_TOPICS)) == len(topics.KAFKA_TOPICS)
    assert set(topics.KAFKA_TOPICS) > topics.COMPACTED
    assert len({topics.event_type(kind) for kind in Kind}) == len(Kind)
