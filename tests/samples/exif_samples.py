"""JPEGs with EXIF data of any kind, byte by byte (TIFF 6.0 in JPEG, CIPA DC-008)."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

from models.vision import images

GREY = images.encode_jpeg(np.full((32, 32, 3), 128, np.uint8))

DATE_TIME, ORIGINAL, OFFSET, SUBSECOND = 0x0132, 0x9003, 0x9011, 0x9291
EXIF_DIRECTORY = 0x8769


def with_tiff(tiff: bytes, jpeg: bytes = GREY) -> bytes:
    """Return the JPEG with these bytes as its EXIF data."""
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def with_exif(tags: Mapping[int, str], jpeg: bytes = GREY, order: str = "<") -> bytes:
    """Return the JPEG with these texts as tags: `DATE_TIME` in the first directory, the others in EXIF's own."""
    first = {tag: text for tag, text in tags.items() if tag == DATE_TIME}
    own = {tag: text for tag, text in tags.items() if tag != DATE_TIME}
    own_at = 8 + 2 + 12 * (len(first) + 1) + 4
    texts_at = own_at + 2 + 12 * len(own) + 4
    texts = b""
    directories = []
    for part, pointer in ((first, struct.pack(order + "HHII", EXIF_DIRECTORY, 4, 1, own_at)), (own, b"")):
        entries = b""
        for tag, text in sorted(part.items()):
            value = text.encode() + b"\0"
            inline = len(value) <= 4
            place = value.ljust(4, b"\0") if inline else struct.pack(order + "I", texts_at + len(texts))
            entries += struct.pack(order + "HHI", tag, 2, len(value)) + place
            texts += b"" if inline else value + b"\0" * (len(value) % 2)
        count = len(part) + bool(pointer)
        directories.append(struct.pack(order + "H", count) + entries + pointer + bytes(4))
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return with_tiff(mark + struct.pack(order + "I", 8) + b"".join(directories) + texts, jpeg)


def looped() -> bytes:
    """Return a JPEG whose EXIF directory points back to the first directory, and that one to it."""
    there = struct.pack("<HHHIII", 1, EXIF_DIRECTORY, 4, 1, 26, 0)
    back = struct.pack("<HHHIII", 1, EXIF_DIRECTORY, 4, 1, 8, 0)
    return with_tiff(b"II*\0" + struct.pack("<I", 8) + there + back)
