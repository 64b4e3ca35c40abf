"""What the device agent lets in, and what it says of the rest: all within one commit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from sample_messages import NOW_S, event, event_id, result, settings

from agents.device.inbox import REPEATED_WITHIN_S, Admission
from agents.device.packs import SLICE
from agents.device.readings import Meter
from agents.device.store import ACKS, EDGE, SITE, DeviceStore
from agents.role import outbox
from agents.role.telemetry import Metrics
from models.answering.sightings import Visit
from models.vision import images
from pipeline import ids, messages, readings, topics
from pipeline.clock import HandClock
from pipeline.delivery import Ingest
from pipeline.messages import Ack, EventAck, Privacy, Rank, Refusal, Task, Tier
from pipeline.mqtt import Message
from pipeline.settings.settings import DeviceSettings, StreamSettings
from pipeline.spool import Arrival, Spool

FRAME = topics.frame("home", "cam1", "garden")
READING = topics.reading("home", "room1", "temperature")
JPEG = images.encode_jpeg(np.full((32, 32, 3), 90, np.uint8))


class Inbox(NamedTuple):
    """A device's inbox with all that belongs to it."""

    spool: Spool
    store: DeviceStore
    metrics: Metrics
    ingest: Ingest
    clock: HandClock

    def receive(self, *received: Message) -> None:
        self.ingest.received(received)

    def sent(self, hop: str = ACKS) -> list[msgspec.Struct]:
        return [outbox.opened(out) for out in self.spool.outgoing(hop, 100, NOW_S)]

    def refusals(self) -> list[Refusal]:
        return [each for each in self.sent() if isinstance(each, Refusal)]

    def acks(self) -> list[Ack]:
        return [each for each in self.sent() if isinstance(each, Ack)]


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    temperature = StreamSettings(task=Task.OCCUPANCY, wants=Rank.PATTERN, reading=Privacy.EDGE_PRIVATE, unit="Cel")
    window = StreamSettings(task=Task.METER, wants=Rank.PATTERN, states=("closed", "open"))
    configured = settings(
        streams={"home/room1/temperature": temperature, "home/room1/window": window},
        device=DeviceSettings(spool_mib=1, busy_at=3, busy_after_s=60),
    )
    spool = Spool.open(tmp_path / "spool.db", limit_bytes=1 << 20)
    clock = HandClock(NOW_S)
    store, metrics = DeviceStore(spool, clock), Metrics()
    store.open()
    admission = Admission(configured, spool, store, metrics, clock)
    yield Inbox(spool, store, metrics, Ingest(spool, SITE, admission.admit, admission.committed), clock)
    spool.close()


def test_a_frame_is_stored_and_acknowledged_by_its_digest(inbox: Inbox) -> None:
    inbox.receive(Message(FRAME, JPEG, False))
    (item,) = inbox.spool.waiting(10)
    assert (item.topic, item.payload, item.received_at) == (FRAME, JPEG, NOW_S)
    assert inbox.acks() == [Ack(ids=(item.id,), topic=FRAME, sha256=hashlib.sha256(JPEG).hexdigest())]
    assert inbox.metrics.value("tierwise_events_received_total", stream="home/cam1/garden", channel="frame") == 1


def test_a_reading_keeps_the_id_that_its_publisher_gave_it_and_comes_once(inbox: Inbox) -> None:
    payload = msgspec.json.encode({"value": 21.5, "unit": "Cel", "id": event_id(7)})
    inbox.receive(Message(READING, payload, False), Message(READING, payload, False))
    assert [item.id for item in inbox.spool.waiting(10)] == [event_id(7)]
    assert [ack.ids for ack in inbox.acks()] == [(event_id(7),)]


def test_an_id_that_names_another_event_is_refused_and_not_acknowledged(inbox: Inbox) -> None:
    reading = b'{"value": %%d, "id": "%s"}' % event_id(1).encode()
    inbox.receive(Message(READING, reading % 21, False))
    inbox.receive(Message(READING, reading % 22, False), Message(READING, reading % 21, False))
    elsewhere = topics.reading("home", "room1", "humidity")
    inbox.receive(Message(elsewhere, reading % 21, False))
    assert [(each.reason, each.topic) for each in inbox.refusals()] == [
        ("id-reused", READING),
        ("id-reused", elsewhere),
    ]
    assert [item.payload for item in inbox.spool.waiting(9)] == [reading % 21]
    assert {ack.topic for ack in inbox.acks()} == {READING}
    assert inbox.metrics.value("tierwise_refused_total", reason="id-reused") == 2


