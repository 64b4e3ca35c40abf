"""The gateway between real brokers: what Kafka has is acknowledged, what it may not have is refused, answers come
back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka_brokers import eventually
from mqtt_brokers import Iotcore
from sample_messages import NOW_S, event_id, result

from agents.gateway import agent as gateway
from agents.gateway.agent import Gateway
from agents.gateway.uplink import check_site
from agents.role import outbox
from pipeline import clock, kafka, messages, records, topics
from pipeline.clock import HandClock
from pipeline.errors import Rejected, Retry
from pipeline.kafka import Consumer, Fetched, Producer
from pipeline.messages import (
    Downlink,
    DownlinkAck,
    Envelope,
    Feature,
    Kind,
    Privacy,
    Rank,
    Refusal,
    SightingReport,
    Tier,
    UplinkAck,
    UplinkBatch,
    downlink_id,
)
from pipeline.mqtt import Connection, Endpoint, Message
from pipeline.privacy import gate
from pipeline.settings.settings import KafkaSettings, MqttSettings, Settings
from pipeline.spool import Spool
from pipeline.topics import Header


def envelope(number: int, site: str = "home", **changes: object) -> Envelope:
    payload = Feature(
        data=bytes(16),
        sighting="",
        wants=Rank.SPECIES,
        revision=2,
        path=("animal",),
        probability=0.9,
        latency_ms=1.0,
    )
    fields: dict[str, object] = {
        "event": event_id(number),
        "kind": Kind.FEATURE,
        "privacy": Privacy.PUBLIC,
        "key": f"{site}/cam1",
        "payload": messages.encode(payload),
        "source": f"{site}/cam1/garden",
        "time": clock.rfc3339(NOW_S),
        "space": "s1",
    }
    return Envelope(**(fields | changes))  # type: ignore[arg-type]


class Site:
    """An edge's side of the uplink: keeps what comes."""

    def __init__(self, endpoint: Endpoint, name: str) -> None:
        self.name = name
        self.heard: list[Message] = []
        subscriptions = [topics.uplink_ack(name), topics.downlink(name), topics.rejected(name, "+")]
        self.connection = Connection(
            endpoint, f"test-{name}", subscriptions=subscriptions, handler=self, persistent=False
        )

    def connected(self, session_present: bool) -> int:
        return 0

    def received(self, batch: Sequence[Message]) -> int:
        self.heard += batch
        return 0

    def confirmed(self, mark: int) -> None:
        """Nothing is kept."""

    def send(self, *envelopes: Envelope) -> None:
        """As the edge does, through the gate."""
        batch = UplinkBatch(site=self.name, envelopes=envelopes)
        self.connection.publish(gate.clear(batch, topics.uplink(self.name), to=Tier.CLOUD))

    def acks(self) -> list[UplinkAck]:
        return [messages.decode(UplinkAck, m.payload) for m in self.heard if m.topic == topics.uplink_ack(self.name)]

    def refusals(self) -> list[Refusal]:
        return [messages.decode(Refusal, m.payload) for m in self.heard if topics.parse(m.topic) is not None]

    def answers(self) -> list[str]:
        downs = [messages.decode(Downlink, m.payload) for m in self.heard if m.topic == topics.downlink(self.name)]
        return [downlink_id(told) for down in downs for told in down.results]


class Between(msgspec.Struct):
    """A running gateway and the site that it serves."""

    gateway: Gateway
    site: Site
    settings: Settings
    broker: Iotcore

    def in_kafka(self, topic: str, count: int) -> list[kafka.Fetched]:
        """All records of a topic once there are so many."""
        consumer = Consumer(self.settings.kafka, [topic], f"test-{topic}-{count}", "test")
        found: list[kafka.Fetched] = []

        def enough() -> bool:
            found.extend(consumer.poll())
            return len(found) >= count

        eventually(enough)
        consumer.close()
        return found


