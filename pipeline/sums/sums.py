"""Additive statistics of labelled features, from which a classifier can be solved, and events removed, exactly.

All values are integers: features are uint8, labels are one-hot, sums are int64. So adding, merging and subtracting are
exact and commute. The sums of sites, merged in any order, equal bit for bit the sums over all their events, and a
subtracted event leaves no trace. `models.heads.solve` solves a least-squares classifier from them. Each sum names its
feature space; sums of different spaces never mix.

Example::

    mine = Sums.empty("lite0-9f3c", dimension=256, labels=("Felidae", "Canidae"))
    mine = mine.add(features, np.array([0, 1, 1]))       # features: uint8 (3, 256)
    both = mine.merge(theirs)                            # equals adding all of them at once
    mine = mine.subtract(Sums.empty(...).add(first, [0]))  # removes one event

A sum over few events hides nothing: over a single event it *is* the vector. The gate decides which sums may leave.

Source: the normal equations of ridge regression (Hoerl & Kennard 1970); exact federated and incremental use as in
Zhuang et al. 2022 (ACIL, arXiv:2205.14922) and McDonnell et al. 2023 (RanPAC, arXiv:2307.02251).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import Rejected

SNAPSHOT_VERSION = 2
# Products of (byte - 128) reach 2^14, and float32 is exact up to 2^24: so sums over 2^10 events are exact in any order.
_BLOCK_EVENTS = 1024
_LEVEL = 128
_INT64 = np.iinfo(np.int64)


class SpaceMismatch(Rejected):
    """Two sums have different feature spaces or dimensions."""

    def __init__(self, message: str) -> None:
        super().__init__("space-mismatch", message)


class LabelsMismatch(Rejected):
    """The sums lack a column for a label, or two sums have different labels."""

    def __init__(self, message: str) -> None:
        super().__init__("labels-mismatch", message)


class SumsOverflow(Rejected):
    """A cell would exceed int64, or events would be subtracted that were never added."""

    def __init__(self, message: str) -> None:
        super().__init__("sums-overflow", message)


class _Snapshot(msgspec.Struct, frozen=True):
    """The form in bytes: little-endian int64 arrays, row by row; of the symmetric `gram` only the upper triangle."""

    version: int
    space: str
    dimension: int
    labels: tuple[str, ...]
    counts: bytes
    gram: bytes
    cross: bytes


class Sums(msgspec.Struct, frozen=True, eq=False):
    """Sums over events of x x^T and x y^T, where x is the feature with a 1 appended and y the one-hot label.

    `counts` (k,), `gram` (d+1, d+1), `cross` (d+1, k), all int64; d is the feature's dimension, k = len(labels).
    """

    space: str
    labels: tuple[str, ...]
    counts: NDArray[np.int64]
    gram: NDArray[np.int64]
    cross: NDArray[np.int64]

    @classmethod
    def empty(cls, space: str, dimension: int, labels: Sequence[str]) -> Sums:
        """Return the sums over no events."""
        if len(set(labels)) != len(labels):
            raise LabelsMismatch(f"a label is named twice in {tuple(labels)}")
        width, classes = dimension + 1, len(labels)
        return cls(
            space,
            tuple(labels),
            np.zeros(classes, np.int64),
            np.zeros((width, width), np.int64),
            np.zeros((width, classes), np.int64),
        )

    @property
    def events(self) -> int:
        """The number of events in the sums."""
        return int(self.counts.sum())

    @property
    def dimension(self) -> int:
        """The feature's dimension d."""
        return len(self.gram) - 1

    def add(self, features: NDArray[np.uint8], labels: ArrayLike) -> Sums:
        """Add events: features uint8 (n, d), labels (n,) as positions in `self.labels`.

        Raises `SpaceMismatch` for features of another dtype or dimension, `LabelsMismatch` for a label out of range.
        """
        if features.dtype != np.uint8 or features.ndim != 2 or features.shape[1] != self.dimension:
            raise SpaceMismatch(
                f"{self.space} takes uint8 features of shape (n, {self.dimension}), not {features.dtype} {features.shape}"
            )
        classes = np.asarray(labels, np.int64)
        if classes.shape != (len(features),) or ((classes < 0) | (classes >= len(self.labels))).any():
            raise LabelsMismatch(f"labels must be {len(features)} positions below {len(self.labels)}")
        return self.merge(_of_events(self, features, classes))

    def merge(self, other: Sums) -> Sums:
        """Return the sums over both sets of events. Commutative and associative, bit for bit."""
        _check_same(self, other)
        return Sums(
            self.space,
            self.labels,
            _checked(self.counts, other.counts, np.add),
            _checked(self.gram, other.gram, np.add),
            _checked(self.cross, other.cross, np.add),
        )

    def subtract(self, other: Sums) -> Sums:
        """Remove events that were added before. Raises `SumsOverflow` if a class holds fewer."""
        _check_same(self, other)
        if (self.counts < other.counts).any() or (np.diag(self.gram) < np.diag(other.gram)).any():
            raise SumsOverflow(
                "these sums hold fewer events than would be subtracted: not all of them were added before"
            )
        return Sums(
            self.space,
            self.labels,
            _checked(self.counts, other.counts, np.subtract),
            _checked(self.gram, other.gram, np.subtract),
            _checked(self.cross, other.cross, np.subtract),
        )

    def with_labels(self, labels: Sequence[str]) -> Sums:
        """Return the same sums with columns for these labels, in this order; so a new class can be learned.

        Raises `LabelsMismatch` if a label that holds events would be dropped.
        """
        wider = Sums.empty(self.space, self.dimension, labels)
        lost = [label for at, label in enumerate(self.labels) if self.counts[at] and label not in labels]
        if lost:
            raise LabelsMismatch(f"the labels {lost} hold events and cannot be dropped")
        for at, label in enumerate(self.labels):
            if label in labels:
                to = wider.labels.index(label)
                wider.counts[to] = self.counts[at]
                wider.cross[:, to] = self.cross[:, at]
        return Sums(self.space, wider.labels, wider.counts, self.gram, wider.cross)

    def snapshot(self) -> bytes:
        """Return bytes for `restore`; equal sums give equal bytes."""
        return msgspec.msgpack.encode(
            _Snapshot(
                SNAPSHOT_VERSION,
                self.space,
                self.dimension,
                self.labels,
                *(
                    array.astype("<i8").tobytes()
                    for array in (self.counts, self.gram[np.triu_indices(len(self.gram))], self.cross)
                ),
            )
        )

    @classmethod
    def restore(cls, data: bytes) -> Sums:
        """Read a snapshot. Raises `Rejected` (reason `bad-snapshot`) for other bytes."""
        try:
            found = msgspec.msgpack.decode(data, type=_Snapshot)
            if found.version != SNAPSHOT_VERSION:
                raise ValueError(f"version {found.version}, this reads {SNAPSHOT_VERSION}")
            width, classes = found.dimension + 1, len(found.labels)
            triangle = np.frombuffer(found.gram, "<i8")
            # Checked before the arrays are made: a few bytes may claim any dimension.
            if width < 1 or len(triangle) != width * (width + 1) // 2:
                raise ValueError(f"{len(triangle)} cells are not a triangle of {width} rows")
            gram = np.zeros((width, width), np.int64)
            gram[np.triu_indices(width)] = triangle
            gram.T[np.triu_indices(width)] = triangle
            return cls(
                found.space,
                found.labels,
                np.frombuffer(found.counts, "<i8").reshape(classes).astype(np.int64),
                gram,
                np.frombuffer(found.cross, "<i8").reshape(width, classes).astype(np.int64),
            )
        except (msgspec.MsgspecError, ValueError) as error:
            raise Rejected("bad-snapshot", f"these {len(data)} bytes are not a snapshot of sums: {error}") from error


