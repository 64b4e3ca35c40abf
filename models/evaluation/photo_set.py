"""Labelled photos: a folder with a subfolder for each label, or a CSV with the columns `path` and `label`.

Labels may be scientific, English or the packs' names, of any rank. Folders with other names are mapped by a CSV with
the columns `name` and `label` (``labels.csv`` in the folder, or a file that the caller names); ``-`` as the label
leaves a folder out. Files that cannot be read and unknown labels are listed before anything starts, each unknown label
once, with the nearest that the tree holds. Photos are read one by one, so a folder may be larger than memory.

Example::

    photos = read_photos(Path("photos")).photos
    photos[0].truth    # ("animal", "Felidae", "Panthera tigris")
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.labels.taxonomy import Taxonomy, UnknownLabel, load_taxonomy
from models.vision import images
from pipeline.errors import Rejected, Stop

SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
MAP_FILE = "labels.csv"
LEAVE_OUT = "-"
# A person reads this list; the photos of one unknown label are one line.
COMPLAINTS_SHOWN = 40
HOW_TO_LABEL = "give a folder with a subfolder a label (tiger/1.jpg), or a CSV with the columns path and label"
HOW_TO_MAP = (
    f"map names that are no labels: a {MAP_FILE} beside the folders, or --labels-map FILE, with the columns name and "
    f"label (`{LEAVE_OUT}` leaves a folder out); `tierwise labels tree` lists the tree's"
)


@dataclass(frozen=True, slots=True)
class Photo:
    """One labelled photo: its name in complaints, the path of its label in the tree, and its bytes or file.

    `camera` is its folder: with ``--frames`` the photos of a folder are one fixed camera's frames, in the order of
    names.
    """

    name: str
    truth: tuple[str, ...]
    camera: str
    source: Path | bytes

    def read(self) -> bytes:
        """Return the bytes. Raises `Rejected` (reason `unreadable`) where the file is gone or not readable."""
        if isinstance(self.source, bytes):
            return self.source
        try:
            return self.source.read_bytes()
        except OSError as error:
            raise Rejected("unreadable", f"it cannot be read: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class LabelledPhotos:
    """Photos that can be used, and a complaint about each that cannot."""

    photos: tuple[Photo, ...]
    left_out: tuple[str, ...] = ()


def read_photos(
    source: Path, tree: Taxonomy | None = None, *, labels_map: Path | None = None, skip_bad: bool = False
) -> LabelledPhotos:
    """Read the photos of a folder or a CSV.

    Parameters
    ----------
    labels_map
        A CSV with the columns `name` and `label`; without it ``labels.csv`` of the folder, if there is one.
    skip_bad
        Leave out photos that cannot be used and list them, instead of raising.

    Raises
    ------
    Stop
        There are no photos, or unreadable files or unknown labels; the message lists them.
    """
    tree = tree or load_taxonomy()
    names = _label_names(source, labels_map)
    found: list[Photo] = []
    complaints: list[str] = []
    unknown: dict[str, list[Path]] = defaultdict(list)
    for path, name in _listed(source):
        label = names.get(name, name)
        if label == LEAVE_OUT:
            continue
        try:
            truth = tree.path(tree.find(label))
        except UnknownLabel:
            unknown[label].append(path)
            continue
        photo = Photo(str(path), truth, str(path.parent), path)
        try:
            images.inspect(photo.read())
            found.append(photo)
        except Rejected as error:
            complaints.append(f"{path}: {error}")
    complaints += [_unknown(tree, label, paths, source) for label, paths in unknown.items()]
    if complaints and not skip_bad:
        raise Stop(f"{source} cannot be used as it is:\n{listing(complaints)}\n{_advice(bool(unknown))}")
    if not found:
        reasons = f":\n{listing(complaints)}" if complaints else ""
        raise Stop(f"{source} holds no photos that can be used; {HOW_TO_LABEL}{reasons}")
    return LabelledPhotos(tuple(found), tuple(complaints))


def _unknown(tree: Taxonomy, label: str, paths: list[Path], source: Path) -> str:
    photos = f"{paths[0]}" if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1:,} more"
    if paths[0].parent == source:
        return f"{photos}: in no folder that is named after a label"
    if not label:
        return f"{photos}: no label"
    return f"{photos}: {UnknownLabel(label, tree.nearest(label))}"


def listing(complaints: list[str]) -> str:
    """Return the first complaints, a line each, and the number of the others."""
    more = len(complaints) - COMPLAINTS_SHOWN
    return "\n".join(complaints[:COMPLAINTS_SHOWN] + ([f"and {more:,} more"] if more > 0 else []))


def _advice(unknown: bool) -> str:
    leave = "--skip-bad leaves out the listed files"
    return f"{HOW_TO_MAP}; {leave}" if unknown else f"correct these files, or: {leave}"


def _listed(source: Path) -> Iterator[tuple[Path, str]]:
    """Yield paths and the names of their labels, in the order of the paths."""
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.suffix.lower() in SUFFIXES:
                yield path, path.parent.name
        return
    for row in read_rows(source, ("path", "label"), HOW_TO_LABEL):
        yield source.parent / row["path"], row["label"]


def _label_names(source: Path, labels_map: Path | None) -> Mapping[str, str]:
    file = labels_map or source / MAP_FILE
    if labels_map is None and not file.is_file():
        return {}
    return {row["name"]: row["label"] for row in read_rows(file, ("name", "label"), HOW_TO_MAP)}


def read_rows(
    file: Path, columns: tuple[str, str], advice: str, optional: tuple[str, ...] = ()
) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV, values stripped; missing values and optional columns are empty.

    Raises `Stop`, with the advice, where the file cannot be read or lacks a column.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.DictReader(lines)
            if not set(columns) <= set(rows.fieldnames or ()):
                has = ", ".join(rows.fieldnames or ()) or "none"
                raise Stop(f"{file} needs the columns {' and '.join(columns)}; it has {has}; {advice}")
            for row in rows:
                yield {column: (row.get(column) or "").strip() for column in (*columns, *optional)}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        what = error.strerror if isinstance(error, OSError) else error
        raise Stop(f"{file} cannot be read: {what}; {advice}") from error