def test_an_equal_frame_within_ten_minutes_is_acknowledged_again_and_is_no_other_event(inbox: Inbox) -> None:
    """Its publisher saw no acknowledgement, or published the photo again."""
    for _ in range(3):
        inbox.receive(Message(FRAME, JPEG, False), Message(FRAME, JPEG, False))
        items = inbox.spool.waiting(10)
        with inbox.spool.transaction() as tx:
            tx.finish(*items)
        inbox.clock.turn(REPEATED_WITHIN_S / 2)
        if not items:
            (ack,) = inbox.acks()
            assert ack.repeat
    assert inbox.metrics.value("tierwise_events_received_total", stream="home/cam1/garden", channel="frame") == 6
    (ack,) = inbox.acks()
    inbox.receive(Message(FRAME, JPEG, False))
    (later,) = inbox.spool.waiting(10)
    assert later.id != ack.ids[0]
    assert len(inbox.acks()) == 2


@pytest.mark.parametrize("topic, data", [(topics.frame("home", "cam1", "door"), JPEG), (FRAME, JPEG + b"padding")])
def test_another_topic_or_other_bytes_are_another_event(inbox: Inbox, topic: str, data: bytes) -> None:
    inbox.receive(Message(FRAME, JPEG, False), Message(topic, data, False))
    assert len({item.id for item in inbox.spool.waiting(10)}) == 2


def test_a_frame_may_bring_its_own_id(inbox: Inbox) -> None:
    named = [ids.in_jpeg(JPEG, event_id(number)) for number in (1, 2)]
    inbox.receive(*(Message(FRAME, data, False) for data in named))
    inbox.clock.turn(10 * REPEATED_WITHIN_S)
    inbox.receive(Message(FRAME, named[0], False))
    assert [item.id for item in inbox.spool.waiting(10)] == [event_id(1), event_id(2)]
    assert images.decode(named[0]).shape == images.decode(JPEG).shape
    other = images.encode_jpeg(np.full((32, 32, 3), 9, np.uint8))
    inbox.receive(Message(FRAME, ids.in_jpeg(other, event_id(1)), False))
    assert [each.reason for each in inbox.refusals()] == ["id-reused"]


def test_two_equal_readings_without_ids_are_two_events(inbox: Inbox) -> None:
    inbox.receive(Message(READING, b"21.5", False), Message(READING, b"21.5", False))
    assert len({item.id for item in inbox.spool.waiting(10)}) == 2
    assert len(inbox.acks()) == 2


@pytest.mark.parametrize(
    ("topic", "payload", "retain", "reason"),
    [
        (FRAME, b"", False, "image-empty"),
        (FRAME, b"not a picture", False, "image-unknown-format"),
        (FRAME, JPEG[:20], False, "image-truncated"),
        (FRAME, JPEG, True, "retained"),
        (topics.frame("home", "Käfig", "garden"), JPEG, False, "odd-name"),
        (topics.frame("home", "cam1", "uplink"), JPEG, False, "odd-name"),
        (READING, b"21.5", True, "retained"),
        (READING, b'{"value": 3, "unit": "lx"}', False, "wrong-unit"),
    ],
)
def test_bad_input_is_refused_with_its_reason_and_nothing_is_stored(
    inbox: Inbox, topic: str, payload: bytes, retain: bool, reason: str
) -> None:
    inbox.receive(Message(topic, payload, retain))
    (published,) = inbox.refusals()
    assert (published.reason, published.topic, published.size_bytes) == (reason, topic, len(payload))
    assert published.detail
    assert inbox.spool.waiting(10) == []
    assert inbox.metrics.value("tierwise_refused_total", reason=reason) == 1


def test_bad_input_holds_up_nothing_beside_it(inbox: Inbox) -> None:
    inbox.receive(Message(FRAME, b"bad", False), Message(FRAME, JPEG, False), Message(READING, b"x", False))
    assert [item.payload for item in inbox.spool.waiting(10)] == [JPEG]
    assert len(inbox.refusals()) == 2


def pack_of(*records: dict[str, object]) -> bytes:
    return msgspec.json.encode(records)


