"""What the files of the release repository are called where they travel, and how long they may be.

::

    on the disk, in Kafka's keys, in MQTT's topics    3.root.json, 7.targets.json, 9.snapshot.json, timestamp.json
    in Kafka's keys                                   <sha256>/0/2, <sha256>/1/2: the parts of a target file

Names alone: what the files say is `models.releases.client`'s, and nobody else's, to believe.
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
"""Of each role's signed file. Ours have 1 to 60 KB; what is longer is refused before it is parsed."""

ROLES: Final = tuple(METADATA_MAX_BYTES)

PART_BYTES: Final = 512 << 10
"""Half of what a Kafka broker takes as one record."""

PARTS_MAX: Final = 128
"""64 MiB: no file of ours comes near."""

_METADATA: Final = re.compile(r"(?:([1-9][0-9]{0,8})\.(root|snapshot|targets)|timestamp)\.json")
_PART: Final = re.compile(r"([0-9a-f]{64})/([0-9]{1,3})/([0-9]{1,3})")


class Metadata(NamedTuple):
    """Which of the signed files a name means. The timestamp's has no version: it is where all begins."""

    role: str
    version: int | None


def metadata_file(name: str) -> Metadata | None:
    """What a file of metadata is called; None: none of ours is called so.

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
        return f"{self.digest}/{self.number}/{self.total}"


def part_of(key: str) -> Part | None:
    """The part that a key means; None: none of ours is called so.

    >>> part_of("ab" * 32 + "/1/2").number, part_of("ab" * 32 + "/2/2")
    (1, None)
    """
    found = _PART.fullmatch(key)
    if found is None:
        return None
    part = Part(found[1], int(found[2]), int(found[3]))
    return part if part.number < part.total <= PARTS_MAX else None


def parts(data: bytes) -> Iterator[tuple[Part, bytes]]:
    """A file taken apart; one part at least."""
    digest, total = sha256(data), max(1, -(-len(data) // PART_BYTES))
    for number in range(total):
        yield Part(digest, number, total), data[number * PART_BYTES : (number + 1) * PART_BYTES]
