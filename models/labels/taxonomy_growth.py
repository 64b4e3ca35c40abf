"""Grow the label tree by species that people named.

People state the parent of a new label: ``Felidae`` for a species of a known family, or ``animal/Herpestidae`` for a
new family of a kingdom. Rows are only appended, so that the shipped species keep the positions that the shipped heads
use.

Example::

    row = row_under(tree, "Herpestes edwardsi", under="animal/Herpestidae", english="grey mongoose")
    grown(tree, (row,)).path("Herpestes edwardsi")    # ("animal", "Herpestidae", "Herpestes edwardsi")
"""

from __future__ import annotations

from collections.abc import Iterable

from models.labels.taxonomy import KINGDOMS, Species, Taxonomy, UnknownLabel, build
from pipeline.errors import Rejected

LONGEST_NAME = 80
"""The most characters of a name."""

LEAVES = ("person", "other")
COLUMNS = ("kingdom", "family", "species", "english")


def row_under(tree: Taxonomy, label: str, under: str, english: str = "") -> Species:
    """Return the row of a new species. `under` is a known family, or ``kingdom/Family`` for a new one.

    Raises `Rejected`: `unknown-label` if `under` does not exist, `bad-label` for a name that is impossible or taken.
    """
    _check_name(label)
    _check_name(english or label)
    if label in tree.paths:
        raise Rejected("bad-label", f"{label!r} is in the label tree already; leave `under` out")
    kingdom, slash, family = under.partition("/")
    if not slash:
        found = under if under in tree.families and under not in KINGDOMS else ""
        if not found:
            raise UnknownLabel(under, [name for name in tree.nearest(under) if name in tree.families])
        return Species(tree.path(found)[0], found, label, english or label, (), ())
    _check_name(family)
    if kingdom not in KINGDOMS or kingdom in LEAVES:
        raise Rejected("bad-label", f"{kingdom!r} takes no family: new families belong under animal or plant")
    if family in tree.paths and (family not in tree.families or tree.path(family)[0] != kingdom):
        raise Rejected("bad-label", f"{family!r} is {'/'.join(tree.path(family))} in the label tree, not {under}")
    return Species(kingdom, family, label, english or label, (), ())


def grown(tree: Taxonomy, rows: Iterable[Species]) -> Taxonomy:
    """Return the tree with rows appended. Raises `Rejected` (reason `bad-label`) for an impossible row."""
    for row in rows:
        known = row.family in tree.families
        row_under(tree, row.label, row.family if known else f"{row.kingdom}/{row.family}", row.english)
        if known and tree.path(row.family)[0] != row.kingdom:
            raise Rejected("bad-label", f"{row.family} is no family of kingdom {row.kingdom}")
        tree = build((*tree.rows, Species(row.kingdom, row.family, row.label, row.english, (), ())))
    return tree


def rows_to_tsv(rows: Iterable[Species]) -> bytes:
    """Encode rows as a table, one a line; `rows_of_tsv` reads it."""
    lines = ("\t".join((row.kingdom, row.family, row.label, row.english)) for row in rows)
    return ("\n".join(("\t".join(COLUMNS), *lines)) + "\n").encode()


def rows_of_tsv(data: bytes) -> tuple[Species, ...]:
    """Read the rows of a table. Raises `Rejected` (reason `bad-release`)."""
    try:
        head, *lines = data.decode("utf-8").splitlines()
    except (UnicodeDecodeError, ValueError) as error:
        raise Rejected("bad-release", f"the release's tree is no table: {error}") from error
    cells = [tuple(line.split("\t")) for line in lines]
    if tuple(head.split("\t")) != COLUMNS or any(len(row) != len(COLUMNS) for row in cells):
        raise Rejected("bad-release", f"the release's tree is no table of {', '.join(COLUMNS)}")
    return tuple(Species(kingdom, family, label, english, (), ()) for kingdom, family, label, english in cells)


def _check_name(name: str) -> None:
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or name.strip() != name or set(name) & set("/\t+#"):
        raise Rejected(
            "bad-label",
            f"{name[:LONGEST_NAME]!r} cannot name a label: 1 to {LONGEST_NAME} printable characters, no '/', '+', '#' or tab",
        )