def stored(inbox: Inbox) -> dict[str, list[float]]:
    """The readings that wait, by stream."""
    found: dict[str, list[float]] = {}
    for item in inbox.spool.waiting(99):
        read = readings.unpacked(item.payload, received_s=NOW_S)
        found.setdefault(item.topic.rpartition("/")[2], []).extend(each.value for each in read)
    return found


def test_the_names_in_a_pack_are_streams_of_its_device(inbox: Inbox) -> None:
    pack = pack_of(
        {"bn": "urn:dev:ow:10e2:", "bver": 10.0, "n": "temperature", "u": "Cel", "v": 21.5},
        {"n": "Rel.Humidity", "u": "%RH", "v": 40},
        {"n": "window", "vb": True},
        {"n": "temperature", "u": "F", "v": 68},
    )
    inbox.receive(Message(READING, pack, False))
    assert stored(inbox) == {"temperature": [21.5, 20.0], "rel-humidity": [40.0], "window": [1.0]}
    (ack,) = inbox.acks()
    assert ack.sha256 == hashlib.sha256(pack).hexdigest()


def test_a_pack_with_one_name_is_the_topics_stream(inbox: Inbox) -> None:
    inbox.receive(Message(READING, pack_of({"bn": "urn:dev:mac:00:", "n": "t", "v": 1}, {"n": "t", "v": 2}), False))
    assert stored(inbox) == {"temperature": [1.0, 2.0]}


def test_two_devices_in_a_pack_stay_apart(inbox: Inbox) -> None:
    inbox.receive(Message(READING, pack_of({"n": "a/t", "v": 1}, {"n": "b/t", "v": 2}), False))
    assert stored(inbox) == {"a-t": [1.0], "b-t": [2.0]}


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ({"n": "window", "vs": "ajar"}, "unknown-state"),
        ({"n": "note", "vs": "a text"}, "not-a-number"),
        ({"n": "temperature", "u": "lx", "v": 3}, "wrong-unit"),
        ({"n": "h", "v": "40"}, "not-a-number"),
        ({"n": "h", "s": 40}, "senml-sum"),
        ({"n": "h", "vd": "AA"}, "senml-data-value"),
        ({"n": "h", "vb": 1}, "senml-invalid"),
        ({"n": "ü", "v": 1}, "senml-invalid"),
        ({"n": "uplink", "v": 1}, None),
        ({"n": "h", "v": 1, "t": "now"}, "not-a-number"),
    ],
)
def test_one_odd_record_is_refused_and_not_its_pack(inbox: Inbox, odd: dict[str, object], reason: str | None) -> None:
    pack = pack_of({"n": "temperature", "v": 21.5}, odd, {"n": "humidity", "v": 40})
    inbox.receive(Message(READING, pack, False))
    assert len(inbox.acks()) == 1
    assert stored(inbox)["humidity"] == [40.0]
    assert [each.reason for each in inbox.refusals()] == ([reason] if reason else [])
    for refusal in inbox.refusals():
        assert refusal.detail.startswith("record 2 of the pack")
        assert ("(window)" in refusal.detail) is (odd["n"] == "window")
        assert refusal.sha256 != hashlib.sha256(pack).hexdigest(), "the pack itself is not refused"


def test_a_pack_in_which_every_record_is_odd_is_refused(inbox: Inbox) -> None:
    inbox.receive(Message(READING, pack_of({"n": "a", "vs": "a text"}, {"n": "b", "vs": "another"}), False))
    assert [(each.reason, each.topic) for each in inbox.refusals()] == [("not-a-number", READING)]
    assert inbox.acks() == []


def test_a_large_pack_is_stored_in_slices_and_known_again(inbox: Inbox) -> None:
    pack = pack_of(*({"n": name, "v": number, "t": number - 2200} for number in range(1100) for name in ("t", "h")))
    inbox.receive(Message(READING, pack, False), Message(READING, b"21", False))
    items = inbox.spool.waiting(99)
    assert max(len(readings.unpacked(item.payload, received_s=NOW_S)) for item in items) == SLICE
    assert len(items) == 2 * 11 + 1 and len({item.id for item in items}) == len(items)
    first = inbox.acks()[0]
    assert first.ids == (items[0].id,), "the pack's id names the event of its first reading"
    inbox.ingest.connected(session_present=True)
    inbox.receive(Message(READING, pack, False))
    assert inbox.spool.waiting(99) == [], "a redelivered pack is not stored again"
    assert [ack.ids for ack in inbox.acks()].count(first.ids) == 1


