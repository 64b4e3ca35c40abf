"""The releases of the heads that are on this machine: the trainer's own, and those that its edge and its cloud keep.

::

    <data>/releases          the trainer's repository, where one runs: all that can be served
    <data>/edge/heads/3      what a tier serves or goes back to
    <data>/cloud/heads/3

Example::

    found = releases_here(settings)
    found[3].release.lineage.sites, found[3].where      # (...), ("trainer", "edge")
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agents.rollout.promoted_store import HEADS, Kept, ServingFiles
from models.heads.release import HeadRelease
from models.releases.targets import MODEL
from models.shipped import BACKBONE, load_zoo
from pipeline.clock import SystemClock
from pipeline.errors import Rejected, Stop
from pipeline.settings.settings import Settings

if TYPE_CHECKING:
    from models.releases.repository import Repository

TAKERS: Final = ("edge", "cloud")
"""Roles that take releases."""
TRAINER: Final = "trainer"


@dataclass(frozen=True, slots=True)
class Here:
    """A release, and who has it."""

    release: HeadRelease
    where: tuple[str, ...]


def base_title(settings: Settings) -> str:
    """The shipped model that releases add to."""
    return load_zoo(settings.zoo_dir).manifest(BACKBONE).title


def repository_here(settings: Settings) -> Repository:
    """The repository that signs what is to serve. Raises `Stop` where this is not the trainer's machine."""
    from models.releases.repository import Repository

    if not _signs_here(settings):
        raise Stop(
            f"{settings.releases_dir}: no releases are signed here; do this on the machine where `tierwise trainer` runs, with its settings"
        )
    return Repository.of(settings, SystemClock())


def kept_by(settings: Settings, role: str) -> Kept | None:
    """What a role of this machine serves and has refused, as it wrote it down; None: it never took a release."""
    folder = settings.data_dir / role
    if not (folder / HEADS).is_dir() and not (folder / "serving.json").is_file():
        return None
    return ServingFiles(folder, base_title(settings)).read()


def releases_here(settings: Settings) -> dict[int, Here]:
    """By version, oldest first. Raises `Stop` where the trainer's repository cannot be read."""
    found: dict[int, Here] = {}
    if _signs_here(settings):
        repository = repository_here(settings)
        for version in repository.versions:
            found[version] = Here(_read(version, repository), (TRAINER,))
    for role in TAKERS:
        files = ServingFiles(settings.data_dir / role, base_title(settings))
        for folder in (settings.data_dir / role / HEADS).glob("[1-9]*"):
            version = int(folder.name) if folder.name.isdecimal() else 0
            release = files.release(version) if version else None
            if release is not None:
                before = found.get(version)
                found[version] = (
                    Here(before.release, (*before.where, role)) if before else Here(release, (role,))
                )
    return dict(sorted(found.items()))


def release_of(settings: Settings, title: str) -> Here | None:
    """The release of this title; None of the shipped model's. Raises `Stop`, naming what is there."""
    name, _, version = title.partition("@")
    if title == base_title(settings):
        return None
    found = releases_here(settings)
    if name == MODEL and version.isdecimal() and int(version) in found:
        return found[int(version)]
    there = ", ".join((base_title(settings), *(here.release.title for here in found.values())))
    raise Stop(f"there is no release {title} on this machine (there: {there})")


def is_release(settings: Settings, title: str) -> bool:
    """Whether a title can only be a release's: the shipped model's name with a later version."""
    name, _, version = title.partition("@")
    return name == MODEL and version.isdecimal() and title != base_title(settings)


def _signs_here(settings: Settings) -> bool:
    return (settings.releases_dir / "metadata" / "1.root.json").is_file()


def _read(version: int, repository: Repository) -> HeadRelease:
    try:
        return HeadRelease.of(repository.files(version))
    except Rejected as error:
        raise Stop(f"{MODEL}@{version} in the trainer's repository is no release of ours: {error}") from None
