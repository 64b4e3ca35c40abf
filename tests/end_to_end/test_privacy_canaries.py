"""Planted bytes of private pictures, looked for everywhere beyond where they may be."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka_brokers import eventually
from stack import GARDEN, HALL, PATIENCE_S, SITE, Heard, Listener, Stack, cats, jpeg, photo

from models.answering.frame_gate import DECODE_PX
from models.shipped import load_zoo
from models.vision import images
from pipeline import messages, topics
from pipeline.errors import Rejected
from pipeline.messages import Event, Feature, Privacy, Rank, Tier, UplinkBatch, decode
from pipeline.privacy.seal import Keyring, open_private
from pipeline.records import PRIVATE_HEADERS, from_record
from pipeline.topics import Header

pytestmark = pytest.mark.e2e

CANARY = b"canary-of-a-person-8f2c61d40b7e"
PIECE_BYTES = 48
"""Of a picture's or a vector's bytes: long enough that nothing else holds them by chance."""


def with_comment(picture: bytes, comment: bytes) -> bytes:
    return picture[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + picture[2:]


def spellings(secret: bytes) -> set[bytes]:
    """As it is, in hex, and in base64 wherever it starts in a group of three."""
    groups = {base64.b64encode(secret[at : at + (len(secret) - at) // 3 * 3]) for at in range(3)}
    return {secret, secret.hex().encode(), secret.hex().upper().encode(), *groups}


def pieces(data: bytes) -> set[bytes]:
    """Spellings of some pieces from all over some bytes."""
    starts = range(0, len(data) - PIECE_BYTES, max(PIECE_BYTES, len(data) // 16))
    return {spelling for start in starts for spelling in spellings(data[start : start + PIECE_BYTES])}


def coded(picture: bytes) -> bytes:
    """What a JPEG shows: all behind its headers, which every JPEG of the same encoder shares."""
    return picture[picture.index(b"\xff\xda") + 14 :]


def files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file as it is now; some come and go."""
    for path in sorted(folder.rglob("*")):
        try:
            yield path.relative_to(folder), path.read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            continue


def found_in(folder: Path, secrets: set[bytes]) -> set[str]:
    """The first folder of each file that holds one of these."""
    return {path.parts[0] for path, content in files(folder) if any(secret in content for secret in secrets)}


def told(heard: list[Heard], secrets: set[bytes]) -> list[str]:
    return [topic for topic, payload in heard if any(secret in payload for secret in secrets)]


def events(heard: list[Heard]) -> list[Event]:
    return [decode(Event, payload) for topic, payload in heard if "/event/" in topic]


def uplinked(heard: list[Heard]) -> list[messages.Envelope]:
    batches = [decode(UplinkBatch, payload) for topic, payload in heard if topic == topics.uplink(SITE)]
    return [envelope for batch in batches for envelope in batch.envelopes]


