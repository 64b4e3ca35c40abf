"""A fixed camera's frames in time order, and the labels that people gave to some of them: a folder and a CSV.

The CSV has the columns `path` (relative to the folder, or a file's name alone) and `label`, and may have `time`
(seconds, or ISO 8601) and `event`. A frame without a row, or with an empty label, is to be answered. Without a `time`
it is read from the frame's name (20250131-063012, 2025-01-31 06.30.12) or by `time_of`. Where a frame has no time at
all, all frames are ordered by name.

The frames of a visit share the `event` column, or else follow each other within a gap. They are nearly one picture
several times, so visits are split into learning and answering, never frames.

A label may be of any rank, and `empty` means `other`. A species that the tree lacks is given under a family that it
has::

    path,label,time
    0001.jpg,Felidae,2025-01-31T06:30:12Z
    0002.jpg,empty,
    0003.jpg,Bovidae/Bos grunniens,

Example::

    sequence = read_sequence(Path("frames"), Path("labels.csv"), gap_s=30)
    sequence.events[0].frames[0].label      # "Felidae"
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.evaluation.photo_set import listing, read_rows
from models.labels.taxonomy import EMPTY, Species, Taxonomy, UnknownLabel, build, load_taxonomy
from models.vision.photo_files import PHOTO_SUFFIXES, photos_of
from pipeline.errors import Stop

GAP_S = 30.0
"""Frames further apart belong to two visits."""

HOW_TO = "give a CSV with the columns path and label, and time or event if they are known; frames without a label are answered"
# File names of camera traps: year, month, day, hours, minutes and seconds, with or without signs between.
TIME_IN_NAME = re.compile(
    r"(?<!\d)((?:19|20)\d\d)[-_.]?(\d\d)[-_.]?(\d\d)[-_ T.]*(\d\d)[-_.:h]?(\d\d)[-_.:m]?(\d\d)(?!\d)"
)

TimeOf = Callable[[Path], float | None]


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: path within the folder, file, and label in the sequence's tree, None where it is to be answered."""

    name: str
    file: Path
    label: str | None = None


@dataclass(frozen=True, slots=True)
class CameraVisit:
    """One visit: its `event` in the CSV or its first frame's name, and its frames in their order."""

    name: str
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class FrameSequence:
    """Visits in time order, and the tree with the species that these labels add.

    `timed` means that every frame has a time; otherwise frames are ordered by name, and each is a visit of its own
    unless the CSV has an `event`.
    """

    events: tuple[CameraVisit, ...]
    tree: Taxonomy
    timed: bool
    left_out: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of their first frames."""
        return tuple(dict.fromkeys(frame.label for event in self.events for frame in event.frames if frame.label))


def read_sequence(
    folder: Path,
    labels: Path,
    *,
    gap_s: float = GAP_S,
    time_of: TimeOf = lambda _: None,
    skip_bad: bool = False,
) -> FrameSequence:
    """Read the frames of a folder with the labels of a CSV.

    Parameters
    ----------
    time_of
        Called for the time (seconds) of a file whose row and name hold none.
    skip_bad
        Leave out rows that cannot be used and list them, instead of raising.

    Raises
    ------
    Stop
        There are no frames, or rows without a frame, unknown labels or impossible times; the message lists them.
    """
    files = _files(folder)
    rows, complaints = _rows(labels, folder, files)
    tree, found = _labelled(load_taxonomy(), rows, complaints)
    times = _times(files, rows, time_of, complaints)
    if complaints and not skip_bad:
        raise Stop(f"{labels} cannot be used as it is:\n{listing(complaints)}\n--skip-bad leaves out these rows")
    timed = all(time_s is not None for time_s in times.values())
    order = sorted(files, key=lambda name: (times[name] or 0.0, name)) if timed else sorted(files)
    frames = [Frame(name, files[name], found.get(name)) for name in order]
    named = {name: row["event"] for name, row in rows.items() if row["event"]}
    return FrameSequence(_events(frames, named, times if timed else {}, gap_s), tree, timed, tuple(complaints))


def _files(folder: Path) -> dict[str, Path]:
    """Return every frame by its path within the folder."""
    if not folder.is_dir():
        raise Stop(f"--frames {folder}: no such folder; give the folder of one camera's frames")
    files = {path.relative_to(folder).as_posix(): path for path in photos_of(folder)}
    if not files:
        raise Stop(f"--frames {folder}: no frames there (looked for {', '.join(sorted(PHOTO_SUFFIXES))})")
    return files


Rows = Mapping[str, Mapping[str, str]]


def _rows(labels: Path, folder: Path, files: Mapping[str, Path]) -> tuple[Rows, list[str]]:
    """Return rows by their frames, and a complaint about each row without one."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for name in files:
        by_name[name.rpartition("/")[2]].append(name)
    rows: dict[str, Mapping[str, str]] = {}
    complaints = []
    for row in read_rows(labels, ("path", "label"), HOW_TO, optional=("time", "event")):
        given = row["path"].replace("\\", "/").removeprefix("./")
        inside = given.removeprefix(f"{folder.as_posix().rstrip('/')}/")
        names = [inside] if inside in files else by_name.get(inside.rpartition("/")[2], [])
        if len(names) != 1:
            why = "no such frame" if not names else f"{len(names)} frames have this name: give the path"
            complaints.append(f"{row['path'] or 'a row without a path'}: {why}")
        elif names[0] in rows:
            complaints.append(f"{row['path']}: has two rows")
        else:
            rows[names[0]] = row
    if not rows:
        raise Stop(f"{labels}: not one row is about a frame in {folder}; {HOW_TO}")
    return rows, complaints


