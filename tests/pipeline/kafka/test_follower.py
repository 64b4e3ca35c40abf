"""A follower sees all of a compacted topic, in no group, and goes on where it was after its connection was lost."""

from __future__ import annotations

from typing import Any

import pytest
from kafka_brokers import eventually

from pipeline import kafka as kafka_client
from pipeline import topics
from pipeline.errors import Retry
from pipeline.files.release_names import parts
from pipeline.kafka import Follower, Producer, read_all
from pipeline.privacy.gate import clear_release
from pipeline.settings.settings import KafkaSettings


@pytest.mark.slow
def test_two_followers_see_all_and_then_what_comes_also_after_a_lost_connection(kafka: Any) -> None:
    settings = KafkaSettings(address=kafka.address)
    kafka_client.create_topics(settings)
    producer = Producer(settings, "test")
    (first, data), (second, _) = (next(parts(data)) for data in (b"first", b"second"))
    producer.deliver([clear_release(first.key, data), clear_release(second.key, b"second")])
    followers = [Follower(settings, topics.MODELS, f"test-{number}") for number in range(2)]
    seen: list[dict[str, bytes | None]] = [{}, {}]

    def all_have(key: str, value: bytes | None) -> bool:
        for follower, found in zip(followers, seen, strict=True):
            found |= {(record.key or b"").decode(): record.value for record in follower.poll(timeout_s=0.2)}
        return all(found.get(key, b"?") == value for found in seen)

    eventually(lambda: all_have(second.key, b"second") and all_have(first.key, data))
    eventually(lambda: all_have(first.key, data) and all(follower.caught_up for follower in followers))
    for follower in followers:
        follower.close()  # as after an error
    producer.deliver([clear_release(first.key, None)])
    for found in seen:
        found.clear()
    eventually(lambda: all_have(first.key, None))
    assert all(second.key not in found for found in seen)  # seen before, and not again
    assert first.key.encode() not in read_all(settings, topics.MODELS)
    for follower in followers:
        follower.close()
    producer.close()


def test_without_the_topic_it_is_to_be_tried_again(kafka: Any) -> None:
    follower = Follower(KafkaSettings(address=kafka.address), "tierwise-nowhere", "test")
    with pytest.raises(Retry, match="no topic tierwise-nowhere"):
        follower.poll()
    assert not follower.caught_up
    follower.close()