def _of_events(like: Sums, features: NDArray[np.uint8], classes: NDArray[np.int64]) -> Sums:
    """Return the sums over events, by products of (byte - 128) in float32, whose integers are exact up to 2^24."""
    size, classes_of = like.dimension, len(like.labels)
    moved = np.zeros((size, size), np.int64)
    by_class = np.zeros((classes_of, size), np.int64)
    for start in range(0, len(features), _BLOCK_EVENTS):
        block = features[start : start + _BLOCK_EVENTS].astype(np.float32) - np.float32(_LEVEL)
        np.add(moved, block.T @ block, out=moved, casting="unsafe")
    order = np.argsort(classes, kind="stable")
    present, starts = np.unique(classes[order], return_index=True)
    for at, rows in zip(present.tolist(), np.split(order, starts[1:]), strict=bool(len(order))):
        by_class[at] = features[rows].sum(0, dtype=np.int64)
    counts = np.bincount(classes, minlength=classes_of).astype(np.int64)
    total = by_class.sum(0)
    gram = np.empty((size + 1, size + 1), np.int64)
    gram[:-1, :-1] = moved + _LEVEL * (total[:, None] + total[None, :]) - len(features) * _LEVEL * _LEVEL
    gram[-1, :-1] = gram[:-1, -1] = total
    gram[-1, -1] = len(features)
    return Sums(like.space, like.labels, counts, gram, np.vstack([by_class.T, counts]))


def _check_same(left: Sums, right: Sums) -> None:
    if left.space != right.space or left.dimension != right.dimension:
        raise SpaceMismatch(f"sums of {left.space} ({left.dimension}) and {right.space} ({right.dimension}) do not mix")
    if left.labels != right.labels:
        raise LabelsMismatch("these sums have different labels; give both the same with with_labels()")


def _checked(left: NDArray[np.int64], right: NDArray[np.int64], operation: np.ufunc) -> NDArray[np.int64]:
    """Return the result of `operation`; raise an error for a two's-complement overflow, which numpy would wrap."""
    result: NDArray[np.int64] = operation(left, right)
    flipped = right if operation is np.add else ~right
    if (((left ^ result) & (flipped ^ result)) < 0).any():
        raise SumsOverflow(f"a sum would exceed int64 (beyond {_INT64.max:,}); merge fewer events")
    return result
