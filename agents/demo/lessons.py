"""What `tierwise demo learning` shows the tiers: photos of species that its first model never met, and of some that it knows.

The photos are the training packs' (`models.train.pictures.data`: none ships with Tierwise). The first model, `before/`, was made without
them (`models.train.studies.without`); of each new species some photos are labelled and others only asked about, all from the packs' rows of
different splits, so that no burst of one animal stands on both sides.

Example::

    photos = chosen(open_pack("wild256"), load_zoo(BEFORE).tree, Amounts(labels=20, tests=10, known=60))
    photos.labelled[0]          # Photo(jpeg=b"...", species="Caracal caracal", family="Felidae", new=True)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from models.labels.taxonomy import Taxonomy, load_taxonomy
from pipeline.errors import Stop

if TYPE_CHECKING:
    from models.train.pictures.data import Pack

BEFORE: Final = Path(__file__).parent / "before"
"""A zoo of its own: the released model as it would be without the new species."""

SEED: Final = 20
SPARE: Final = 1.5
"""So many more photos to label are published than are labelled: the device takes some for persons, and their features stay with it."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """Photos of each new species that are labelled, and that are asked about; photos of known species, in all."""

    labels: int = 20
    tests: int = 12
    known: int = 120
    species: int | None = None
    """How many of the new species; None: all."""


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo with its truth."""

    jpeg: bytes
    species: str
    family: str
    kingdom: str
    new: bool

    @property
    def under(self) -> str:
        """Where its species belongs, as a label says it."""
        return f"{self.kingdom}/{self.family}"


@dataclass(frozen=True, slots=True)
class Photos:
    """What is published to be labelled (more than are labelled, see `SPARE`), and what is asked about before and after."""

    to_label: tuple[Photo, ...]
    tests: tuple[Photo, ...]

    @property
    def new_species(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(photo.species for photo in self.to_label))


def chosen(pack: Pack, before: Taxonomy, amounts: Amounts) -> Photos:
    """Draws the photos, the same ones each time.

    Raises
    ------
    Stop
        The pack holds too few photos of a species that `before` lacks, or none of any.
    """
    tree = load_taxonomy()
    rng = np.random.default_rng(SEED)
    by_species: dict[str, dict[str, list[int]]] = {}
    for row, name in enumerate(pack.species):
        by_species.setdefault(tree.find(name), {}).setdefault(pack.split[row], []).append(row)
    new = sorted(species for species in by_species if species not in before.species)
    new = new[: amounts.species]
    if not new:
        raise Stop(
            f"{pack.name} holds no species that the first model has not met: nothing could be learned from it"
        )
    to_label: list[int] = []
    tests: list[int] = []
    for species in new:
        rows = by_species[species]
        held = list(rng.permutation(rows.get("test", [])))
        rest = list(rng.permutation([*rows.get("train", []), *rows.get("val", [])]))
        spare = round(amounts.labels * SPARE)
        if len(rest) < amounts.labels or not held:
            raise Stop(
                f"{pack.name}: {len(rest)} photos of {species} to label and {len(held)} to ask about are too few"
            )
        to_label += rest[:spare]
        tests += held[: amounts.tests]
    known = [
        row
        for species in by_species
        if species in before.species
        for row in by_species[species].get("test", [])
    ]
    tests += list(rng.permutation(known))[: amounts.known]
    return Photos(tuple(_photos(pack, tree, to_label, new)), tuple(_photos(pack, tree, tests, new)))


def _photos(pack: Pack, tree: Taxonomy, rows: Iterable[int], new: Iterable[str]) -> Iterator[Photo]:
    unknown = frozenset(new)
    for row in rows:
        species = tree.find(pack.species[row])
        at = tree.species.index(species)
        family = tree.families[tree.family_of[at]]
        kingdom = tree.kingdoms[tree.kingdom_of[tree.family_of[at]]]
        yield Photo(pack.bytes(int(row)).tobytes(), species, family, kingdom, species in unknown)
