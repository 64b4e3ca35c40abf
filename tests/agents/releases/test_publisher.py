"""The publisher keeps Kafka up to date: it renews signatures in time, and sends only changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from sample_releases import FILES, Cloud, current

from agents.releases import publisher
from agents.releases.publisher import WARN_DAYS, ReleasePublisher
from models.releases.repository import DAY_S, LIFE_S
from pipeline.errors import Rejected, Retry
from pipeline.kafka import RefusedRecord
from pipeline.privacy.gate import ClearedRecord
from pipeline.settings.settings import KafkaSettings


class Topic:
    """Kafka's side, as a table."""

    def __init__(self) -> None:
        self.table: dict[bytes, bytes] = {}
        self.reads = 0
        self.away = False
        self.refuses: tuple[RefusedRecord, ...] = ()

    def read_all(self, _settings: KafkaSettings, _topic: str) -> dict[bytes, bytes]:
        self.reads += 1
        return dict(self.table)

    def deliver(self, records: Sequence[ClearedRecord]) -> tuple[RefusedRecord, ...]:
        if self.away:
            raise Retry("Kafka is away")
        for record in records:
            self.table.pop(record.key, None)
            if record.value is not None:
                self.table[record.key] = record.value
        return self.refuses


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    topic = Topic()
    monkeypatch.setattr(publisher, "read_all", topic.read_all)
    return topic


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    return Cloud(tmp_path / "cloud")


@pytest.fixture
def feed(cloud: Cloud, topic: Topic) -> ReleasePublisher:
    return ReleasePublisher(cloud.repository, KafkaSettings(), topic)  # type: ignore[arg-type]


def names(topic: Topic) -> set[str]:
    return {key.decode() for key in topic.table if key.endswith(b".json")}


def test_what_another_process_released_is_sent_too(cloud: Cloud, feed: ReleasePublisher, topic: Topic) -> None:
    assert feed.keep_up() == 4
    cloud.opened().release(1, FILES, current(1))
    assert feed.keep_up() > 0
    assert names(topic) == set(cloud.repository.published()[0])


def test_while_nothing_changes_kafka_is_not_even_asked(feed: ReleasePublisher, topic: Topic) -> None:
    feed.keep_up()
    assert (feed.keep_up(), topic.reads) == (0, 1)


def test_metadata_are_signed_anew_in_time_and_sent(cloud: Cloud, feed: ReleasePublisher, topic: Topic) -> None:
    feed.keep_up()
    before = topic.table[b"timestamp.json"]
    cloud.hand.turn(LIFE_S["timestamp"] / 2 + 1)
    assert feed.keep_up() > 0
    assert topic.table[b"timestamp.json"] != before


def test_after_kafka_was_away_all_of_it_is_sent(cloud: Cloud, feed: ReleasePublisher, topic: Topic) -> None:
    topic.away = True
    with pytest.raises(Retry):
        feed.keep_up()
    topic.away = False
    assert feed.keep_up() == 4


def test_a_record_that_kafka_refuses_is_reported_with_its_name(feed: ReleasePublisher, topic: Topic) -> None:
    topic.refuses = (RefusedRecord(0, "record-too-large", "over the limit"),)
    with pytest.raises(Rejected, match=r"1\.root\.json: over the limit"):
        feed.keep_up()


def test_a_root_that_ends_soon_and_whose_keys_are_away_is_reported_once(
    cloud: Cloud, feed: ReleasePublisher, capsys: pytest.CaptureFixture[str]
) -> None:
    root = cloud.repository._shelf.root().signed
    for keyid in root.roles["root"].keyids:
        (cloud.folder / "keys" / f"{keyid}.pem").unlink()
    cloud.hand.turn(LIFE_S["root"] - WARN_DAYS * DAY_S + DAY_S)
    feed.keep_up()
    feed.keep_up()
    assert capsys.readouterr().out.count("expires soon") == 1