def test_the_slices_of_a_pack_share_no_id_with_its_readings(inbox: Inbox) -> None:
    """Without times of their own, all are named by the pack's id, its time of receipt and a number."""
    inbox.receive(Message(READING, pack_of(*({"v": number} for number in range(3 * SLICE))), False))
    items = inbox.spool.waiting(9)
    by_number = {ids.derived(NOW_S, items[0].id, str(number)) for number in range(SLICE)}
    assert len(items) == 3
    assert not by_number & {item.id for item in items}


def test_a_sensor_cannot_send_the_agents_own_form(inbox: Inbox) -> None:
    inbox.receive(Message(READING, readings.packed([readings.Reading(1.0, None, NOW_S)]), False))
    assert len(inbox.refusals()) == 1
    assert inbox.spool.waiting(9) == []


def test_a_full_store_refuses_what_is_new_and_says_what_to_do(inbox: Inbox) -> None:
    inbox.spool.receive([Arrival(FRAME, b"x" * (2 << 20), NOW_S)])
    inbox.receive(Message(FRAME, JPEG, False))
    (published,) = inbox.refusals()
    assert published.reason == "store-full"
    assert "device.spool_mib" in published.detail
    with inbox.spool.transaction() as tx:
        tx.finish(*inbox.spool.waiting(9))
    inbox.receive(Message(FRAME, JPEG, False))
    assert len(inbox.acks()) == 1, "it takes new input again by itself"


def test_a_full_store_still_acknowledges_a_repeat(inbox: Inbox) -> None:
    payload = msgspec.json.encode({"value": 21.5, "unit": "Cel", "id": event_id(7)})
    inbox.receive(Message(READING, payload, False))
    inbox.spool.receive([Arrival(FRAME, b"x" * (2 << 20), NOW_S)])
    inbox.spool.settle(ACKS, [f"ack/{event_id(7)}"])
    inbox.receive(Message(READING, payload, False))
    assert [ack.ids for ack in inbox.acks()] == [(event_id(7),)]
    assert inbox.refusals() == []


def test_an_acknowledgement_of_the_edge_settles_what_waited_for_it(inbox: Inbox) -> None:
    sent = [event(result(event_id(number))) for number in (1, 2)]
    with inbox.spool.transaction() as tx:
        for each in sent:
            inbox.store.send_event(each, tx)
    ack = messages.encode(EventAck(ids=(f"{event_id(1)}/1", "of nobody")))
    inbox.receive(Message(topics.event_ack("home", "cam1"), ack, False))
    assert inbox.sent(EDGE) == [sent[1]]


@pytest.mark.parametrize("privacy", list(Privacy))
def test_an_answer_of_the_edge_ends_the_wait_for_it(inbox: Inbox, privacy: Privacy) -> None:
    with inbox.spool.transaction() as tx:
        inbox.store.await_answer(event(result(event_id())), NOW_S + 10, tx)
    assert [late.result.event for late in inbox.store.overdue(NOW_S + 10, 5)] == [event_id()]
    answer = result(event_id(), tier=Tier.EDGE, revision=2, privacy=privacy)
    inbox.receive(Message(topics.result("home", "cam1", Tier.EDGE, privacy), messages.encode(answer), False))
    assert inbox.store.overdue(NOW_S + 10, 5) == []


@pytest.mark.parametrize(
    "topic", [topics.event_ack("home", "cam1"), topics.result("home", "cam1", Tier.EDGE, Privacy.PUBLIC)]
)
def test_an_agents_message_that_is_not_understood_is_counted_and_told_to_nobody(inbox: Inbox, topic: str) -> None:
    inbox.receive(Message(topic, b"\xff\xff", False))
    assert inbox.sent() == []
    assert inbox.metrics.value("tierwise_refused_total", reason="malformed") == 1


def test_a_topic_of_another_form_is_let_pass_by(inbox: Inbox) -> None:
    inbox.receive(Message("elsewhere", b"x", False))
    assert inbox.sent() == []
    assert inbox.spool.waiting(10) == []


