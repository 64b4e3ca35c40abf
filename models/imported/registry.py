"""The registry on disk: models of one's own, every version a folder that is whole or is not there.

::

    <data>/models/mine/1/manifest.json, CARD.md, model.onnx, model.json, ...
                       2/                                             # made by `tierwise models fit`

An entry is written into a hidden folder, flushed to the disk and renamed into place, so that a crash, a full disk or a
second import at the same time leave no half of one. Versions only grow: the number of one that was removed is never
given again, since results name their model by it. What is read is checked against its manifest first.

Example::

    registry = Registry(settings.data_dir / MODELS)
    entry = registry.add("mine", Draft(files={...}, card=..., labels=..., terms=...))
    registry.entry("mine@1").read("model.onnx")
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models import manifest
from models.manifest import Manifest, digest, make_manifest, read_manifest, write_manifest
from pipeline import topics
from pipeline.errors import Stop
from pipeline.files import private_files

MODELS: Final = "models"
"""The registry's folder within a site's data."""

CARD: Final = "CARD.md"
LAST: Final = "last-version"
"""In a name's folder: the highest version that was ever removed."""

_NEW, _GONE = ".new-", ".gone-"
LEFT_OVER_S: Final = 86_400.0
"""A hidden folder as old as this is nobody's work in progress: its process was killed."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry to be: file names to bytes, and what its manifest and its card say. `card` gets the title."""

    files: Mapping[str, bytes]
    card: Callable[[str], str]
    labels: tuple[str, ...]
    terms: str
    task: str = "wildlife"
    size_px: int | None = None
    space: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of one model."""

    manifest: Manifest

    @property
    def title(self) -> str:
        """How results and settings name it: ``mine@1``."""
        return self.manifest.title

    @property
    def card(self) -> str:
        """Its card; empty where somebody removed it, since nothing runs by it."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return (self.manifest.folder / CARD).read_text("utf-8")
        return ""

    def has(self, file: str) -> bool:
        """Whether its manifest names such a file."""
        return file in self.manifest.files

    def read(self, file: str) -> bytes:
        """A file's bytes, if they are those that were put there. Raises `Stop`."""
        path = self.manifest.folder / file
        if not self.has(file):
            raise Stop(f"model {self.title} has no {file}: {path.parent / manifest.FILE} does not name it")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise Stop(
                f"model {self.title}: {path} cannot be read ({error.strerror}); import it again"
            ) from error
        if digest(data) != self.manifest.files[file]:
            raise Stop(
                f"model {self.title}: {path} is damaged or was changed (its SHA-256 is not its manifest's); "
                "import it again"
            )
        return data

    def check(self) -> None:
        """Reads every file. Raises `Stop`."""
        for file in self.manifest.files:
            self.read(file)