def _labelled(tree: Taxonomy, rows: Rows, complaints: list[str]) -> tuple[Taxonomy, dict[str, str]]:
    """Return the tree with the new species, and each frame's label. Complain once about each unusable label."""
    meant: dict[str, str | None] = {}
    found: dict[str, str] = {}
    for name, row in rows.items():
        if not (label := row["label"]):
            continue
        if label not in meant:
            try:
                tree, meant[label] = with_label(tree, label)
            except UnknownLabel as error:
                meant[label] = None
                complaints.append(f"{row['path']}: {error}; or write it as Family/Species name")
        if known := meant[label]:
            found[name] = known
    return tree, found


def with_label(tree: Taxonomy, name: str) -> tuple[Taxonomy, str]:
    """Return the tree that holds a name's label, and the label; `Family/Species name` adds a species.

    Raises `UnknownLabel` for a name that the tree lacks, or a family.

    >>> tree, label = with_label(load_taxonomy(), "Felidae/Leopardus guigna")
    >>> tree.path(label)
    ('animal', 'Felidae', 'Leopardus guigna')
    """
    if name.casefold() in EMPTY:
        return tree, "other"
    try:
        return tree, tree.find(name)
    except UnknownLabel:
        family_name, slash, species = (part.strip() for part in name.partition("/"))
        if not slash or not species:
            raise
    family = tree.find(family_name)
    if tree.rank(family) != "family":
        raise UnknownLabel(family_name, tree.families[:0])
    try:
        return tree, tree.find(species)
    except UnknownLabel:
        row = Species(tree.path(family)[0], family, species, species, (), ())
        return build((*tree.rows, row)), species


def _times(files: Mapping[str, Path], rows: Rows, time_of: TimeOf, complaints: list[str]) -> dict[str, float | None]:
    """Return the seconds of each frame, or None for all where a single frame has no time."""
    times: dict[str, float | None] = {}
    for name, row in rows.items():
        if row["time"]:
            try:
                times[name] = parse_time(row["time"])
            except ValueError:
                complaints.append(
                    f"{name}: {row['time']!r} is no time; give seconds or ISO 8601 (2025-01-31T06:30:12Z)"
                )
    for name, file in files.items():
        if name not in times:
            by_name = time_in(name)
            times[name] = time_of(file) if by_name is None else by_name
        if times[name] is None:
            return dict.fromkeys(files)
    return times


def parse_time(text: str) -> float:
    """Return the seconds of a text, which is seconds or ISO 8601 (UTC without a zone). Raises `ValueError`.

    >>> parse_time("1970-01-01T00:01:00Z")
    60.0
    """
    try:
        seconds = float(text)
    except ValueError:
        plain = re.sub(r"^(\d{4}):(\d\d):(\d\d)", r"\1-\2-\3", text)  # as EXIF writes it
        moment = dt.datetime.fromisoformat(plain)
        return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()
    if not math.isfinite(seconds):
        raise ValueError(text)
    return seconds


def time_in(name: str) -> float | None:
    """Return the time in a file's name, in seconds, or None.

    >>> time_in("cam1/IMG_19700101_000100.jpg")
    60.0
    """
    found = TIME_IN_NAME.search(name.rpartition("/")[2])
    if found is None:
        return None
    try:
        return dt.datetime(*map(int, found.groups()), tzinfo=dt.UTC).timestamp()  # type: ignore[arg-type,misc]
    except ValueError:
        return None


def _events(
    frames: Iterable[Frame],
    named: Mapping[str, str],
    times: Mapping[str, float | None],
    gap_s: float,
) -> tuple[CameraVisit, ...]:
    events: dict[str, list[Frame]] = {}
    last: tuple[str, float] | None = None
    for frame in frames:
        time_s = times.get(frame.name)
        event = named.get(frame.name)
        if event is None:
            follows = last is not None and time_s is not None and time_s - last[1] <= gap_s
            event = last[0] if last and follows else frame.name
        events.setdefault(event, []).append(frame)
        last = None if time_s is None else (event, time_s)
    return tuple(CameraVisit(name, tuple(members)) for name, members in events.items())
