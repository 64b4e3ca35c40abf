"""Files by their digest: whole and checked, or a part that goes on where it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import Rejected, Retry
from pipeline.files.blobs import EMPTY, Blobs, File, sha256

DATA = bytes(range(256)) * 8
FILE = File(sha256(DATA), len(DATA))


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "files")


def test_what_is_put_is_read_by_its_digest(blobs: Blobs) -> None:
    assert blobs.read(FILE.digest) is None
    assert blobs.put(DATA) == FILE.digest
    assert blobs.put(DATA) == FILE.digest
    assert blobs.read(FILE.digest) == DATA
    assert blobs.digests() == {FILE.digest}


def test_a_slice_is_shorter_at_the_end_and_none_of_what_is_not_here(blobs: Blobs) -> None:
    blobs.put(DATA)
    assert blobs.slice(FILE.digest, 10, 5) == DATA[10:15]
    assert blobs.slice(FILE.digest, len(DATA) - 1, 5) == DATA[-1:]
    assert blobs.slice(FILE.digest, len(DATA), 5) == b""
    assert blobs.slice("0" * 64, 0, 5) is None


def test_parts_make_the_file_and_a_new_start_goes_on_where_it_was(blobs: Blobs, tmp_path: Path) -> None:
    assert not blobs.append(FILE, 0, DATA[:1000])
    assert blobs.read(FILE.digest) is None
    after = Blobs(tmp_path / "files")
    assert after.resume(FILE) == 1000
    assert after.append(FILE, 1000, DATA[1000:])
    assert after.read(FILE.digest) == DATA


def test_other_bytes_of_the_same_length_are_thrown_away(blobs: Blobs) -> None:
    blobs.append(FILE, 0, DATA[:1000])
    with pytest.raises(Rejected) as caught:
        blobs.append(FILE, 1000, bytes(len(DATA) - 1000))
    assert caught.value.reason == "digest-mismatch"
    assert (blobs.held(FILE), blobs.read(FILE.digest)) == (0, None)


@pytest.mark.parametrize(("offset", "length"), [(0, 10), (2000, 10), (1000, len(DATA))])
def test_bytes_that_are_not_the_next_ones_change_nothing(blobs: Blobs, offset: int, length: int) -> None:
    blobs.append(FILE, 0, DATA[:1000])
    with pytest.raises(Rejected, match="do not follow"):
        blobs.append(FILE, offset, bytes(length))
    assert blobs.held(FILE) == 1000


@pytest.mark.parametrize(("left", "held"), [(DATA, len(DATA)), (bytes(len(DATA)), 0)])
def test_a_file_that_was_written_to_its_end_and_not_looked_at_is_looked_at_now(
    blobs: Blobs, tmp_path: Path, left: bytes, held: int
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / f"{FILE.digest}.part").write_bytes(left)
    assert blobs.resume(FILE) == held
    assert (blobs.read(FILE.digest) is not None) == (held > 0)
    assert not list((tmp_path / "files").glob("*.part"))


def test_a_file_that_rotted_is_as_good_as_not_here(blobs: Blobs, tmp_path: Path) -> None:
    blobs.put(DATA)
    (tmp_path / "files" / FILE.digest).write_bytes(b"x" + DATA[1:])
    assert blobs.read(FILE.digest) is None
    assert blobs.held(FILE) == 0


def test_a_file_of_no_bytes_is_here_without_having_come(blobs: Blobs) -> None:
    assert blobs.read(EMPTY) == b""


@pytest.mark.parametrize("digest", ["", "../secret", "AB" * 32, "ab" * 31])
def test_what_is_no_digest_never_becomes_a_path(blobs: Blobs, digest: str) -> None:
    with pytest.raises(Rejected, match="64 hex digits"):
        blobs.slice(digest, 0, 1)


def test_only_what_is_named_is_kept_also_of_what_is_on_its_way(blobs: Blobs) -> None:
    blobs.keep_only(())
    other = blobs.put(b"other")
    blobs.put(b"third")
    blobs.append(FILE, 0, DATA[:10])
    blobs.append(File("0" * 64, 99), 0, DATA[:10])
    blobs.keep_only({FILE.digest, other})
    assert blobs.digests() == {other}
    assert (blobs.held(FILE), blobs.held(File("0" * 64, 99))) == (10, 0)


def test_a_disk_that_refuses_is_to_be_tried_again(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("a file where the folder would be")
    with pytest.raises(Retry):
        Blobs(tmp_path / "files").put(DATA)
