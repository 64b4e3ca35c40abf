"""The golden set that ships with a model: ``python -m models.train.golden`` (after `features` and `heads`).

Validation photos, which the heads were not tuned on (their temperatures were): those of wild256 as they are, and of wild64
some of each species. Vectors of 256 bytes, from which no photo comes back.

Written: ``models/zoo/lite0/golden.npz``; the manifest names it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from models.golden import GOLDEN, GoldenSet
from models.manifest import digest, read_manifest, write_manifest
from models.registry import projection
from models.taxonomy import Taxonomy, load_taxonomy
from models.train.data import Pack, open_pack
from models.train.heads import ZOO, load

PHOTOS = {"wild256-whole": 12, "wild64": 16}
"""Of each species at most so many; of persons and of things that are nobody `OF_LEAVES` times as many."""

LEAVES = ("person", "other")
OF_LEAVES = 6


def golden_set(tree: Taxonomy, packs: Mapping[str, Pack], folder: Path, share: float = 1.0) -> GoldenSet:
    """A share of the photos of the validation split as vectors of a folder's model, sorted by species."""
    manifest = read_manifest(folder)
    its = projection(manifest)
    vectors, species = [], []
    for kind, most in PHOTOS.items():
        photos = load(tree, packs, kind, "val")
        order = np.random.default_rng(0).permutation(len(photos.species))
        for position, label in enumerate(tree.species):
            found = order[photos.species[order] == position][
                : int(share * most * (OF_LEAVES if label in LEAVES else 1))
            ]
            vectors.append(its.bytes(photos.feature[found]))
            species.append(np.full(len(found), position, np.intp))
    at = np.concatenate(species)
    by_species = np.argsort(at, kind="stable")
    present, place = np.unique(at[by_species], return_inverse=True)
    labels = tuple(tree.species[position] for position in present.tolist())
    return GoldenSet(str(manifest.space), labels, np.concatenate(vectors)[by_species], place.astype(np.intp))


def add_golden(tree: Taxonomy, packs: Mapping[str, Pack], folder: Path, share: float = 1.0) -> int:
    """Writes the set beside a model's files and names it in the manifest; returns its size in bytes."""
    data = golden_set(tree, packs, folder, share).to_bytes()
    (folder / GOLDEN).write_bytes(data)
    manifest = read_manifest(folder)
    write_manifest(msgspec.structs.replace(manifest, files={**manifest.files, GOLDEN: digest(data)}))
    return len(data)


def main() -> None:
    size_bytes = add_golden(load_taxonomy(), {name: open_pack(name) for name in ("wild256", "wild64")}, ZOO)
    its = GoldenSet.of((ZOO / GOLDEN).read_bytes())
    sys.stdout.write(
        f"{ZOO / GOLDEN}: {len(its.species):,} photos of {len(its.labels)} species, {size_bytes:,} bytes\n"
    )


if __name__ == "__main__":
    main()
