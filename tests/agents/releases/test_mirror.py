"""The mirror of releases: files are assembled from parts in any order, and nothing is trusted."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from sample_releases import Cloud

from agents.releases.mirror import PENDING_MAX, Mirror
from agents.releases.publisher import record_changes
from pipeline.files.blobs import sha256
from pipeline.files.release_names import PART_BYTES, parts

BIG = random.Random(7).randbytes(PART_BYTES * 2 + 10)


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    """Return a mirror that has read an empty topic."""
    mirror = Mirror(tmp_path / "mirror")
    mirror.tidy()
    return mirror


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    cloud = Cloud(tmp_path / "cloud")
    cloud.release(1, {"sums.bin": BIG})
    return cloud


def feed(mirror: Mirror, records: list[tuple[str, bytes | None]]) -> None:
    for key, value in records:
        mirror.apply(key, value)


def test_a_repository_sent_and_taken_in_any_order_is_the_same(mirror: Mirror, cloud: Cloud) -> None:
    metadata, files = cloud.repository.published()
    records = list(record_changes(metadata, files, {}))
    random.Random(3).shuffle(records)
    feed(mirror, records)
    assert mirror.offered() == metadata
    assert list(mirror.offered())[-1] == "timestamp.json"
    assert {digest: mirror.blobs.read(digest) for digest in mirror.blobs.digests()} == files


def test_metadata_are_offered_once_all_that_they_lead_to_is_there(mirror: Mirror, cloud: Cloud) -> None:
    metadata = cloud.repository.published()[0]
    for name in ("timestamp.json", "1.root.json", "2.targets.json"):
        mirror.apply(name, metadata[name])
        assert mirror.offered() == {}
    mirror.apply("2.snapshot.json", metadata["2.snapshot.json"])
    assert mirror.offered() == metadata


@pytest.mark.parametrize("junk", [b"", b"[]", b"{}", b'{"signed":{"meta":{"snapshot.json":{"version":"x"}}}}'])
def test_a_timestamp_that_is_none_offers_nothing(mirror: Mirror, junk: bytes) -> None:
    mirror.apply("timestamp.json", junk)
    assert mirror.offered() == {}


def test_while_the_topic_is_read_from_its_beginning_no_older_metadata_are_shown(cloud: Cloud, tmp_path: Path) -> None:
    starting = Mirror(tmp_path / "starting")
    feed(starting, list(record_changes(*cloud.repository.published(), {})))
    assert (starting.offered(), starting.read("timestamp.json")) == ({}, None)
    starting.tidy()
    assert starting.offered() == cloud.repository.published()[0]


def test_what_kafka_takes_back_goes_once_all_was_seen(mirror: Mirror, tmp_path: Path) -> None:
    ((first, data),) = parts(b"one")
    ((second, _),) = parts(b"two")
    feed(mirror, [(first.key, data), (second.key, b"two"), ("1.root.json", b"{}")])
    feed(mirror, [(first.key, None), ("1.root.json", None)])
    mirror.tidy()
    assert mirror.blobs.digests() == {second.digest}
    assert mirror.read("1.root.json") is None

    again = Mirror(tmp_path / "mirror")  # a later start, when Kafka holds nothing
    again.tidy()
    assert again.blobs.digests() == set()


def test_odd_keys_and_sizes_and_parts_of_another_file_are_left_out(mirror: Mirror) -> None:
    digest = sha256(b"right")
    feed(
        mirror,
        [
            ("../../etc/passwd", b"x"),
            ("timestamp.json", bytes(1 << 20)),
            (f"{digest}/0/1", b"wrong"),
            (f"{digest}/0/1", bytes(PART_BYTES + 1)),
            (f"{digest}/1/1", b"right"),
        ],
    )
    assert mirror.blobs.digests() == set()
    assert mirror.read("timestamp.json") is None
    mirror.apply(f"{digest}/0/1", b"right")
    assert mirror.blobs.read(digest) == b"right"


def test_parts_that_never_become_a_file_do_not_pile_up(mirror: Mirror) -> None:
    for number in range(PENDING_MAX + 20):
        mirror.apply(f"{number:064x}/0/2", b"x")
    assert len(mirror._pending) == PENDING_MAX


def test_only_what_kafka_lacks_is_sent_and_what_is_too_much_is_taken_back(cloud: Cloud) -> None:
    metadata, files = cloud.repository.published()
    there = {key: value for key, value in record_changes(metadata, files, {}) if value is not None}
    assert list(record_changes(metadata, files, there)) == []
    cloud.release(2, {"sums.bin": b"small"})
    changes = list(record_changes(*cloud.repository.published(), there))
    keys = [key for key, _ in changes]
    gone = [key for key, value in changes if value is None]
    assert keys.index("3.targets.json") < keys.index("3.snapshot.json") < keys.index("timestamp.json")
    assert all("/" in key for key in keys[: keys.index("3.targets.json")])
    assert {"2.targets.json", "2.snapshot.json"} < set(gone)
    assert keys[-len(gone) :] == gone
    assert len(gone) == 3  # and the current.json before


def test_versions_are_compared_as_numbers(mirror: Mirror, cloud: Cloud) -> None:
    """Version ten comes after nine."""
    for version in range(2, 12):
        cloud.repository.release(version, {"sums.bin": b"%d" % version}, cloud.repository.current)  # type: ignore[arg-type]
    feed(mirror, list(record_changes(*cloud.repository.published(), {})))
    snapshot = next(name for name in mirror.offered() if name.endswith("snapshot.json"))
    assert json.loads(mirror.offered()[snapshot])["signed"]["version"] == 12
