"""Find the releases of the heads on this machine: the trainer's own, and those that its edge and its cloud keep.

::

    <data>/releases          the trainer's repository, if a trainer runs here: all releases that can be served
    <data>/edge/heads/3      a release that the tier serves or can go back to
    <data>/cloud/heads/3

Example::

    found = local_releases(settings)
    found[3].release.lineage.sites, found[3].where      # (...), ("trainer", "edge")
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agents.rollout.promoted_store import HEADS, SERVING, PromotedStore, ServingState
from models.heads.release import HeadRelease
from models.releases.targets import MODEL
from models.shipped import BACKBONE, load_zoo
from pipeline.clock import SystemClock
from pipeline.errors import Rejected, Stop
from pipeline.settings.settings import Settings

if TYPE_CHECKING:
    from models.releases.repository import Repository

RELEASE_ROLES: Final = ("edge", "cloud")
"""The roles that serve releases."""
TRAINER: Final = "trainer"


@dataclass(frozen=True, slots=True)
class LocalRelease:
    """A release, and the roles of this machine that have it."""

    release: HeadRelease
    where: tuple[str, ...]


def base_title(settings: Settings) -> str:
    """Return the title of the shipped model, on which releases build."""
    return load_zoo(settings.zoo_dir).manifest(BACKBONE).title


def local_repository(settings: Settings) -> Repository:
    """Return the repository that signs releases. Raises `Stop` if this is not the trainer's machine."""
    from models.releases.repository import Repository

    if not _has_repository(settings):
        raise Stop(
            f"{settings.releases_dir}: this machine signs no releases; run the command where `tierwise trainer` runs, "
            "with its settings"
        )
    return Repository.of(settings, SystemClock())


def serving_state(settings: Settings, role: str) -> ServingState | None:
    """Return the serving state that a role of this machine stored, or None if the role never took a release."""
    folder = settings.data_dir / role
    if not (folder / HEADS).is_dir() and not (folder / SERVING).is_file():
        return None
    return PromotedStore(folder, base_title(settings)).read()


def local_releases(settings: Settings) -> dict[int, LocalRelease]:
    """Return the releases by version, oldest first. Raises `Stop` if the trainer's repository cannot be read."""
    found: dict[int, LocalRelease] = {}
    if _has_repository(settings):
        repository = local_repository(settings)
        for version in repository.versions:
            found[version] = LocalRelease(_read(version, repository), (TRAINER,))
    for role in RELEASE_ROLES:
        store = PromotedStore(settings.data_dir / role, base_title(settings))
        for folder in (settings.data_dir / role / HEADS).glob("[1-9]*"):
            version = int(folder.name) if folder.name.isdecimal() else 0
            release = store.release(version) if version else None
            if release is not None:
                known = found.get(version, LocalRelease(release, ()))
                found[version] = LocalRelease(known.release, (*known.where, role))
    return dict(sorted(found.items()))


def local_release(settings: Settings, title: str) -> LocalRelease | None:
    """Return the release of this title, or None for the shipped model. Raises `Stop`, which names the known titles."""
    name, _, version = title.partition("@")
    if title == base_title(settings):
        return None
    found = local_releases(settings)
    if name == MODEL and version.isdecimal() and int(version) in found:
        return found[int(version)]
    known = ", ".join((base_title(settings), *(local.release.title for local in found.values())))
    raise Stop(f"there is no release {title} on this machine (there: {known})")


def is_release_title(settings: Settings, title: str) -> bool:
    """Return whether a title can be a release's: the model's name with another version than the shipped one."""
    name, _, version = title.partition("@")
    return name == MODEL and version.isdecimal() and title != base_title(settings)


def _has_repository(settings: Settings) -> bool:
    return (settings.releases_dir / "metadata" / "1.root.json").is_file()


def _read(version: int, repository: Repository) -> HeadRelease:
    try:
        return HeadRelease.of(repository.files(version))
    except Rejected as error:
        raise Stop(f"{MODEL}@{version} in the trainer's repository is not a valid release: {error}") from None