@pytest.fixture(scope="module")
def between(kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Between]:
    broker = Iotcore(tmp_path_factory.mktemp("mqtt"))
    broker.start()
    settings = Settings(
        data=str(tmp_path_factory.mktemp("gateway")),
        mqtt=MqttSettings(address=f"127.0.0.1:{broker.port}"),
        kafka=KafkaSettings(address=kafka.address),
    )
    (settings.data_dir / "gateway").mkdir()
    create(settings)
    role, site = gateway.build(settings), Site(broker.endpoint, "home")
    role.start()
    site.connection.start()
    assert site.connection.wait_connected(10)
    eventually(lambda: role.health().ready)
    yield Between(role, site, settings, broker)
    role.stop(3.5)
    site.connection.stop()
    broker.kill()


def create(settings: Settings) -> None:
    kafka.create_topics(settings.kafka)


def test_a_batch_is_acknowledged_once_kafka_has_every_record_of_it(between: Between) -> None:
    sent = [envelope(number) for number in range(3)]
    between.site.send(*sent)
    eventually(between.site.acks)
    assert between.site.acks()[0] == UplinkAck(ids=tuple(each.id for each in sent))
    stored = [records.from_record(r.headers, r.key, r.value) for r in between.in_kafka(topics.INGEST, 3)]
    assert {each.id for each in stored} >= {each.id for each in sent}
    assert sorted(each.id for each in stored if each in sent) == sorted(each.id for each in sent)


def test_a_repeated_batch_is_acknowledged_again(between: Between) -> None:
    for count in (1, 2):
        between.site.send(envelope(10))
        eventually(lambda count=count: sum(envelope(10).id in ack.ids for ack in between.site.acks()) == count)


