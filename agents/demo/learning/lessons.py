"""The photos of `tierwise demo learning`: of species that its first model does not know, and of some that it knows.

The photos are those of the training packs (`models.evaluation.photo_pack`; none ships with Tierwise). The first model,
`before/`, was trained without the new species (`models.train.studies.without`). Of each new species some photos are
labelled and others are tests. They are of different splits of the packs, so that no burst of one animal is in both.

Example::

    photos = chosen(open_pack("wild256"), load_zoo(BEFORE).tree, Amounts(labels=20, tests=10, known=60))
    photos.to_label[0]         # LessonPhoto(jpeg=b"...", species="Caracal caracal", family="Felidae", new=True)
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
    from models.evaluation.photo_pack import Pack

BEFORE: Final = Path(__file__).parent / "before"
"""A zoo of its own: the released model without the new species."""

SEED: Final = 20
SPARE: Final = 1.5
"""Photos to publish for each label: the device takes some for persons, and keeps their features to itself."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """Numbers of photos: labelled and tested for each new species, and tested for all known species together."""

    labels: int = 20
    tests: int = 12
    known: int = 120
    species: int | None = None
    """Number of new species; None for all."""


@dataclass(frozen=True, slots=True)
class LessonPhoto:
    """One photo with its truth."""

    jpeg: bytes
    species: str
    family: str
    kingdom: str
    new: bool

    @property
    def under(self) -> str:
        """The place of its species in the tree, as a label gives it."""
        return f"{self.kingdom}/{self.family}"


@dataclass(frozen=True, slots=True)
class LessonPhotos:
    """The photos to label (more than are labelled, see `SPARE`), and the tests before and after."""

    to_label: tuple[LessonPhoto, ...]
    tests: tuple[LessonPhoto, ...]

    @property
    def new_species(self) -> tuple[str, ...]:
        """The species that are taught."""
        return tuple(dict.fromkeys(photo.species for photo in self.to_label))


def chosen(pack: Pack, before: Taxonomy, amounts: Amounts) -> LessonPhotos:
    """Draw the photos, the same ones each time.

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
        raise Stop(f"{pack.name} holds no species that the first model does not know: there is nothing to learn")
    to_label: list[int] = []
    tests: list[int] = []
    for species in new:
        rows = by_species[species]
        held = list(rng.permutation(rows.get("test", [])))
        rest = list(rng.permutation([*rows.get("train", []), *rows.get("val", [])]))
        spare = round(amounts.labels * SPARE)
        if len(rest) < amounts.labels or not held:
            raise Stop(f"{pack.name}: {len(rest)} photos of {species} to label and {len(held)} tests are too few")
        to_label += rest[:spare]
        tests += held[: amounts.tests]
    known = [row for species in by_species if species in before.species for row in by_species[species].get("test", [])]
    tests += list(rng.permutation(known))[: amounts.known]
    return LessonPhotos(tuple(_photos(pack, tree, to_label, new)), tuple(_photos(pack, tree, tests, new)))


def _photos(pack: Pack, tree: Taxonomy, rows: Iterable[int], new: Iterable[str]) -> Iterator[LessonPhoto]:
    unknown = frozenset(new)
    for row in rows:
        species = tree.find(pack.species[row])
        at = tree.species.index(species)
        family = tree.families[tree.family_of[at]]
        kingdom = tree.kingdoms[tree.kingdom_of[tree.family_of[at]]]
        yield LessonPhoto(pack.bytes(int(row)).tobytes(), species, family, kingdom, species in unknown)
