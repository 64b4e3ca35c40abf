"""Additive statistics of labelled features: what a classifier can be solved from, and forgotten from, exactly.

Everything is an integer: features are uint8, labels are one-hot, sums are int64. So adding, merging and subtracting
are exact and commute: sums of sites merged in any order equal, bit for bit, the sums of all their events together,
and an event that is subtracted has never been there. `models.heads` solves a least-squares classifier from them.
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
# Integers are exact in float64 up to 2^53, and one event adds at most 255^2 to a cell, so BLAS is exact for blocks of
# up to 1.4e11 events; blocks are this small to keep the float copies at some 8 MB.
_BLOCK_EVENTS = 4096
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
        total = self
        for start in range(0, len(features), _BLOCK_EVENTS):
            block = slice(start, start + _BLOCK_EVENTS)
            total = total.merge(_of_block(self, features[block], classes[block]))
        return total

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


def _of_block(like: Sums, features: NDArray[np.uint8], classes: NDArray[np.int64]) -> Sums:
    """Sums of one block of events; small enough that float64 BLAS is exact."""
    x = np.hstack([features, np.ones((len(features), 1), np.uint8)]).astype(np.float64)
    y = np.zeros((len(features), len(like.labels)))
    y[np.arange(len(features)), classes] = 1
    return Sums(
        like.space,
        like.labels,
        np.bincount(classes, minlength=len(like.labels)).astype(np.int64),
        (x.T @ x).astype(np.int64),
        (x.T @ y).astype(np.int64),
    )


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
