"""Read the photo packs `wild256` and `wild64`, one picture at a time.

A pack is one npz of JPEG bytes with labels (its SOURCE.txt states terms and defects). The packs never ship with
Tierwise; the model cards state which models were trained on them. Set ``TIERWISE_DATASETS`` to the folder that holds
the packs; the default is ``../shared/data`` beside the repository.

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
    """A data set. `species`, `split`, `source` and `path` have a row for each picture; `jpeg` holds all bytes."""

    name: str
    jpeg: NDArray[np.uint8]
    offset: NDArray[np.int64]
    species: tuple[str, ...]
    split: tuple[str, ...]
    source: tuple[str, ...]
    path: tuple[str, ...]

    def rows(self, split: str) -> list[int]:
        """Return the row numbers of one split (`train`, `val`, `test`)."""
        return [row for row, part in enumerate(self.split) if part == split]

    def bytes(self, row: int) -> NDArray[np.uint8]:
        """Return the JPEG bytes of a picture."""
        return self.jpeg[self.offset[row] : self.offset[row + 1]]

    def picture(self, row: int) -> NDArray[np.uint8]:
        """Decode a picture to BGR (height, width, 3)."""
        image = cv2.imdecode(self.bytes(row), cv2.IMREAD_COLOR)
        if image is None:
            raise Stop(f"{self.name}: picture {row} ({self.path[row]}) does not decode; fetch the pack again")
        return image.astype(np.uint8, copy=False)


def data_root() -> Path:
    """Return the folder of the packs, by ``TIERWISE_DATASETS`` or beside the repository."""
    return Path(os.environ.get("TIERWISE_DATASETS") or Path(__file__).parents[3] / "shared" / "data")


def open_pack(name: str) -> Pack:
    """Open ``<data>/<name>/<name>_pack.npz``. Raises `Stop` if it is absent."""
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
