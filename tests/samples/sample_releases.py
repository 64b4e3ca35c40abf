"""A repository of releases and a tier that trusts it, with nothing between them but a dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from models.releases.client import Trust
from models.releases.repository import Repository
from models.releases.targets import CURRENT, Current
from pipeline.clock import Clock, HandClock

FILES: Mapping[str, bytes] = {"manifest.json": b'{"base":"lite0@2"}', "sums.bin": bytes(range(256)) * 40}


def current(version: int, why: str = "more labels") -> Current:
    return Current(version=version, why=why, by="trainer")


class Cloud:
    """The trainer's side; `received` is what reaches tiers, to be tampered with."""

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        self.folder = folder
        self.hand = HandClock()
        self.clock = clock or self.hand
        self.repository = self.opened()
        self.received: dict[str, bytes] = {}
        self.first_root = self.repository.root

    def opened(self) -> Repository:
        return Repository.open(self.folder / "releases", self.folder / "keys", self.clock)

    def release(self, version: int, files: Mapping[str, bytes] = FILES) -> None:
        self.repository.release(version, {**files, "CARD.md": b"# %d" % version}, current(version))
        self.send()

    def send(self) -> None:
        self.received |= self.repository.published()[0]


class Tier:
    """Trusts the root that the cloud had at first."""

    def __init__(self, folder: Path, cloud: Cloud) -> None:
        folder.mkdir()
        self.root = folder / "releases-root.json"
        self.root.write_bytes(cloud.first_root)
        self.received: dict[str, bytes] = cloud.received
        self.trust = Trust(folder, self.root, self._read, cloud.clock)

    def _read(self, name: str) -> bytes | None:
        return self.received.get(name)

    def serving(self) -> str:
        """The digest of what is to serve, as trusted."""
        return self.trust.targets[CURRENT].digest
