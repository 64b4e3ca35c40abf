"""The golden set: vectors of photos that nobody's labels may spoil, with what is on them.

It ships with the model as features, so that a trainer without photos can tell what a new head forgets. Some of it chooses how
much new labels may be heard, the rest only judges (`models.training.retrain`).

Example::

    golden = load_zoo().golden()
    golden.truths(tree)             # positions in the tree's species, (n,)
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.labels.taxonomy import Taxonomy
from models.manifest import digest
from pipeline.errors import Rejected

GOLDEN: Final = "golden.npz"


@dataclass(frozen=True, slots=True, eq=False)
class GoldenSet:
    """Vectors uint8 (n, d) of one space, and of each its species by position in `labels`, (n,)."""

    space: str
    labels: tuple[str, ...]
    vectors: NDArray[np.uint8]
    species: NDArray[np.intp]

    def truths(self, tree: Taxonomy, space: str) -> NDArray[np.intp]:
        """Positions in a tree's species, (n,). Raises `Rejected` (reason `golden-mismatch`) where the set fits neither."""
        if space != self.space:
            raise Rejected(
                "golden-mismatch",
                f"the golden set is of {self.space}, the model of {space}: use the model's own",
            )
        if lost := [label for label in self.labels if label not in tree.species]:
            raise Rejected(
                "golden-mismatch", f"the golden set names {lost[:3]}, which are no species of this label tree"
            )
        return np.array([tree.species.index(label) for label in self.labels], np.intp)[self.species]

    @property
    def counts(self) -> Counter[str]:
        """Photos by species."""
        return Counter(self.labels[at] for at in self.species.tolist())

    @property
    def digest(self) -> str:
        """SHA-256 in hex, by which a lineage names it."""
        names = "\n".join((self.space, *self.labels)).encode()
        return digest(names + self.vectors.tobytes() + self.species.astype("<i2").tobytes())

    def to_bytes(self) -> bytes:
        """As it ships; equal sets make equal bytes."""
        out = BytesIO()
        np.savez_compressed(
            out,
            space=np.array(self.space),
            labels=np.array(self.labels),
            vectors=self.vectors,
            species=self.species.astype(np.int16),
        )
        return out.getvalue()

    @classmethod
    def of(cls, data: bytes) -> GoldenSet:
        """Reads what `to_bytes` wrote. Raises `Rejected` (reason `golden-mismatch`) for anything else."""
        try:
            with np.load(BytesIO(data), allow_pickle=False) as arrays:
                labels = tuple(str(label) for label in arrays["labels"].tolist())
                its = cls(str(arrays["space"]), labels, arrays["vectors"], arrays["species"].astype(np.intp))
            if (
                its.vectors.dtype != np.uint8
                or its.vectors.ndim != 2
                or its.species.shape != (len(its.vectors),)
            ):
                raise ValueError(
                    f"vectors {its.vectors.dtype} {its.vectors.shape}, species {its.species.shape}"
                )
            if len(its.species) and not 0 <= its.species.min() <= its.species.max() < len(labels):
                raise ValueError("a species that it does not name")
            return its
        # numpy and zipfile raise many kinds for bytes that are no such file.
        except Exception as error:
            raise Rejected(
                "golden-mismatch", f"these {len(data)} bytes are no golden set: {error}"
            ) from error
