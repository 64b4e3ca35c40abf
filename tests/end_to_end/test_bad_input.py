"""Bad input to the real processes: each is refused with its reason and counted, or handled; nobody ends, nothing else
is lost."""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Iterator

import cv2
import msgspec
import numpy as np
import pytest
from kafka_brokers import eventually
from paho.mqtt.client import Client, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from stack import GARDEN, PATIENCE_S, SITE, Capture, Listener, Stack, cat, cats, jpeg, photo

from models.vision import images
from pipeline import clock, ids, topics
from pipeline.messages import Envelope, Kind, Privacy, Rank, Tier, UplinkBatch, encode
from pipeline.readings import TIME_IMPLAUSIBLE
from pipeline.records import to_record
from pipeline.topics import Header

pytestmark = pytest.mark.e2e

MIB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def _nobody_ends(request: pytest.FixtureRequest) -> Iterator[None]:
    """After all that this file does, the same processes run, and a good photo is answered by all tiers."""
    stack: Stack = request.getfixturevalue("stage").shared()
    before = stack.pids()
    assert all(before.values())
    yield
    assert stack.pids() == before
    with stack.listen() as listener:
        event = listener.capture(GARDEN, jpeg(photo("chelsea.png"), quality=71))
        listener.last_word(event, Tier.CLOUD)


# --- frames ----------------------------------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says how large it is."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def filled_up(picture: bytes, size: int) -> bytes:
    """The same JPEG with so many bytes behind its end, as cameras append previews and films."""
    return picture + bytes(size - len(picture))


