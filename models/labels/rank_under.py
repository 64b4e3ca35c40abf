"""Place new labels in the label tree, for `pipeline.sums.fold`, which knows no tree.

::

    placing = Placing(load_taxonomy())
    placing("Felis catus", "", "", ())                                    # None, since the tree has this label
    placing("Herpestes edwardsi", "animal/Herpestidae", "mongoose", ())   # the new row
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from models.labels.taxonomy import Species, Taxonomy, UnknownLabel
from models.labels.taxonomy_growth import grown, row_under
from pipeline.sums.new_labels import NewLabel


class Placing:
    """`pipeline.sums.new_labels.Place` over one tree."""

    def __init__(self, tree: Taxonomy) -> None:
        self._tree = tree
        self._grown: tuple[tuple[NewLabel, ...], Taxonomy] = ((), tree)

    def knows(self, label: str) -> bool:
        """Return whether the shipped tree has the label."""
        return label in self._tree.paths

    def __call__(self, label: str, under: str, english: str, rows: Sequence[NewLabel]) -> NewLabel | None:
        """Return the row for a label; None if the tree has it. Raises `Rejected`: ``unknown-label``, ``bad-label``."""
        tree = self._with(tuple(rows))
        if label in tree.paths:
            return None
        if not under:
            raise UnknownLabel(label, tree.nearest(label))
        row = row_under(tree, label, under, english)
        return NewLabel(row.label, row.kingdom, row.family, row.english)

    def _with(self, rows: tuple[NewLabel, ...]) -> Taxonomy:
        if rows != self._grown[0]:
            self._grown = (rows, grown(self._tree, species_of(rows)))
        return self._grown[1]


def species_of(rows: Iterable[NewLabel]) -> tuple[Species, ...]:
    """Convert rows to those of the label tree."""
    return tuple(Species(row.kingdom, row.family, row.label, row.english, (), ()) for row in rows)