class Registry:
    """The entries of one folder. Opens nothing; every method looks at the disk anew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entries(self) -> tuple[Entry, ...]:
        """All entries whose manifests can be read, by name and version."""
        return tuple(its for its in self._found() if isinstance(its, Entry))

    def damaged(self) -> tuple[str, ...]:
        """A line about each entry whose manifest cannot be read."""
        return tuple(its for its in self._found() if isinstance(its, str))

    def entry(self, title: str) -> Entry:
        """``mine@2``, or ``mine`` for its newest version. Raises `Stop`, naming what is there."""
        name, _, version = title.partition("@")
        versions = sorted(_versions(self.folder / name)) if topics.is_name(name) else []
        wanted = version or str(next(reversed(versions), ""))
        if wanted in map(str, versions):
            return _read(self.folder / name / wanted)
        mine = [f"{name}@{its}" for its in versions]
        there = ", ".join(mine or [its.title for its in self.entries()]) or "none yet"
        raise Stop(
            f"there is no model {title} in {self.folder} (there: {there}); `tierwise models import` brings one"
        )

    def add(self, name: str, draft: Draft) -> Entry:
        """A new entry, as the next version of its name. Raises `Stop` where it cannot be written; then nothing is there."""
        if not topics.is_name(name):
            raise Stop(
                f"{name!r} is no name for a model; use a-z, 0-9, - and _, at most 63, first a letter or digit"
            )
        home = self.folder / name
        try:
            private_files.make_folder(self.folder)
            private_files.make_folder(home)
            self._tidy()
            fresh = Path(tempfile.mkdtemp(prefix=_NEW, dir=self.folder))
            try:
                return _commit(fresh, home, name, draft)
            except BaseException:
                shutil.rmtree(fresh, ignore_errors=True)
                raise
        except OSError as error:
            with contextlib.suppress(OSError):
                home.rmdir()  # if it was made for this entry alone
            raise Stop(
                f"model {name} cannot be written to {self.folder} ({error.strerror}); nothing was changed"
            ) from error

    def remove(self, title: str) -> None:
        """Remove one version for good. Raises `Stop` where there is none, or it cannot be removed."""
        name, _, version = title.partition("@")
        home = self.folder / name
        if not topics.is_name(name) or not version.isdecimal() or not (home / version).is_dir():
            self.entry(title)  # says what is there
            raise Stop(f"name the version to remove: {name}@{self.entry(name).manifest.version}")
        try:
            _write(home / f".{LAST}", str(max(_last_removed(home), int(version))).encode())
            (home / f".{LAST}").replace(home / LAST)
            gone = Path(tempfile.mkdtemp(prefix=_GONE, dir=self.folder))
            (home / version).rename(gone / version)
            _flush_folder(home)
            shutil.rmtree(gone)
        except OSError as error:
            raise Stop(f"model {title} cannot be removed from {self.folder} ({error.strerror})") from error

    def _found(self) -> Iterator[Entry | str]:
        for home in sorted(self.folder.glob("[a-z0-9]*")):
            for version in sorted(_versions(home)):
                try:
                    yield _read(home / str(version))
                except Stop as error:
                    yield str(error)

    def _tidy(self) -> None:
        """Drops what a killed process left."""
        for prefix in (_NEW, _GONE):
            for folder in self.folder.glob(f"{prefix}*"):
                if time.time() - folder.stat().st_mtime > LEFT_OVER_S:
                    shutil.rmtree(folder, ignore_errors=True)


def _read(folder: Path) -> Entry:
    """Raises `Stop` for a manifest that cannot be read, or is another entry's."""
    try:
        found = read_manifest(folder)
    except Stop as error:
        raise Stop(
            f"{folder.parent.name}@{folder.name}: {str(error).partition('; install')[0]}; "
            "remove it and import the model again"
        ) from error
    if found.title != f"{folder.parent.name}@{folder.name}":
        raise Stop(
            f"{folder} says that it is {found.title}: it was moved there by hand; import the model again"
        )
    return Entry(found)


def _commit(fresh: Path, home: Path, name: str, draft: Draft) -> Entry:
    """Fills a hidden folder and renames it into place, as the first version that is free."""
    for file, data in draft.files.items():
        _write(fresh / file, data)
    version = max(_last_removed(home), *_versions(home), 0) + 1
    while True:
        made = make_manifest(
            fresh,
            name=name,
            version=version,
            task=draft.task,
            files=tuple(draft.files),
            labels=draft.labels,
            terms=draft.terms,
            size_px=draft.size_px,
            space=draft.space,
        )
        _write(fresh / CARD, draft.card(made.title).encode())
        _flush(write_manifest(made))
        _flush_folder(fresh)
        try:
            fresh.rename(home / str(version))
        except OSError:
            if not (home / str(version)).exists():
                raise
            version += 1  # another import was quicker
            continue
        _flush_folder(home)
        return _read(home / str(version))


def _versions(home: Path) -> list[int]:
    return [int(its.name) for its in home.glob("[1-9]*") if its.name.isdecimal() and its.is_dir()]


def _last_removed(home: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int((home / LAST).read_text("ascii"))
    return 0


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    _flush(path)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
