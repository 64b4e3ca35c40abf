"""Releases from the trainer's disk to an edge and a cloud, over real brokers and two gateways, whatever is killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka_brokers import eventually
from mqtt_brokers import Iotcore, Mosquitto, MqttBroker
from sample_releases import FILES, Cloud, current

from agents.gateway import agent as gateway
from agents.gateway.agent import Gateway
from agents.releases.downloader import Download
from agents.releases.mirror import cloud_source
from agents.releases.publisher import ReleasePublisher
from agents.releases.source import ReleaseSource
from agents.role.presence import endpoint
from models.releases.targets import Current
from pipeline import kafka as kafka_client
from pipeline import topics
from pipeline.clock import SystemClock
from pipeline.errors import Rejected, Retry
from pipeline.kafka import Producer
from pipeline.mqtt import Connection, Message
from pipeline.settings.settings import KafkaSettings, MqttSettings, ReleaseSettings, Settings

BIG = {"sums.bin": bytes(range(256)) * 3000}


class EdgeSide:
    """An edge's uplink, and nothing else of it."""

    def __init__(self, settings: Settings, clock: SystemClock) -> None:
        self.download = Download(settings, settings.releases_root, clock)
        self.connection = Connection(
            endpoint(settings.uplink_mqtt),
            f"test-{settings.site}-uplink",
            subscriptions=self.download.subscriptions,
            handler=self.download,
        )
        self.source = self.download.source

    def start(self) -> None:
        self.connection.start()
        self.download.start(self.connection)

    def stop(self) -> None:
        self.download.stop()
        self.connection.stop()


class World(msgspec.Struct):
    cloud: Cloud
    feed: ReleasePublisher
    producer: Producer
    broker: MqttBroker
    settings: Settings
    edge: EdgeSide
    gateways: list[Gateway]

    def start_gateway(self) -> Gateway:
        role = gateway.build(self.settings)
        role.start()
        self.gateways.append(role)
        return role

    def release(self, version: int, files: dict[str, bytes]) -> None:
        self.cloud.repository.release(version, files, current(version))
        self.feed.send()


BROKERS = [
    pytest.param(Iotcore, id="iotcore"),
    pytest.param(Mosquitto, id="mosquitto", marks=pytest.mark.real),
]


@pytest.fixture(scope="module", params=BROKERS)
def world(request: pytest.FixtureRequest, kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("releases")
    broker: MqttBroker = request.param(tmp_path_factory.mktemp("mqtt"))
    broker.start()
    settings = Settings(
        data=str(folder / "site"),
        mqtt=MqttSettings(address=f"127.0.0.1:{broker.port}"),
        kafka=KafkaSettings(address=kafka.address),
        releases=ReleaseSettings(root=str(folder / "root.json"), bytes_per_s=100_000_000),
    )
    (settings.data_dir / "gateway").mkdir(parents=True)
    kafka_client.create_topics(settings.kafka)
    cloud = Cloud(folder / "cloud", SystemClock())
    (folder / "root.json").write_bytes(cloud.first_root)
    producer = Producer(settings.kafka, "test-trainer")
    feed = ReleasePublisher(cloud.repository, settings.kafka, producer)
    world = World(cloud, feed, producer, broker, settings, EdgeSide(settings, SystemClock()), [])
    feed.send()  # takes back what a test before left in Kafka
    world.start_gateway()
    world.edge.start()
    yield world
    world.edge.stop()
    for role in world.gateways:
        role.stop(3.5)
    producer.close()
    broker.kill()


def updated(source: ReleaseSource, version: int) -> bool:
    """As the updates ask, until this version is what is to serve and all of it is here."""
    try:
        told = source.refresh()
        return told is not None and told.version == version and bool(source.files(version))
    except Retry:
        return False


def test_a_release_reaches_an_edge_and_is_what_was_signed(world: World) -> None:
    world.release(1, dict(FILES))
    eventually(lambda: updated(world.edge.source, 1))
    assert world.edge.source.files(1) == FILES
    assert world.feed.send() == 0


def test_the_next_one_and_a_rollback_follow_with_nothing_restarted(world: World) -> None:
    world.release(2, BIG)
    eventually(lambda: updated(world.edge.source, 2))
    assert world.edge.source.files(2) == BIG
    world.cloud.repository.serve(Current(version=1, why="it fails at night", by="anna"))
    world.feed.send()
    eventually(lambda: updated(world.edge.source, 1))
    told = world.edge.source.refresh()
    assert told is not None and told.why == "it fails at night"


def test_two_gateways_share_the_requests_and_one_may_go(world: World) -> None:
    second = world.start_gateway()
    eventually(lambda: second.health().ready)
    world.release(3, {"sums.bin": b"three" * 30_000})
    eventually(lambda: updated(world.edge.source, 3))
    world.gateways.remove(second)
    second.stop(3.5)
    world.release(4, {"sums.bin": b"four" * 30_000})
    eventually(lambda: updated(world.edge.source, 4))


def test_replaced_metadata_are_retained_no_more_and_a_new_edge_gets_only_what_leads_to_the_newest(
    world: World, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(world.settings, data=str(tmp_path), site="barn")
    metadata = set(world.cloud.repository.published()[0])
    edge = EdgeSide(settings, SystemClock())
    edge.start()
    try:
        eventually(lambda: updated(edge.source, 4))
        eventually(lambda: set(edge.download._inbox._files) == metadata)
    finally:
        edge.stop()


def test_a_broker_that_lost_what_it_retained_is_told_again(world: World, tmp_path: Path) -> None:
    world.broker.kill()
    world.broker.start()
    settings = msgspec.structs.replace(world.settings, data=str(tmp_path), site="shed")
    edge = EdgeSide(settings, SystemClock())
    edge.start()
    try:
        eventually(lambda: updated(edge.source, 4), timeout_s=60)
    finally:
        edge.stop()


def test_the_cloud_follows_kafka_into_a_folder_of_its_own_and_verifies(world: World, tmp_path: Path) -> None:
    settings = msgspec.structs.replace(world.settings, data=str(tmp_path))
    following, source = cloud_source(settings, SystemClock())
    following.start()
    try:
        eventually(lambda: updated(source, 4))
        assert source.files(2) == BIG
        assert source.arrived.wait(10)
        following.caught_up.wait(10)
        world.release(5, dict(FILES))
        eventually(lambda: updated(source, 5))
    finally:
        following.stop()


def test_a_cloud_with_another_root_takes_nothing(world: World, tmp_path: Path) -> None:
    other = Cloud(tmp_path / "other", SystemClock())
    (tmp_path / "root.json").write_bytes(other.first_root)
    settings = msgspec.structs.replace(
        world.settings, data=str(tmp_path), releases=ReleaseSettings(root=str(tmp_path / "root.json"))
    )
    following, source = cloud_source(settings, SystemClock())
    following.start()
    try:
        assert following.caught_up.wait(30)
        with pytest.raises(Rejected) as caught:
            source.refresh()
        assert caught.value.reason == "bad-signature"
    finally:
        following.stop()


@pytest.mark.parametrize("payload", [b"junk", b"\x84\xa6digest\xa3../\xa6offset\x00\xa6length\x01\xa1v\x01"])
def test_a_request_that_is_none_is_counted_and_the_next_one_is_answered(world: World, payload: bytes) -> None:
    world.gateways[0].received([Message(topics.release_want("home"), payload, False)])
    world.release(6 + len(payload) % 2, dict(FILES))
    eventually(lambda: updated(world.edge.source, 6 + len(payload) % 2))
