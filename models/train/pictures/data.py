"""Where the training pictures come from: the packs `wild256` and `wild64`, read one picture at a time.

A pack is one npz of JPEG bytes with labels (its SOURCE.txt tells terms and defects). It never ships with Tierwise:
only what was learned from it does, with a model card that says so. Set ``TIERWISE_DATASETS`` to the folder that holds
the packs; without it ``../shared/data`` beside the repository is tried.

Example::

    pack = open_pack("wild256")
    for i in pack.rows(split="train"):
        picture, species = pack.picture(i), pack.species[i]
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Stop

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Pack:
    """One data set. `species`, `split` and `source` are parallel to the pictures; `jpeg` holds all their bytes."""

    name: str
    jpeg: NDArray[np.uint8]
    offset: NDArray[np.int64]
    species: tuple[str, ...]
    split: tuple[str, ...]
    source: tuple[str, ...]
    path: tuple[str, ...]

    def rows(self, split: str) -> list[int]:
        """Row numbers of one split (`train`, `val`, `test`)."""
        return [row for row, its in enumerate(self.split) if its == split]

    def bytes(self, row: int) -> NDArray[np.uint8]:
        """The JPEG bytes of one picture."""
        return self.jpeg[self.offset[row] : self.offset[row + 1]]

    def picture(self, row: int) -> NDArray[np.uint8]:
        """One picture, BGR, (height, width, 3)."""
        image = cv2.imdecode(self.bytes(row), cv2.IMREAD_COLOR)
        if image is None:
            raise Stop(f"{self.name}: picture {row} ({self.path[row]}) does not decode; fetch the pack again")
        return image.astype(np.uint8, copy=False)


def data_root() -> Path:
    """The folder of the packs, by ``TIERWISE_DATASETS`` or beside the repository."""
    return Path(os.environ.get("TIERWISE_DATASETS") or Path(__file__).parents[4] / "shared" / "data")


def open_pack(name: str) -> Pack:
    """Opens ``<data>/<name>/<name>_pack.npz``. Raises `Stop` where it is absent."""
    file = data_root() / name / f"{name}_pack.npz"
    if not file.is_file():
        raise Stop(f"{file} is not there; set TIERWISE_DATASETS to the folder that holds {name}/")
    # Labels are stored as unicode arrays, never as pickled objects.
    with np.load(file, allow_pickle=False) as pack:
        species_names = [str(name) for name in pack["species_names"]]
        return Pack(
            name=name,
            jpeg=pack["jpeg"],
            offset=pack["offset"].astype(np.int64),
            species=tuple(species_names[i] for i in pack["species"].tolist()),
            split=tuple(SPLITS[i] for i in pack["split"].tolist()),
            source=tuple(str(source) for source in pack["source"]),
            path=tuple(str(path) for path in pack["path"]),
        )
