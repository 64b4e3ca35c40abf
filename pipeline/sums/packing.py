"""Packs sums into few bytes, for increments that leave a site and for releases. Exact, like the sums.

A Gram matrix of bytes holds large numbers, mostly because bytes are positive. Moved to the level at which feature
spaces are centred (128), the numbers are small and of either sign. They are zigzag-encoded, and their bytes are laid
out in planes (all lowest bytes first), of which the upper ones deflate to almost nothing::

    sum x x^T  -->  sum (x - 128)(x - 128)^T  -->  zigzag  -->  byte planes  -->  deflate

Twenty events of seven labels over 256 bytes take about 70 KB; their snapshot has 284 KB.

Example::

    unpack(pack(sums), dimension=256)       # equals sums
"""

from __future__ import annotations

import zlib

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Rejected
from pipeline.sums.sums import Sums, SumsOverflow

LAYOUT = 1
ZERO_LEVEL = 128
MOST_LABELS = 4096
LONGEST_LABELS_BYTES = 1 << 20

Integers = NDArray[np.int64]


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    layout: int
    space: str
    dimension: int
    labels: tuple[str, ...]
    planes: bytes


def pack(sums: Sums) -> bytes:
    """Return the packed sums; equal sums give equal bytes. Raises `SumsOverflow` for 2^46 events or more."""
    if sums.events >= 1 << 46:
        raise SumsOverflow(f"{sums.events:,} events are too many to pack")
    gram, cross = _moved(sums.gram, sums.cross, sums.counts, sums.events, ZERO_LEVEL)
    cells = np.concatenate([sums.counts, cross.ravel(), gram[np.triu_indices(len(gram))]])
    zigzag = ((cells << 1) ^ (cells >> 63)).astype("<u8")
    planes = zigzag.view(np.uint8).reshape(-1, 8).T.tobytes()
    return zlib.compress(msgspec.msgpack.encode(_Packed(LAYOUT, sums.space, sums.dimension, sums.labels, planes)), 9)


def unpack(data: bytes, dimension: int) -> Sums:
    """Return the sums that `pack` has packed, of this dimension. Raises `Rejected` (reason `bad-sums`)."""
    width = dimension + 1
    most = 8 * (width * (width + 1) // 2 + MOST_LABELS * (width + 1)) + LONGEST_LABELS_BYTES
    try:
        # Deflated bytes can grow a thousandfold: never inflate beyond the size of such sums.
        reader = zlib.decompressobj()
        inflated = reader.decompress(data, most)
        if not reader.eof or reader.unused_data:
            raise ValueError("they end early, or are larger than such sums")
        packed = msgspec.msgpack.decode(inflated, type=_Packed)
        labels = packed.labels
        if packed.layout != LAYOUT or packed.dimension != dimension or len(set(labels)) != len(labels):
            raise ValueError(f"layout {packed.layout}, dimension {packed.dimension}, {len(labels)} labels")
        classes, triangle = len(labels), width * (width + 1) // 2
        planes = np.frombuffer(packed.planes, np.uint8).reshape(8, classes + width * classes + triangle)
        zigzag = np.ascontiguousarray(planes.T).view("<u8").ravel()
        cells = (zigzag >> np.uint64(1)).astype(np.int64) ^ -(zigzag & np.uint64(1)).astype(np.int64)
        counts, cross, upper = np.split(cells, (classes, classes + width * classes))
        gram = np.zeros((width, width), np.int64)
        gram[np.triu_indices(width)] = upper
        gram.T[np.triu_indices(width)] = upper
        events = int(counts.sum())
        if not 0 <= events < 1 << 46:
            raise ValueError(f"{events:,} events")
        gram, cross = _moved(gram, cross.reshape(width, classes), counts, events, -ZERO_LEVEL)
        sums = Sums(packed.space, labels, counts, gram, cross)
        if complaint := complaint_about(sums):
            raise ValueError(complaint)
        return sums
    except (zlib.error, msgspec.MsgspecError, ValueError) as error:
        raise Rejected("bad-sums", f"these {len(data)} bytes are not packed sums: {error}") from error


def complaint_about(sums: Sums) -> str:
    """Return why these cannot be sums over byte vectors with one label each, or an empty text.

    Their maker may have written any integers; this finds those to which no events can add up.
    """
    events, top = sums.events, 255
    if (sums.counts < 0).any() or sums.gram[-1, -1] != events or (sums.cross[-1] != sums.counts).any():
        return "the counts do not add up"
    if (sums.cross < 0).any() or (sums.cross[:-1] > top * sums.counts).any():
        return "a label's sum cannot be a sum of so many bytes"
    if (sums.cross.sum(1) != sums.gram[-1]).any() or (sums.gram != sums.gram.T).any():
        return "the labels' sums do not add up to the sum of all"
    if (sums.gram < 0).any() or (sums.gram[:-1, :-1] > top * top * events).any():
        return "a product cannot be a sum over so many bytes"
    return ""


def _moved(gram: Integers, cross: Integers, counts: Integers, events: int, level: int) -> tuple[Integers, Integers]:
    """Return gram and cross for x - level instead of x; the appended 1 stays 1. Exact."""
    size = len(gram) - 1
    sums = gram[-1, :-1]
    gram, cross = gram.copy(), cross.copy()
    gram[:-1, :-1] += events * level * level - level * (sums[:, None] + sums[None, :])
    gram[-1, :-1] = gram[:-1, -1] = sums - events * level
    cross[:size] -= level * counts
    return gram, cross