def test_batches_that_wait_together_are_one_delivery_and_one_acknowledgement(
    between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver, deliveries = between.gateway._producer.deliver, []
    monkeypatch.setattr(between.gateway._producer, "deliver", lambda sent: deliveries.append(sent) or deliver(sent))
    batches = [UplinkBatch(site="home", envelopes=(envelope(number),)) for number in range(70, 73)]
    between.gateway.received([Message(topics.uplink("home"), messages.encode(batch), False) for batch in batches])
    expected = UplinkAck(ids=tuple(envelope(number).id for number in range(70, 73)))
    eventually(lambda: expected in between.site.acks())
    assert len(deliveries) == 1


def test_a_message_that_breaks_the_delivery_is_refused_and_those_beside_it_are_delivered(
    between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver = between.gateway._producer.deliver
    bad, good = envelope(80), envelope(81)

    def broken(sent: Sequence[gate.ClearedRecord]) -> Sequence[kafka.RefusedRecord]:
        if any((Header.ID, bad.event.encode()) in record.headers for record in sent):
            raise TypeError("a bug")
        return deliver(sent)

    monkeypatch.setattr(between.gateway._producer, "deliver", broken)
    batches = [UplinkBatch(site="home", envelopes=(each,)) for each in (bad, good)]
    between.gateway.received([Message(topics.uplink("home"), messages.encode(batch), False) for batch in batches])
    eventually(lambda: UplinkAck(ids=(good.id,)) in between.site.acks())
    eventually(lambda: any(refusal.reason == "internal-error" for refusal in between.site.refusals()))


def test_a_message_that_is_no_batch_is_refused_without_its_content_and_the_next_one_is_taken(
    between: Between,
) -> None:
    canary = b"\xffCANARY of the payload"
    between.gateway.received([Message(topics.uplink("home"), canary, False)])
    eventually(lambda: any(told.reason == "malformed" for told in between.site.refusals()))
    rejected = between.in_kafka(topics.REJECTED, 1)
    assert not any(b"CANARY" in (record.value or b"") for record in rejected)
    between.site.send(envelope(20))
    eventually(lambda: any(envelope(20).id in ack.ids for ack in between.site.acks()))


def test_what_may_not_be_in_the_cloud_is_refused_and_the_rest_of_its_batch_is_taken(between: Between) -> None:
    """A gate stands here, too: an edge that sent these is broken, or none of ours."""
    private = envelope(31, privacy=Privacy.EDGE_PRIVATE)
    foreign = envelope(32, site="elsewhere")
    good = envelope(33)
    batch = UplinkBatch(site="home", envelopes=(private, foreign, good))
    between.gateway.received([Message(topics.uplink("home"), messages.encode(batch), False)])
    eventually(lambda: any(good.id in ack.ids for ack in between.site.acks()))
    ack = next(ack for ack in between.site.acks() if good.id in ack.ids)
    assert ack == UplinkAck(ids=(good.id,), refused=(private.id, foreign.id))
    eventually(lambda: {"withheld", "other-site"} <= {told.reason for told in between.site.refusals()})


@pytest.mark.slow
def test_an_answer_of_the_cloud_goes_to_its_site_until_the_site_has_it(between: Between) -> None:
    told = result(event_id(40), tier=Tier.CLOUD, revision=3, pending=None)
    produce(between.settings, told)
    eventually(lambda: downlink_id(told) in between.site.answers())
    spool = between.gateway._spool
    assert spool.backlog(gateway.DOWN) == 1
    ack = DownlinkAck(ids=(downlink_id(told),))
    between.site.connection.publish(gate.clear(ack, topics.downlink_ack("home"), to=Tier.CLOUD))
    eventually(lambda: spool.backlog(gateway.DOWN) == 0)


def produce(settings: Settings, told: messages.Result) -> None:
    """Put an answer onto the results topic, as the cloud agent does."""
    record = Envelope(
        event=told.event,
        kind=Kind.RESULT,
        privacy=told.privacy,
        key="home/cam1",
        payload=messages.encode(told),
        source=told.source,
        time=told.time,
        revision=told.revision,
    )
    producer = Producer(settings.kafka, "test")
    assert producer.deliver([gate.clear_record(record, topics.RESULTS)]) == ()
    producer.close()


# --- decisions -------------------------------------------------------------------------------------------------


class AwayProducer:
    """Kafka cannot be reached: what `pipeline.kafka.Producer` says then."""

    def deliver(self, cleared: Sequence[object]) -> tuple[()]:
        raise Retry("Kafka at 127.0.0.1:1 does not answer")


def test_while_kafka_is_away_nothing_is_acknowledged_and_health_says_why() -> None:
    role = Gateway(Settings(), HandClock(NOW_S))
    role._producer = AwayProducer()  # type: ignore[assignment]
    batch = UplinkBatch(site="home", envelopes=(envelope(1),))
    with pytest.raises(Retry):
        role.received([Message(topics.uplink("home"), messages.encode(batch), False)])
    assert "does not answer" in role._kafka


class Answers:
    """A consumer of the results topic that does what it is told, one step a poll, and then ends its gateway."""

    def __init__(self, role: Gateway, *steps: Callable[[], Sequence[Fetched]]) -> None:
        self.role = role
        self.steps = list(steps)
        self.commits: list[int] = []
        """The outbox's backlog at each."""

    def poll(self) -> Sequence[Fetched]:
        if not self.steps:
            self.role._stop.set()
            return ()
        return self.steps.pop(0)()

    def commit(self) -> bool:
        self.commits.append(self.role._spool.backlog(gateway.DOWN))
        if len(self.commits) == 1:
            raise Retry("Kafka went away before the commit")
        return True

    def close(self) -> None:
        """Nothing is open."""


class Idle:
    """Of the gateway's connection and sender, what starts."""

    def start(self) -> None:
        """Nothing is sent."""


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """A gateway that reads answers, connected to nothing."""
    role = Gateway(Settings(), HandClock(NOW_S))
    role._spool = Spool.open(tmp_path / "spool.db", limit_bytes=1 << 20)
    role._mqtt = role._sender = Idle()  # type: ignore[assignment]
    monkeypatch.setattr(gateway, "await_topics", lambda *_: True)
    monkeypatch.setattr(gateway, "RETRY_S", 0.0)
    yield role
    role._spool.close()


def fetched(number: int) -> Sequence[Fetched]:
    told = result(event_id(number), tier=Tier.CLOUD, revision=3, pending=None)
    record = gate.clear_record(records.answer_envelope(told), topics.RESULTS)
    return [Fetched(topics.RESULTS, 0, number, 0, record.key, record.value, record.headers)]


def test_a_busy_outbox_or_a_lost_commit_loses_no_answer(reader: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(reader, lambda: fetched(1), lambda: fetched(2))
    monkeypatch.setattr(gateway, "Consumer", lambda *_: answers)
    queue, busy = reader._queue, iter([True])

    def queued(*arguments: Any) -> None:
        if next(busy, False):
            raise Retry("the disk is full")
        queue(*arguments)

    monkeypatch.setattr(reader, "_queue", queued)
    reader._read_results()
    assert answers.commits == [1, 2]


def test_nothing_is_read_while_more_than_enough_waits_for_sites_that_are_away(reader: Gateway) -> None:
    answers = Answers(reader, lambda: fetched(1))
    reader._spool.limit_bytes = 0
    with pytest.raises(Retry, match="wait for sites that are away"):
        reader._poll(answers)  # type: ignore[arg-type]
    reader._spool.limit_bytes = 1
    assert reader._poll(answers) == fetched(1)  # type: ignore[arg-type]


def test_an_answer_is_given_up_when_its_site_stayed_away_for_a_week(reader: Gateway) -> None:
    for age_s in (gateway.KEEP_S + 1, gateway.KEEP_S - 1):
        with reader._spool.transaction() as tx:
            told = result(event_id(int(age_s)))
            tx.send(outbox.outgoing(told, hop=gateway.DOWN, topic="t", id=told.event, now_s=NOW_S - age_s))
    reader._maintain()
    assert reader._spool.backlog(gateway.DOWN) == 1


@pytest.mark.parametrize(
    ("source", "batch_site", "topic_site"),
    [
        ("elsewhere/cam1/garden", "home", "home"),
        ("home/cam1/garden", "elsewhere", "home"),
        ("", "elsewhere", "home"),
    ],
)
def test_a_site_speaks_for_itself_alone(source: str, batch_site: str, topic_site: str) -> None:
    with pytest.raises(Rejected) as caught:
        check_site(envelope(1, source=source), batch_site, topic_site)
    assert caught.value.reason == "other-site"


def test_a_private_record_that_tells_no_source_is_taken_from_its_site() -> None:
    check_site(envelope(1, source=""), "home", "home")
    check_site(envelope(1), "home", "home")


def sighting(site: str, device: str = "cam1") -> bytes:
    return messages.encode(
        SightingReport(
            sighting=event_id(1),
            time=clock.rfc3339(NOW_S),
            until=clock.rfc3339(NOW_S),
            site=site,
            device=device,
            stream="garden",
            revision=1,
            rank=Rank.FAMILY,
            label="Felidae",
            path=("animal", "Felidae"),
            probability=0.9,
            frames=1,
            agree=1,
            privacy=Privacy.PUBLIC,
            closed=True,
            rule="consensus",
            model="lite0@1",
        )
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": Kind.RESULT, "payload": sighting("home")}, None),
        ({"kind": Kind.RESULT, "payload": sighting("barn")}, "other-site"),
        ({"kind": Kind.RESULT, "payload": sighting("home", "cam2")}, "other-site"),
        ({"kind": Kind.RESULT, "payload": messages.encode(result(event_id(1)))}, "not-a-sighting"),
        ({"source": "home/+/garden"}, "odd-name"),
        ({"source": "home/cam1"}, "odd-name"),
        ({"key": "home/cam2"}, "wrong-key"),
    ],
)
def test_a_site_speaks_for_itself_alone_also_within_what_it_sends(
    changes: dict[str, object], reason: str | None
) -> None:
    told = envelope(1, **changes)
    if reason is None:
        check_site(told, "home", "home")
        return
    with pytest.raises(Rejected) as refused:
        check_site(told, "home", "home")
    assert refused.value.reason == reason