def test_a_user_private_answer_goes_to_its_user_and_not_to_the_edge(inbox: Inbox) -> None:
    answer = result(event_id(), privacy=Privacy.USER_PRIVATE)
    with inbox.spool.transaction() as tx:
        inbox.store.send_result(answer, tx)
        inbox.store.send_event(event(answer), tx)
    assert [out.topic for out in inbox.spool.outgoing(SITE, 10, NOW_S)] == [
        topics.result("home", "cam1", Tier.DEVICE, Privacy.USER_PRIVATE)
    ]
    assert inbox.spool.backlog(EDGE) == 0


def test_each_start_has_a_higher_number_than_the_one_before(inbox: Inbox) -> None:
    assert inbox.store.open() < inbox.store.open()


def test_a_sensor_takes_no_frames(inbox: Inbox) -> None:
    inbox.receive(Message(topics.frame("home", "room1", "temperature"), JPEG, False))
    assert [refusal.reason for refusal in inbox.refusals()] == ["wrong-task"]


def test_frames_and_readings_under_one_name_are_remembered_apart(inbox: Inbox) -> None:
    camera, sensor = (topics.Parsed("home", "cam9", channel, "yard") for channel in ("frame", "reading"))
    visit = Visit(id=event_id(1), label="animal", last_s=NOW_S)
    with inbox.spool.transaction() as tx:
        inbox.store.remember(camera, 5, visit, NOW_S, tx)
        inbox.store.remember(sensor, 7, Meter(), NOW_S, tx)
    assert inbox.store.recall(camera, Visit) == (5, visit)
    assert inbox.store.recall(sensor, Meter) == (7, Meter())


def test_what_another_release_remembered_is_forgotten_and_the_order_goes_on(inbox: Inbox) -> None:
    stream = topics.Parsed("home", "cam9", "frame", "yard")
    with inbox.spool.transaction() as tx:
        inbox.store.remember(stream, 5, Meter(), NOW_S, tx)
    assert inbox.store.recall(stream, Visit) == (5, None)


def test_streams_that_said_nothing_for_long_are_forgotten(inbox: Inbox) -> None:
    stream = topics.Parsed("home", "cam9", "frame", "yard")
    with inbox.spool.transaction() as tx:
        inbox.store.remember(stream, 5, Meter(), NOW_S, tx)
    inbox.store.forget(NOW_S + 1)
    assert inbox.store.recall(stream, Meter) == (0, None)


def jpeg(shade: int) -> bytes:
    return images.encode_jpeg(np.full((32, 32, 3), shade, np.uint8))


def test_frames_beyond_a_streams_backlog_are_refused_as_busy_before_they_are_stored(inbox: Inbox) -> None:
    inbox.receive(*(Message(FRAME, jpeg(shade), False) for shade in (10, 60, 110, 160, 210)))
    assert [item.payload for item in inbox.spool.waiting(9)] == [jpeg(10), jpeg(60), jpeg(110)]
    assert [(each.reason, each.sha256) for each in inbox.refusals()] == [
        ("busy", hashlib.sha256(jpeg(shade)).hexdigest()) for shade in (160, 210)
    ]
    assert len(inbox.acks()) == 3


def test_a_busy_stream_takes_frames_again_once_one_is_answered(inbox: Inbox) -> None:
    inbox.receive(*(Message(FRAME, jpeg(shade), False) for shade in (10, 60, 110)))
    with inbox.spool.transaction() as tx:
        tx.finish(*inbox.spool.waiting(1))
    inbox.receive(Message(FRAME, jpeg(160), False), Message(FRAME, jpeg(210), False))
    assert [each.reason for each in inbox.refusals()] == ["busy"]
    assert [item.payload for item in inbox.spool.waiting(9)] == [jpeg(60), jpeg(110), jpeg(160)]


def test_a_stream_is_busy_while_its_oldest_frame_waits_for_too_long(inbox: Inbox) -> None:
    inbox.receive(Message(FRAME, jpeg(10), False))
    inbox.clock.turn(61)
    inbox.receive(Message(FRAME, jpeg(60), False))
    assert [each.reason for each in inbox.refusals()] == ["busy"]


def test_a_busy_camera_refuses_no_frame_of_another_and_no_reading(inbox: Inbox) -> None:
    inbox.receive(*(Message(FRAME, jpeg(shade), False) for shade in (10, 60, 110, 160)))
    inbox.receive(Message(topics.frame("home", "cam2", "gate"), jpeg(10), False), Message(READING, b"21", False))
    assert [each.topic for each in inbox.refusals()] == [FRAME]
    assert len(inbox.acks()) == 5
