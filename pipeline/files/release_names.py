"""The names of the release repository's files on their way to the tiers, and their greatest sizes.

::

    on disk, as Kafka keys, in MQTT topics    3.root.json, 7.targets.json, 9.snapshot.json, timestamp.json
    as Kafka keys                             <sha256>/0/2, <sha256>/1/2: the parts of a target file

This module reads names only. `models.releases.client` alone verifies the content of the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from pipeline.files.blobs import sha256

METADATA_MAX_BYTES: Final = {
    "root": 64 << 10,
    "timestamp": 16 << 10,
    "snapshot": 64 << 10,
    "targets": 1 << 20,
}
"""The largest signed file of each role. Ours have 1 to 60 KB; a longer file is refused before it is parsed."""

ROLES: Final = tuple(METADATA_MAX_BYTES)

PART_BYTES: Final = 512 << 10
"""Half of the largest record that a Kafka broker takes."""

PARTS_MAX: Final = 128
"""Parts of one file, 64 MiB in all: far more than any file of ours."""

_METADATA: Final = re.compile(r"(?:([1-9][0-9]{0,8})\.(root|snapshot|targets)|timestamp)\.json")
_PART: Final = re.compile(r"([0-9a-f]{64})/([0-9]{1,3})/([0-9]{1,3})")


class Metadata(NamedTuple):
    """The role and version that a file name states. The timestamp file has no version, since clients read it first."""

    role: str
    version: int | None


def metadata_file(name: str) -> Metadata | None:
    """Return the role and version in the name of a metadata file, or None if it is not such a name.

    >>> metadata_file("3.root.json"), metadata_file("timestamp.json"), metadata_file("../1.root.json")
    (Metadata(role='root', version=3), Metadata(role='timestamp', version=None), None)
    """
    found = _METADATA.fullmatch(name)
    if found is None:
        return None
    return Metadata(found[2] or "timestamp", int(found[1]) if found[1] else None)


class Part(NamedTuple):
    """One of the parts of a target file."""

    digest: str
    number: int
    total: int

    @property
    def key(self) -> str:
        """The part's key in Kafka."""
        return f"{self.digest}/{self.number}/{self.total}"


def part_of(key: str) -> Part | None:
    """Return the part that a Kafka key names, or None if it is not such a key.

    >>> part_of("ab" * 32 + "/1/2").number, part_of("ab" * 32 + "/2/2")
    (1, None)
    """
    found = _PART.fullmatch(key)
    if found is None:
        return None
    part = Part(found[1], int(found[2]), int(found[3]))
    return part if part.number < part.total <= PARTS_MAX else None


def parts(data: bytes) -> Iterator[tuple[Part, bytes]]:
    """Split a file into parts, at least one."""
    digest, total = sha256(data), max(1, -(-len(data) // PART_BYTES))
    for number in range(total):
        yield Part(digest, number, total), data[number * PART_BYTES : (number + 1) * PART_BYTES]