def test_of_a_persons_picture_nothing_leaves_the_device_in_the_clear(shared: Stack, listener: Listener) -> None:
    picture = with_comment(jpeg(photo("astronaut.png")), CANARY)
    event = listener.capture(HALL, picture)
    answer = listener.wait(lambda: listener.answers(event), "the device's answer")[0]
    assert (answer.rule, answer.pending, answer.privacy) == ("person-in-frame", None, Privacy.EDGE_PRIVATE)

    def mine() -> list[tuple[Any, Feature]]:
        keyring = Keyring.open(shared.data / "keys", create=False)
        found = []
        for record in shared.records(topics.ROUTED[Privacy.USER_PRIVATE]):
            hidden = open_private(from_record(record.headers, record.key, record.value), keyring)
            if hidden.event == event:
                found.append((record, decode(Feature, hidden.payload)))
        return found

    (record, feature) = eventually(mine, PATIENCE_S)[0]

    # What is sealed is the picture's feature, so these are the bytes to look for.
    frame = images.decode(picture, at_least_px=DECODE_PX)
    vector = load_zoo().edge_model().predict(frame).vector.tobytes()
    assert feature.data == vector

    # Another event passes through all tiers meanwhile, so that there is something to look through.
    listener.last_word(listener.capture(GARDEN, cats(1)[0]), Tier.CLOUD)

    secrets = spellings(CANARY) | pieces(coded(picture)) | pieces(vector)
    assert found_in(shared.data, spellings(CANARY)) == {"device"}
    assert found_in(shared.data, secrets) == {"device"}
    assert told(listener.heard, secrets) == []
    assert [e.body for e in events(listener.heard) if e.result.event == event] == [None]
    assert [e for e in uplinked(listener.heard) if e.event == event] == []

    # Of the sealed record, the headers tell neither device nor time, neither label nor stream.
    headers = dict(record.headers)
    assert headers.keys() <= PRIVATE_HEADERS
    about = b" ".join([record.key, *headers.values()])
    words = [SITE, "cam2", "hall", event, answer.time, *answer.path, answer.label]
    assert [word for word in words if word.encode() in about] == []
    assert [headers[Header.PRIVACY], headers[Header.KIND]] == [b"user-private", b"feature"]


def test_a_sealed_record_opens_only_with_the_users_own_key(shared: Stack, listener: Listener, tmp_path: Path) -> None:
    event = listener.capture(HALL, jpeg(photo("astronaut.png"), quality=80))
    topic = topics.ROUTED[Privacy.USER_PRIVATE]
    mine = Keyring.open(shared.data / "keys", create=False)

    def found() -> list[messages.Envelope]:
        sealed = [from_record(r.headers, r.key, r.value) for r in shared.records(topic)]
        return [envelope for envelope in sealed if open_private(envelope, mine).event == event]

    [envelope] = eventually(found, PATIENCE_S)
    others = Keyring.open(tmp_path / "keys", create=True)
    for keyring in (others, Keyring(site=mine.site), Keyring(site=mine.site, user=others.user)):
        with pytest.raises(Rejected, match="key is not here"):
            open_private(envelope, keyring)


def test_pixels_and_features_of_a_stream_that_nobody_named_stay_and_its_answer_says_how_to_change_that(
    shared: Stack, listener: Listener
) -> None:
    picture = with_comment(cats(2)[1], CANARY[::-1])
    event = listener.capture(topics.frame(SITE, "cam9", "yard"), picture)
    answer = listener.wait(lambda: listener.answers(event), "the device's answer")[0]
    assert (answer.path, answer.rank, answer.pending) == (("animal",), Rank.KINGDOM, None)
    assert answer.privacy is Privacy.EDGE_PRIVATE
    assert '[streams."cam9/yard"]' in answer.reason
    assert 'feature = "public"' in answer.reason

    eventually(lambda: shared.rows("edge", f"SELECT 1 FROM edge_answers WHERE event = '{event}'"), PATIENCE_S)
    listener.last_word(listener.capture(GARDEN, cats(3)[2]), Tier.CLOUD)
    secrets = spellings(CANARY[::-1]) | pieces(coded(picture))
    assert found_in(shared.data, secrets) == {"device"}
    assert told(listener.heard, secrets) == []
    assert [e.body for e in events(listener.heard) if e.result.event == event] == [None]
    assert not any("cam9" in e.source or "cam9" in e.key for e in uplinked(listener.heard))


def test_the_site_names_no_private_stream_to_the_cloud_in_the_clear(shared: Stack, listener: Listener) -> None:
    """An edge-private reading, and the answer about it, are nobody's business in the cloud."""
    event = listener.capture(topics.reading(SITE, "meter", "power"), b"777.125")
    listener.wait(lambda: listener.answers(event), "the device's answer")
    listener.last_word(listener.capture(GARDEN, cats(4)[3]), Tier.CLOUD)
    assert told([h for h in listener.heard if "/uplink/" in h.topic], {b"777.125", event.encode()}) == []
    assert "kafka" not in found_in(shared.data, {b"777.125", event.encode()})
