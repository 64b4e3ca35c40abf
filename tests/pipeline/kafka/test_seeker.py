"""Reading from offsets of one's own: nothing twice, nothing missed, whatever the group or the broker says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kafka_brokers import EmbeddedKafka, eventually
from stream_samples import envelope

from pipeline import kafka as client
from pipeline import topics
from pipeline.errors import Retry
from pipeline.kafka import Producer, Progress, Seeker
from pipeline.messages import Kind
from pipeline.privacy import gate
from pipeline.settings.settings import KafkaSettings

TOPIC, GROUP = topics.INGEST, topics.Group.TRAINER


class Owner:
    """Keeps its offsets itself."""

    def __init__(self) -> None:
        self.next: dict[tuple[str, int], int] = {}
        self.taken: list[str] = []

    def seeker(self, settings: KafkaSettings, *names: str) -> Seeker:
        return Seeker(
            settings,
            names or (TOPIC,),
            GROUP,
            "test",
            lambda topic, partition: self.next.get((topic, partition), 0),
            lambda topic, partition: self.next.pop((topic, partition), None) and None,
        )

    def take(self, seeker: Seeker) -> list[str]:
        for record in seeker.poll(timeout_s=0.2):
            assert record.offset == self.next.get((record.topic, record.partition), 0)
            self.next[record.topic, record.partition] = record.offset + 1
            self.taken.append(dict(record.headers)["ce_id"].decode())
        return self.taken


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    made = EmbeddedKafka(tmp_path / "kafka")
    made.start()
    yield made
    if made.process is not None:
        made.stop()


def send(settings: KafkaSettings, *events: str) -> None:
    with closing(Producer(settings, "test")) as producer:
        sent: list[Any] = [
            gate.clear_record(envelope(Kind.FEATURE, b"x", f"home/{each}/garden", event=each, space="s1"))
            for each in events
        ]
        assert producer.deliver(sent) == ()


@pytest.mark.slow
def test_it_goes_on_where_its_owner_stands_and_tells_the_group(broker: EmbeddedKafka) -> None:
    settings = KafkaSettings(address=broker.address)
    client.create_topics(settings)
    send(settings, "e1", "e2", "e3")
    owner = Owner()
    with closing(owner.seeker(settings)) as seeker:
        assert not seeker.caught_up
        eventually(lambda: sorted(owner.take(seeker)) == ["e1", "e2", "e3"])
        assert seeker.caught_up
        seeker.commit()
    with closing(Progress(settings, [TOPIC], GROUP)) as progress:
        assert sum(place.committed for place in progress.measure().values()) == 3
    send(settings, "e4")
    with closing(owner.seeker(settings)) as seeker:
        eventually(lambda: owner.take(seeker)[3:] == ["e4"])
    fresh = Owner()
    with closing(fresh.seeker(settings)) as seeker:
        eventually(lambda: sorted(fresh.take(seeker)) == ["e1", "e2", "e3", "e4"])


@pytest.mark.slow
def test_a_topic_that_was_made_anew_is_read_from_its_beginning(broker: EmbeddedKafka) -> None:
    settings = KafkaSettings(address=broker.address)
    client.create_topics(settings)
    owner = Owner()
    owner.next = {(TOPIC, number): 1000 for number in range(topics.PARTITIONS)}
    send(settings, "e1")
    with closing(owner.seeker(settings)) as seeker:
        eventually(lambda: owner.take(seeker) == ["e1"])


@pytest.mark.slow
def test_what_cannot_be_reached_or_is_not_there_is_tried_again(broker: EmbeddedKafka) -> None:
    settings = KafkaSettings(address=broker.address)
    owner = Owner()
    seeker = owner.seeker(settings, "tierwise.none")
    with pytest.raises(Retry, match="no topic"):
        seeker.poll()
    broker.stop()
    with pytest.raises(Retry):
        seeker.poll()
