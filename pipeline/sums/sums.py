"""Additive statistics of labelled features: what a classifier can be solved from, and forgotten from, exactly.

Everything is an integer: features are uint8, labels are one-hot, sums are int64. So adding, merging and subtracting
are exact and commute: sums of sites merged in any order equal, bit for bit, the sums of all their events together,
and an event that is subtracted has never been there. `models.heads.solve` solves a least-squares classifier from them.
A sum names the feature space that it lives in; spaces never mix.

Example::

    mine = Sums.empty("lite0-9f3c", dimension=256, labels=("Felidae", "Canidae"))
    mine = mine.add(features, np.array([0, 1, 1]))       # features: uint8 (3, 256)
    both = mine.merge(theirs)                            # equals adding all of them at once
    mine = mine.subtract(Sums.empty(...).add(one, [0]))  # one event forgotten

A sum over few events is no secret-keeper: of one event it *is* the vector. The gate decides which may leave.

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
# Bytes less 128 have products of up to 2^14, and float32 is exact up to 2^24: so many events' sums are, whatever the order.
_BLOCK_EVENTS = 1024
_LEVEL = 128
_INT64 = np.iinfo(np.int64)


class SpaceMismatch(Rejected):
    """Two sums of different feature spaces or dimensions met."""

    def __init__(self, message: str) -> None:
        super().__init__("space-mismatch", message)


class LabelsMismatch(Rejected):
    """A label that the sums have no column for, or sums over different labels."""

    def __init__(self, message: str) -> None:
        super().__init__("labels-mismatch", message)


class SumsOverflow(Rejected):
    """A cell would leave int64, or events would be subtracted that were never added."""

    def __init__(self, message: str) -> None:
        super().__init__("sums-overflow", message)


class _Snapshot(msgspec.Struct, frozen=True):
    """The bytes form: arrays are little-endian int64, row by row; of the symmetric `gram` the upper triangle alone."""

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
        """Sums over no events."""
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
        """How many events the sums hold."""
        return int(self.counts.sum())

    @property
    def dimension(self) -> int:
        """The feature's dimension d."""
        return len(self.gram) - 1

    def add(self, features: NDArray[np.uint8], labels: ArrayLike) -> Sums:
        """Adds events: features uint8 (n, d), labels (n,) as positions in `self.labels`.

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
        """The sums of both sets of events. Commutes and associates, bit for bit."""
        _check_same(self, other)
        return Sums(
            self.space,
            self.labels,
            _checked(self.counts, other.counts, np.add),
            _checked(self.gram, other.gram, np.add),
            _checked(self.cross, other.cross, np.add),
        )

    def subtract(self, other: Sums) -> Sums:
        """Forgets events that were added before. Raises `SumsOverflow` if a class held fewer."""
        _check_same(self, other)
        if (self.counts < other.counts).any() or (np.diag(self.gram) < np.diag(other.gram)).any():
            raise SumsOverflow(
                "these sums hold fewer events than are to be subtracted: they were never all added"
            )
        return Sums(
            self.space,
            self.labels,
            _checked(self.counts, other.counts, np.subtract),
            _checked(self.gram, other.gram, np.subtract),
            _checked(self.cross, other.cross, np.subtract),
        )

    def with_labels(self, labels: Sequence[str]) -> Sums:
        """The same events with columns for more labels, in a given order: how a class is learned that was unknown.

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
        """Bytes that `restore` reads back: equal sums give equal bytes."""
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
        """Reads a snapshot. Raises `Rejected` (reason `bad-snapshot`) for anything else."""
        try:
            its = msgspec.msgpack.decode(data, type=_Snapshot)
            if its.version != SNAPSHOT_VERSION:
                raise ValueError(f"version {its.version}, this reads {SNAPSHOT_VERSION}")
            width, classes = its.dimension + 1, len(its.labels)
            triangle = np.frombuffer(its.gram, "<i8")
            # Before anything is made that large: a few bytes may claim any dimension.
            if width < 1 or len(triangle) != width * (width + 1) // 2:
                raise ValueError(f"{len(triangle)} cells are no triangle of {width} rows")
            gram = np.zeros((width, width), np.int64)
            gram[np.triu_indices(width)] = triangle
            gram.T[np.triu_indices(width)] = triangle
            return cls(
                its.space,
                its.labels,
                np.frombuffer(its.counts, "<i8").reshape(classes).astype(np.int64),
                gram,
                np.frombuffer(its.cross, "<i8").reshape(width, classes).astype(np.int64),
            )
        except (msgspec.MsgspecError, ValueError) as error:
            raise Rejected(
                "bad-snapshot", f"these {len(data)} bytes are no snapshot of sums: {error}"
            ) from error


def _of_events(like: Sums, features: NDArray[np.uint8], classes: NDArray[np.int64]) -> Sums:
    """Sums of some events: products of bytes less 128 in float32, whose integers are exact up to 2^24."""
    size, classes_of = like.dimension, len(like.labels)
    moved = np.zeros((size, size), np.int64)
    by_class = np.zeros((classes_of, size), np.int64)
    for start in range(0, len(features), _BLOCK_EVENTS):
        block = features[start : start + _BLOCK_EVENTS].astype(np.float32) - np.float32(_LEVEL)
        np.add(moved, block.T @ block, out=moved, casting="unsafe")
    order = np.argsort(classes, kind="stable")
    present, starts = np.unique(classes[order], return_index=True)
    for at, its in zip(present.tolist(), np.split(order, starts[1:]), strict=bool(len(order))):
        by_class[at] = features[its].sum(0, dtype=np.int64)
    counts = np.bincount(classes, minlength=classes_of).astype(np.int64)
    total = by_class.sum(0)
    gram = np.empty((size + 1, size + 1), np.int64)
    gram[:-1, :-1] = moved + _LEVEL * (total[:, None] + total[None, :]) - len(features) * _LEVEL * _LEVEL
    gram[-1, :-1] = gram[:-1, -1] = total
    gram[-1, -1] = len(features)
    return Sums(like.space, like.labels, counts, gram, np.vstack([by_class.T, counts]))


def _check_same(one: Sums, other: Sums) -> None:
    if one.space != other.space or one.dimension != other.dimension:
        raise SpaceMismatch(
            f"sums of {one.space} ({one.dimension}) and {other.space} ({other.dimension}) do not mix"
        )
    if one.labels != other.labels:
        raise LabelsMismatch(
            "these sums are over different labels; bring both to the same with with_labels()"
        )


def _checked(one: NDArray[np.int64], other: NDArray[np.int64], operation: np.ufunc) -> NDArray[np.int64]:
    """`operation` with two's-complement overflow found instead of wrapped."""
    result: NDArray[np.int64] = operation(one, other)
    flipped = other if operation is np.add else ~other
    if (((one ^ result) & (flipped ^ result)) < 0).any():
        raise SumsOverflow(f"a sum would leave int64 (beyond {_INT64.max:,}); merge fewer events")
    return result
