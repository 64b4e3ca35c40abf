"""What the gate lets out of a release: signed metadata under their names, parts of files under their digests."""

from __future__ import annotations

import pytest

from pipeline import topics
from pipeline.errors import Withheld
from pipeline.files.blobs import sha256
from pipeline.files.release_names import PART_BYTES, Part, parts
from pipeline.privacy.gate import clear_metadata, clear_release

ROOT = b'{"signatures":[{"keyid":"a","sig":"b"}],"signed":{"_type":"root","version":1}}'


def test_signed_metadata_are_retained_on_their_topic() -> None:
    cleared = clear_metadata("1.root.json", ROOT)
    assert (cleared.topic, cleared.payload, cleared.retain) == (
        topics.release_metadata("1.root.json"),
        ROOT,
        True,
    )


def test_no_bytes_take_back_what_was_retained() -> None:
    assert clear_metadata("1.snapshot.json", b"").payload == b""
    with pytest.raises(Withheld):
        clear_metadata("diary.json", b"")


@pytest.mark.parametrize(
    ("file", "payload"),
    [
        ("1.root.json", b"\xff\xd8 a picture"),
        ("1.root.json", b"{}"),
        ("1.root.json", b'{"signed":{"_type":"root"},"signatures":[]}'),
        ("1.root.json", ROOT + b" " * (64 << 10)),
        ("1.snapshot.json", ROOT),
        ("timestamp.json", ROOT),
        ("root.json", ROOT),
        ("../1.root.json", ROOT),
        ("+", ROOT),
    ],
)
def test_what_is_no_signed_metadata_of_that_name_is_withheld(file: str, payload: bytes) -> None:
    with pytest.raises(Withheld):
        clear_metadata(file, payload)
    with pytest.raises(Withheld):
        clear_release(file, payload)


def test_files_go_into_kafka_in_parts_and_out_again_by_no_value() -> None:
    data = bytes(range(256)) * (PART_BYTES // 128 + 1)
    cleared = [clear_release(part.key, value) for part, value in parts(data)]
    assert b"".join(record.value or b"" for record in cleared) == data
    assert [record.key.decode() for record in cleared] == [Part(sha256(data), n, 3).key for n in range(3)]
    assert clear_release(Part(sha256(data), 0, 3).key, None).value is None
    assert clear_release("1.root.json", ROOT).topic == topics.MODELS


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (Part(sha256(b"right"), 0, 1).key, b"wrong"),
        (Part(sha256(b"right"), 0, 2).key, bytes(PART_BYTES + 1)),
        (Part(sha256(b"right"), 2, 2).key, b"right"),
        ("home/cam1", b"a feature"),
        ("home/cam1", None),
    ],
)
def test_what_is_no_part_of_the_file_of_its_key_is_withheld(key: str, value: bytes | None) -> None:
    with pytest.raises(Withheld):
        clear_release(key, value)
