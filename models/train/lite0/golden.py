"""The golden set that ships with a model: ``python -m models.train.lite0.golden`` (after `features` and `heads`).

Validation photos, which the heads were not tuned on (their temperatures were): most of wild256's as they are, and some of
wild64's. Vectors of 256 bytes, from which no photo comes back.

Written: ``models/zoo/lite0/golden.npz``; the manifest names it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from models.heads.golden_set import GOLDEN, GoldenSet
from models.labels.taxonomy import Taxonomy, load_taxonomy
from models.manifest import digest, read_manifest, write_manifest
from models.shipped import projection
from models.train.lite0.heads import ZOO, load
from models.train.pictures.data import Pack, open_pack

PHOTOS = {"wild256-whole": 600, "wild64": 1400}
"""Drawn as they come: how much is lost of all photos is only told by a sample of all photos."""


def golden_set(tree: Taxonomy, packs: Mapping[str, Pack], folder: Path) -> GoldenSet:
    """Photos of the validation split as vectors of a folder's model, sorted by species."""
    manifest = read_manifest(folder)
    its = projection(manifest)
    vectors, species = [], []
    for kind, most in PHOTOS.items():
        photos = load(tree, packs, kind, "val")
        drawn = np.random.default_rng(0).permutation(len(photos.species))[:most]
        vectors.append(its.bytes(photos.feature[drawn]))
        species.append(photos.species[drawn])
    at = np.concatenate(species)
    by_species = np.argsort(at, kind="stable")
    present, place = np.unique(at[by_species], return_inverse=True)
    labels = tuple(tree.species[position] for position in present.tolist())
    return GoldenSet(str(manifest.space), labels, np.concatenate(vectors)[by_species], place.astype(np.intp))


def add_golden(tree: Taxonomy, packs: Mapping[str, Pack], folder: Path) -> int:
    """Writes the set beside a model's files and names it in the manifest; returns its size in bytes."""
    data = golden_set(tree, packs, folder).to_bytes()
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