REFUSED_FRAMES = {
    "image-truncated": lambda: cat()[: len(cat()) // 2],
    "image-empty": lambda: b"",
    "image-too-large": lambda: filled_up(cat(), 16 * MIB + MIB // 2),
    "image-too-small": lambda: jpeg(np.full((1, 1, 3), 127, np.uint8)),
    "image-too-many-pixels": lambda: png_header(30_000, 30_000),
    "image-unknown-format": lambda: b"GIF89a" + bytes(100),
    "image-damaged": lambda: b"\xff\xd8" + b"no marker stands here" + b"\xff\xd9",
}


@pytest.mark.parametrize("reason", REFUSED_FRAMES)
def test_a_bad_frame_is_refused_with_its_reason_and_counted(reason: str, shared: Stack, listener: Listener) -> None:
    counted = shared.metric("device", "tierwise_refused_total", reason=reason)
    frame = REFUSED_FRAMES[reason]()
    listener.publish(GARDEN, frame)
    topic, refusal = listener.refused(frame)
    assert (topic, refusal.reason) == (topics.rejected(SITE, "cam1"), reason)
    assert (refusal.topic, refusal.size_bytes) == (GARDEN, len(frame))
    assert shared.metric("device", "tierwise_refused_total", reason=reason) == counted + 1


def with_exif_orientation(picture: bytes, orientation: int) -> bytes:
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\0\0" + tiff
    return picture[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + picture[2:]


def as_cmyk(grey: bytes) -> bytes:
    """A CMYK JPEG out of a baseline grey one: its one scan four times, once for each colour (ITU-T T.81, B.2)."""
    at, head, tables = 2, grey[:2], b""
    while grey[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", grey, at + 2)
        segment = grey[at : at + 2 + length]
        if grey[at + 1] == 0xC0:
            precision_and_size = segment[4:9]
            parts = b"".join(bytes((number, 0x11, 0)) for number in (1, 2, 3, 4))
            tables += b"\xff\xc0" + struct.pack(">H", 8 + 12) + precision_and_size + b"\x04" + parts
        elif grey[at + 1] in (0xDB, 0xC4):
            tables += segment
        at += 2 + length
    (length,) = struct.unpack_from(">H", grey, at + 2)
    coded = grey[at + 2 + length : -2]
    adobe = b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 0)
    head += b"\xff\xee" + struct.pack(">H", len(adobe) + 2) + adobe
    scans = [b"\xff\xda\x00\x08\x01" + bytes((number, 0x00, 0, 63, 0)) + coded for number in (1, 2, 3, 4)]
    return head + tables + b"".join(scans) + b"\xff\xd9"


def png(picture: images.Picture) -> bytes:
    return cv2.imencode(".png", picture)[1].tobytes()


HANDLED_FRAMES = {
    "PNG with alpha": lambda: png(cv2.cvtColor(photo("chelsea.png"), cv2.COLOR_BGR2BGRA)),
    "grey JPEG": lambda: jpeg(cv2.cvtColor(photo("chelsea.png"), cv2.COLOR_BGR2GRAY)),
    "CMYK JPEG": lambda: as_cmyk(jpeg(cv2.cvtColor(photo("chelsea.png"), cv2.COLOR_BGR2GRAY))),
    "EXIF rotation": lambda: with_exif_orientation(
        jpeg(cv2.rotate(photo("chelsea.png"), cv2.ROTATE_90_COUNTERCLOCKWISE)), 6
    ),
    "bytes behind the end": lambda: filled_up(cat(), len(cat()) + 4096),
}


@pytest.mark.parametrize("frame", HANDLED_FRAMES)
def test_an_unusual_frame_is_answered_as_what_it_shows(frame: str, listener: Listener) -> None:
    event = listener.capture(GARDEN, HANDLED_FRAMES[frame]())
    last = listener.wait(
        lambda: next((r for r in listener.answers(event) if r.pending is None), None),
        f"the answer of a {frame}",
    )
    assert last.path[:1] == ("animal",)


def test_a_publisher_of_50_mb_is_cut_off_and_nobody_else_notices(shared: Stack, listener: Listener) -> None:
    cut: list[ReasonCode] = []

    def on_disconnect(
        _client: Client,
        _data: None,
        _flags: DisconnectFlags,
        code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        cut.append(code)

    publisher = Client(CallbackAPIVersion.VERSION2, "fifty-megabytes")
    publisher.on_disconnect = on_disconnect
    publisher.connect("127.0.0.1", shared.settings.mqtt.port)
    publisher.publish(GARDEN, filled_up(cat(), 50 * MIB), qos=1)
    deadline = time.monotonic() + PATIENCE_S
    while not cut and time.monotonic() < deadline:
        publisher.loop(0.1)
    publisher.disconnect()
    assert cut
    event = listener.capture(GARDEN, cats(1)[0])
    assert listener.wait(lambda: listener.answers(event), "an answer to somebody else")


# --- readings --------------------------------------------------------------------------------------------------

TEMPERATURE = topics.reading(SITE, "room1", "temperature")
POWER = topics.reading(SITE, "meter", "power")
"""What is good goes there: the room's windows are another test's."""

REFUSED_READINGS = [
    (b"NaN", "not-finite"),
    (b"1e400", "not-finite"),
    (b'{"value": 1e400}', "not-finite"),
    (b"-Infinity", "not-finite"),
    (b"warm", "not-a-number"),
    (b'{"value": "21.5"}', "not-a-number"),
    (b'{"value": 430, "unit": "lx"}', "wrong-unit"),
    (b'{"value": 21.5', "not-json"),
    (b"[" * 10_000, "nested-too-deep"),
    (b"", "reading-empty"),
    (b"\xff\xfe", "not-text"),
    (b'[{"n": "door", "vs": "open"}]', "not-a-number"),
    (b"2" * (64 << 10) + b"1", "reading-too-large"),
]


@pytest.mark.parametrize(("payload", "reason"), REFUSED_READINGS, ids=lambda value: str(value)[:24])
def test_a_bad_reading_is_refused_with_its_reason_and_counted(
    payload: bytes, reason: str, shared: Stack, listener: Listener
) -> None:
    counted = shared.metric("device", "tierwise_refused_total", reason=reason)
    listener.publish(TEMPERATURE, payload)
    topic, refusal = listener.refused(payload)
    assert (topic, refusal.reason, refusal.topic) == (topics.rejected(SITE, "room1"), reason, TEMPERATURE)
    assert shared.metric("device", "tierwise_refused_total", reason=reason) == counted + 1


def test_a_reading_from_the_future_is_kept_at_the_time_of_its_receipt_and_flagged(listener: Listener) -> None:
    told_s = time.time() + 30 * 24 * 3600
    event = listener.capture(POWER, json.dumps({"value": 21.5, "time": clock.rfc3339(told_s)}).encode())
    result = listener.wait(lambda: listener.answers(event), "its answer")[0]
    assert result.flags == (TIME_IMPLAUSIBLE,)
    assert clock.seconds(result.time) < told_s - 24 * 3600


def test_a_flood_of_one_stream_does_not_hold_up_another(listener: Listener) -> None:
    flood = [Capture(GARDEN, frame) for frame in cats(80)]
    for capture in flood:
        listener.publish(capture.topic, capture.payload)
    alone = reading_of(21.5)
    listener.publish(alone.topic, alone.payload)
    listener.wait(lambda: listener.answers(alone.id), "the answer about the other stream")
    before = len({r.event for r in listener.results if r.stream == "garden" and r.tier is Tier.DEVICE})
    assert before < len(flood) - 10
    listener.capture_all(flood)


def reading_of(value: float) -> Capture:
    event = ids.event_id(time.time())
    return Capture(POWER, json.dumps({"value": value, "id": event}).encode(), event)


# --- topics ----------------------------------------------------------------------------------------------------

ODD_NAMES = ["Cam One", "cam1\u00e9", "uplink", "-cam", "c" * 64, "{0.__class__}", "' OR 1=1 --"]


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("place", ["device", "stream"])
def test_a_topic_with_an_odd_name_is_refused(name: str, place: str, listener: Listener) -> None:
    device, stream = (name, "temperature") if place == "device" else ("room1", name)
    payload = json.dumps({"value": 1.0, "place": place, "name": name}).encode()
    listener.publish(topics.reading(SITE, device, stream), payload)
    topic, refusal = listener.refused(payload)
    told_under = topics.NO_DEVICE if place == "device" else "room1"
    assert (topic, refusal.reason) == (topics.rejected(SITE, told_under), "odd-name")


# --- between the agents ----------------------------------------------------------------------------------------


def envelope(source: str) -> Envelope:
    now_s = time.time()
    return Envelope(
        event=ids.event_id(now_s),
        kind=Kind.FEATURE,
        privacy=Privacy.PUBLIC,
        key="/".join(source.split("/")[:2]),
        payload=b"a feature",
        source=source,
        time=clock.rfc3339(now_s),
        space="no-such-space",
    )


def future_batch() -> bytes:
    batch = UplinkBatch(site=SITE, envelopes=(envelope(f"{SITE}/cam1/garden"),))
    return encode(msgspec.structs.replace(batch, v=99))


BAD_BATCHES = {
    "unknown-version": future_batch,
    "other-site": lambda: encode(UplinkBatch(site=SITE, envelopes=(envelope("barn/cam1/garden"),))),
    "malformed": lambda: b"\x93no batch",
    "withheld": lambda: encode(
        UplinkBatch(
            site=SITE,
            envelopes=(msgspec.structs.replace(envelope(f"{SITE}/cam1/garden"), privacy=Privacy.EDGE_PRIVATE),),
        )
    ),
}


@pytest.mark.parametrize("reason", BAD_BATCHES)
def test_a_bad_uplink_batch_is_refused_on_mqtt_and_on_kafka_and_counted(
    reason: str, shared: Stack, listener: Listener
) -> None:
    counted = shared.metric("gateway", "tierwise_refused_total", reason=reason)
    batch = BAD_BATCHES[reason]()
    listener.publish(topics.uplink(SITE), batch)
    topic, refusal = listener.refused(batch)
    assert (topic, refusal.reason) == (topics.rejected(SITE, topics.NO_DEVICE), reason)
    assert shared.metric("gateway", "tierwise_refused_total", reason=reason) == counted + 1
    told = [record.value for record in shared.records(topics.REJECTED)]
    assert encode(refusal) in told
    assert not any(b"a feature" in value for value in told)


def test_an_event_under_another_devices_topic_is_refused(shared: Stack, listener: Listener) -> None:
    event = listener.capture(GARDEN, jpeg(photo("chelsea.png"), quality=72))
    sent = listener.wait(
        lambda: next((h for h in listener.heard if h.topic == topics.event(SITE, "cam1", "garden")), None),
        "the device's event",
    )
    listener.publish(topics.event(SITE, "cam2", "garden"), sent.payload)
    _, refusal = listener.refused(sent.payload)
    assert refusal.reason == "other-source"
    listener.last_word(event, Tier.CLOUD)


def test_kafka_records_with_bad_headers_are_rejected_with_their_reason(shared: Stack) -> None:
    good = to_record(envelope(f"{SITE}/cam1/garden"))
    headers = dict(good.headers)

    def without(name: str) -> list[tuple[str, bytes]]:
        return [(key, value) for key, value in good.headers if key != name]

    bad = {
        "privacy-missing": without(Header.PRIVACY),
        "privacy-repeated": [*good.headers, (Header.PRIVACY, b"public")],
        "privacy-unknown": [*without(Header.PRIVACY), (Header.PRIVACY, b"Public")],
        "kind-unknown": [*without(Header.KIND), (Header.KIND, b"secret")],
        "kind-missing": without(Header.KIND),
        "header-repeated": [*good.headers, (Header.SOURCE, headers[Header.SOURCE])],
        "source-invalid": [*without(Header.SOURCE), (Header.SOURCE, b"home/cam1")],
        "not-sealed": [*without(Header.PRIVACY), (Header.PRIVACY, b"user-private")],
        "sealed-public": [*good.headers, (Header.SEALED_BY, b"user-0011")],
        "id-missing": without(Header.ID),
    }
    counted = {reason: shared.metric("stream", "tierwise_refused_total", reason=reason) for reason in bad}
    canaries = {reason: f"content of {reason}".encode() for reason in bad}
    shared.produce(topics.INGEST, [(good.key, canaries[reason], bad[reason]) for reason in bad])

    def all_counted() -> bool:
        return all(
            shared.metric("stream", "tierwise_refused_total", reason=reason) == counted[reason] + 1 for reason in bad
        )

    eventually(all_counted, PATIENCE_S)
    rejected = shared.records(topics.REJECTED)
    assert set(bad) <= {dict(record.headers).get(Header.REASON, b"").decode() for record in rejected}
    for topic in topics.KAFKA_TOPICS[1:]:
        assert not any(b"content of" in (record.value or b"") for record in shared.records(topic))


def test_a_public_record_of_another_space_is_refused_by_the_cloud_and_counted(shared: Stack) -> None:
    counted = shared.metric("cloud", "tierwise_refused_total", reason="other-space")
    record = to_record(envelope(f"{SITE}/cam1/garden"))
    shared.produce(topics.INGEST, [(record.key, record.value, record.headers)])
    eventually(
        lambda: shared.metric("cloud", "tierwise_refused_total", reason="other-space") == counted + 1,
        PATIENCE_S,
    )


def test_after_all_that_the_kingdoms_of_other_streams_are_answered(listener: Listener) -> None:
    event = listener.capture(POWER, b"412")
    assert listener.wait(lambda: listener.answers(event), "the meter's answer")[0].rank is Rank.STATE
