"""Make the golden set that ships with a model: ``python -m models.train.lite0.golden`` (after `features` and `heads`).

It holds validation photos, which fitted the temperatures but not the heads: most of wild256's and some of wild64's.
They are vectors of 256 bytes, from which no photo can be restored.

Written: ``models/zoo/lite0/golden.npz``; the manifest lists it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from models.evaluation.photo_pack import Pack, open_pack
from models.heads.golden_set import GOLDEN, GoldenSet
from models.labels.taxonomy import Taxonomy, load_taxonomy
from models.manifest import read_manifest
from models.shipped import projection
from models.train.lite0.heads import ZOO, load
from models.train.zoo_folder import write_manifest

PHOTOS = {"wild256-whole": 600, "wild64": 1400}
"""A plain random sample: only it shows how much is lost over all photos."""


def golden_set(tree: Taxonomy, packs: Mapping[str, Pack], folder: Path) -> GoldenSet:
    """Make vectors of validation photos by a folder's model, sorted by species."""
    manifest = read_manifest(folder)
    space = projection(manifest)
    vectors, species = [], []
    for kind, most in PHOTOS.items():
        photos = load(tree, packs, kind, "val")
        drawn = np.random.default_rng(0).permutation(len(photos.species))[:most]
        vectors.append(space.bytes(photos.feature[drawn]))
        species.append(photos.species[drawn])
    at = np.concatenate(species)
    by_species = np.argsort(at, kind="stable")
    present, place = np.unique(at[by_species], return_inverse=True)
    labels = tuple(tree.species[position] for position in present.tolist())
    return GoldenSet(str(manifest.space), labels, np.concatenate(vectors)[by_species], place.astype(np.intp))


def add_golden(tree: Taxonomy, packs: Mapping[str, Pack], folder: Path) -> int:
    """Write the set beside a model's files and adds it to the manifest; returns its size in bytes."""
    data = golden_set(tree, packs, folder).to_bytes()
    (folder / GOLDEN).write_bytes(data)
    manifest = read_manifest(folder)
    write_manifest(manifest, {*manifest.files, GOLDEN})
    return len(data)


def main() -> None:
    """Run this recipe."""
    size_bytes = add_golden(load_taxonomy(), {name: open_pack(name) for name in ("wild256", "wild64")}, ZOO)
    golden = GoldenSet.of((ZOO / GOLDEN).read_bytes())
    sys.stdout.write(
        f"{ZOO / GOLDEN}: {len(golden.species):,} photos of {len(golden.labels)} species, {size_bytes:,} bytes\n"
    )


if __name__ == "__main__":
    main()
