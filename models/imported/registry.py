"""The registry of imported models on disk: every version is a folder that is complete or absent.

::

    <data>/models/mine/1/manifest.json, CARD.md, model.onnx, model.json, ...
                       2/                                             # made by `tierwise models fit`

An entry is written into a hidden folder, flushed to the disk and renamed into place, so that a crash, a full disk or a
simultaneous import leaves no partial entry. Versions only grow: a removed number is never used again, since results
name their model by it. Every file is checked against its manifest when it is read.

Example::

    registry = Registry(settings.data_dir / MODELS)
    entry = registry.add("mine", Draft(files={...}, card=..., labels=..., terms=...))
    registry.entry("mine@1").read("model.onnx")
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models import manifest
from models.manifest import Manifest, digest, digest_of_labels, read_manifest
from pipeline import topics
from pipeline.errors import Stop
from pipeline.files import private_files
from pipeline.files.fsync import HIDDEN, directory_to_disk, replace_file, write_folder

MODELS: Final = "models"
"""The registry's folder within a site's data."""

CARD: Final = "CARD.md"
LAST: Final = "last-version"
"""A file in a name's folder: the highest version that was ever removed."""

_GONE = ".gone-"
LEFT_OVER_S: Final = 86_400.0
"""A hidden folder as old as this is abandoned: its process was killed."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A new entry: file names to bytes, and the content of its manifest and card. `card` takes the title."""

    files: Mapping[str, bytes]
    card: Callable[[str], str]
    labels: tuple[str, ...]
    terms: str
    task: str = "wildlife"
    size_px: int | None = None
    space: str | None = None


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One version of one model."""

    manifest: Manifest

    @property
    def title(self) -> str:
        """The name in results and settings: ``mine@1``."""
        return self.manifest.title

    @property
    def card(self) -> str:
        """The text of the model card; empty if somebody removed it, since no model needs it to run."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return (self.manifest.folder / CARD).read_text("utf-8")
        return ""

    def has(self, file: str) -> bool:
        """Return whether the manifest lists this file."""
        return file in self.manifest.files

    def read(self, file: str) -> bytes:
        """Return the bytes of a file. Raises `Stop` if they are missing, damaged or changed."""
        path = self.manifest.folder / file
        if not self.has(file):
            raise Stop(f"model {self.title} has no {file}: {path.parent / manifest.FILE} does not list it")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise Stop(f"model {self.title}: {path} cannot be read ({error.strerror}); import it again") from error
        if digest(data) != self.manifest.files[file]:
            raise Stop(
                f"model {self.title}: {path} is damaged or was changed (its SHA-256 differs from the manifest); "
                "import it again"
            )
        return data

    def check(self) -> None:
        """Read every file. Raises `Stop`."""
        for file in self.manifest.files:
            self.read(file)


class Registry:
    """The entries of one folder. Every method reads the disk again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entries(self) -> tuple[ModelEntry, ...]:
        """Return the entries whose manifests can be read, by name and version."""
        return tuple(entry for entry in self._found() if isinstance(entry, ModelEntry))

    def damaged(self) -> tuple[str, ...]:
        """Return a line about each entry whose manifest cannot be read."""
        return tuple(line for line in self._found() if isinstance(line, str))

    def entry(self, title: str) -> ModelEntry:
        """Return the entry ``mine@2``, or the newest version of ``mine``. Raises `Stop` with the existing entries."""
        name, _, version = title.partition("@")
        versions = sorted(_versions(self.folder / name)) if topics.is_name(name) else []
        wanted = version or str(next(reversed(versions), ""))
        if wanted in map(str, versions):
            return _read(self.folder / name / wanted)
        mine = [f"{name}@{number}" for number in versions]
        there = ", ".join(mine or [entry.title for entry in self.entries()]) or "none yet"
        raise Stop(
            f"there is no model {title} in {self.folder} (models there: {there}); `tierwise models import` adds one"
        )

    def add(self, name: str, draft: Draft) -> ModelEntry:
        """Add an entry as the next version of a name. Raises `Stop` if it cannot be written; then nothing changed."""
        if not topics.is_name(name):
            raise Stop(
                f"{name!r} is not a valid name for a model; use a-z, 0-9, - and _, at most 63, first a letter or digit"
            )
        home = self.folder / name
        try:
            private_files.make_folder(self.folder)
            private_files.make_folder(home)
            self._tidy()
            return _commit(home, name, draft)
        except OSError as error:
            with contextlib.suppress(OSError):
                home.rmdir()  # if it was made for this entry
            raise Stop(
                f"model {name} cannot be written to {self.folder} ({error.strerror}); nothing was changed"
            ) from error

    def remove(self, title: str) -> None:
        """Remove one version for good. Raises `Stop` if it does not exist, or cannot be removed."""
        name, _, version = title.partition("@")
        home = self.folder / name
        if not topics.is_name(name) or not version.isdecimal() or not (home / version).is_dir():
            self.entry(title)  # raises, listing the existing entries
            raise Stop(f"name the version to remove: {name}@{self.entry(name).manifest.version}")
        try:
            replace_file(home / LAST, str(max(_last_removed(home), int(version))).encode())
            gone = Path(tempfile.mkdtemp(prefix=_GONE, dir=self.folder))
            (home / version).rename(gone / version)
            directory_to_disk(home)
            shutil.rmtree(gone)
        except OSError as error:
            raise Stop(f"model {title} cannot be removed from {self.folder} ({error.strerror})") from error

    def _found(self) -> Iterator[ModelEntry | str]:
        for home in sorted(self.folder.glob("[a-z0-9]*")):
            for version in sorted(_versions(home)):
                try:
                    yield _read(home / str(version))
                except Stop as error:
                    yield str(error)

    def _tidy(self) -> None:
        """Remove folders that a killed process left."""
        for prefix in (HIDDEN, _GONE):
            for folder in self.folder.glob(f"{prefix}*"):
                if time.time() - folder.stat().st_mtime > LEFT_OVER_S:
                    shutil.rmtree(folder, ignore_errors=True)


def _read(folder: Path) -> ModelEntry:
    """Read an entry. Raises `Stop` if its manifest cannot be read, or belongs to another entry."""
    try:
        found = read_manifest(folder)
    except Stop as error:
        raise Stop(
            f"{folder.parent.name}@{folder.name}: {str(error).partition('; install')[0]}; "
            "remove it and import the model again"
        ) from error
    if found.title != f"{folder.parent.name}@{folder.name}":
        raise Stop(f"{folder} holds {found.title}: it was moved there by hand; import the model again")
    return ModelEntry(found)


def _commit(home: Path, name: str, draft: Draft) -> ModelEntry:
    """Write a draft as the first free version of its name."""
    version = max(_last_removed(home), *_versions(home), 0) + 1
    while True:
        made = Manifest(
            folder=home / str(version),
            name=name,
            version=version,
            task=draft.task,
            files={file: digest(data) for file, data in sorted(draft.files.items())},
            labels=digest_of_labels(draft.labels),
            terms=draft.terms,
            size_px=draft.size_px,
            space=draft.space,
        )
        extra = {manifest.FILE: made.encoded(), CARD: draft.card(made.title).encode()}
        try:
            write_folder(made.folder, {**draft.files, **extra}, hidden_in=home.parent)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            version += 1  # another import was quicker
            continue
        return _read(made.folder)


def _versions(home: Path) -> list[int]:
    return [int(path.name) for path in home.glob("[1-9]*") if path.name.isdecimal() and path.is_dir()]


def _last_removed(home: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int((home / LAST).read_text("ascii"))
    return 0
