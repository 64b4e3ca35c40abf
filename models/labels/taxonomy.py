"""The label tree: kingdom > family > species, one table for every tier.

The table (``models/zoo/taxonomy.tsv``) has a row for each species: its kingdom, family, scientific and English name,
its ImageNet classes (numbers 0 to 999) and its name in the training packs. Where ImageNet names only a genus or a
group (`kite`, `snail`), a genus that many of its photos show represents it. `person` and `other` are leaves without
lower ranks, so that their path has one step. Fungi belong to `other`, since the four kingdoms are animal, plant,
person and other; their family is `Fungi`.

Example::

    tree = load_taxonomy()
    tree.path("Panthera tigris")  # ("animal", "Felidae", "Panthera tigris")
    tree.path("Felidae")          # ("animal", "Felidae")
    tree.path("person")           # ("person",)
    tree.find("Tiger")            # "Panthera tigris"

Names follow the Catalogue of Life; ImageNet's classes are those of ILSVRC 2012.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from models.labels.scores import Scores
from pipeline.errors import Rejected

KINGDOMS = ("animal", "plant", "person", "other")
RANKS = ("kingdom", "family", "species")
IMAGENET_CLASSES = 1000

EMPTY = frozenset({"empty", "nothing", "blank"})
"""Labels that people give to a frame without any living thing."""

TABLE = Path(__file__).parents[1] / "zoo" / "taxonomy.tsv"


class UnknownLabel(Rejected):
    """The tree lacks the label; the message suggests similar labels."""

    def __init__(self, label: str, nearest: Sequence[str]) -> None:
        hint = f"; did you mean {' or '.join(map(repr, nearest))}?" if nearest else ""
        super().__init__("unknown-label", f"the label tree has no {label!r}{hint}")


@dataclass(frozen=True, slots=True)
class Species:
    """One row of the table. `imagenet` holds class numbers, `names` the names in the training packs."""

    kingdom: str
    family: str
    label: str
    english: str
    imagenet: tuple[int, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """The tree. `family_of` and `kingdom_of` map positions to parents: species -> family, family -> kingdom."""

    rows: tuple[Species, ...]
    species: tuple[str, ...]
    families: tuple[str, ...]
    kingdoms: tuple[str, ...]
    family_of: NDArray[np.intp]
    kingdom_of: NDArray[np.intp]
    paths: Mapping[str, tuple[str, ...]]
    names: Mapping[str, str]

    def path(self, label: str) -> tuple[str, ...]:
        """Return the path from the kingdom to the label. Raises `UnknownLabel`."""
        try:
            return self.paths[label]
        except KeyError:
            raise UnknownLabel(label, self.nearest(label)) from None

    def rank(self, label: str) -> str:
        """Return `kingdom`, `family` or `species`; `person` and `other` are kingdoms. Raises `UnknownLabel`."""
        return RANKS[len(self.path(label)) - 1]

    def english(self, label: str) -> str:
        """Return the common name of a species, or another label itself. Raises `UnknownLabel`."""
        if self.rank(label) != "species":
            return label
        return self.rows[self.species.index(label)].english

    def find(self, name: str) -> str:
        """Return the label of a scientific, English or training name, in any case. Raises `UnknownLabel`."""
        key = _plain(name)
        if key not in self.names:
            raise UnknownLabel(name, self.nearest(name))
        return self.names[key]

    def nearest(self, name: str, count: int = 2) -> tuple[str, ...]:
        """Return labels with similarly spelled names, the most similar first."""
        near = difflib.get_close_matches(_plain(name), self.names, n=count)
        return tuple(dict.fromkeys(self.names[name] for name in near))

    def imagenet_to_species(self) -> NDArray[np.intp]:
        """Return the position in `species` of each ImageNet class, (1000,); classes without a row are `other`."""
        to = np.full(IMAGENET_CLASSES, self.species.index("other"), np.intp)
        for position, row in enumerate(self.rows):
            to[list(row.imagenet)] = position
        return to


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _numbers(text: str) -> tuple[int, ...]:
    """Parse ``"7-8,101"`` to (7, 8, 101); ``*`` (all classes without a row) adds none."""
    spans = [part.split("-") for part in text.split(",") if part and part != "*"]
    return tuple(number for span in spans for number in range(int(span[0]), int(span[-1]) + 1))


@cache
def load_taxonomy() -> Taxonomy:
    """Return the shipped tree; a process reads it once."""
    return read_taxonomy(TABLE)


def read_taxonomy(table: Path) -> Taxonomy:
    """Read a table with tab-separated columns kingdom, family, species, english, imagenet, wild64."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = tuple(
            Species(
                kingdom=row["kingdom"],
                family=row["family"],
                label=row["species"],
                english=row["english"],
                imagenet=_numbers(row["imagenet"]),
                names=tuple(name for name in row["wild64"].split(",") if name),
            )
            for row in csv.DictReader(file, delimiter="\t")
        )
    return build(rows)


def build(rows: tuple[Species, ...]) -> Taxonomy:
    """Build the tree of rows; a leaf (`person`, `other`) repeats its kingdom as family and species."""
    species = tuple(row.label for row in rows)
    kingdom_of_family = {row.family: row.kingdom for row in rows}
    families = tuple(kingdom_of_family)
    paths: dict[str, tuple[str, ...]] = {kingdom: (kingdom,) for kingdom in KINGDOMS}
    for row in rows:
        if row.family != row.kingdom:
            paths[row.family] = (row.kingdom, row.family)
        if row.label != row.family:
            paths[row.label] = (row.kingdom, row.family, row.label)
    names = {_plain(label): label for label in paths}
    for row in rows:
        for name in (row.english, *row.names):
            names.setdefault(_plain(name), row.label)
    return Taxonomy(
        rows=rows,
        species=species,
        families=families,
        kingdoms=KINGDOMS,
        family_of=np.array([families.index(row.family) for row in rows], np.intp),
        kingdom_of=np.array([KINGDOMS.index(kingdom_of_family[family]) for family in families], np.intp),
        paths=MappingProxyType(paths),
        names=MappingProxyType(names),
    )


def label_at(tree: Taxonomy, label: str, rank: str) -> str | None:
    """Return a label's ancestor at a rank, None for a coarser label. `person` and `other` stand at every rank."""
    path, depth = tree.path(label), RANKS.index(rank)
    if len(path) == 1 and label in tree.species:
        return label
    return path[depth] if depth < len(path) else None


def deepest_rank(tree: Taxonomy, label: str) -> str:
    """Return the deepest rank that a label belongs to: a leaf is a species as well as a kingdom."""
    return "species" if label in tree.species else tree.rank(label)


def roll_up(tree: Taxonomy, species: Scores) -> tuple[Scores, Scores]:
    """Sum scores over species to (scores over families, scores over kingdoms)."""
    families = np.bincount(tree.family_of, species.probabilities, len(tree.families)).astype(np.float32)
    kingdoms = np.bincount(tree.kingdom_of, families, len(KINGDOMS)).astype(np.float32)
    return Scores("family", tree.families, families), Scores("kingdom", tree.kingdoms, kingdoms)
