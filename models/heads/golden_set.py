"""The golden set: vectors of labelled photos by which every new head is judged.

It ships with the model as vectors, so that a trainer without photos can measure what a new head forgets. A part of the
set chooses how much weight new labels get; the rest only judges (`models.training.retrain`).

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
    """Vectors uint8 (n, d) of one space, and the species of each by position in `labels`, (n,)."""

    space: str
    labels: tuple[str, ...]
    vectors: NDArray[np.uint8]
    species: NDArray[np.intp]

    def truths(self, tree: Taxonomy, space: str) -> NDArray[np.intp]:
        """Return positions in a tree's species, (n,).

        Raises `Rejected` (reason `golden-mismatch`) if the set has another space, or a label that the tree lacks.
        """
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
        """The number of photos by species."""
        return Counter(self.labels[at] for at in self.species.tolist())

    @property
    def digest(self) -> str:
        """The SHA-256 in hex, by which a lineage names the set."""
        names = "\n".join((self.space, *self.labels)).encode()
        return digest(names + self.vectors.tobytes() + self.species.astype("<i2").tobytes())

    def to_bytes(self) -> bytes:
        """Encode the set; equal sets give equal bytes."""
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
        """Read what `to_bytes` wrote. Raises `Rejected` (reason `golden-mismatch`) for anything else."""
        try:
            with np.load(BytesIO(data), allow_pickle=False) as arrays:
                labels = tuple(str(label) for label in arrays["labels"].tolist())
                space, vectors = str(arrays["space"]), arrays["vectors"]
                species = arrays["species"].astype(np.intp)
            if vectors.dtype != np.uint8 or vectors.ndim != 2 or species.shape != (len(vectors),):
                raise ValueError(f"vectors {vectors.dtype} {vectors.shape}, species {species.shape}")
            if len(species) and not 0 <= species.min() <= species.max() < len(labels):
                raise ValueError("a species has no label")
            return cls(space, labels, vectors, species)
        # numpy and zipfile raise many kinds of errors for other bytes.
        except Exception as error:
            raise Rejected("golden-mismatch", f"these {len(data)} bytes are no golden set: {error}") from error
