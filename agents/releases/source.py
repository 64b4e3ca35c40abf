"""The source of head releases, with the same interface at the edge (over MQTT) and in the cloud (over Kafka).

::

    repository --> Kafka tierwise.models --> cloud's mirror   -------------------> the cloud's VerifiedSource
                                          -> gateway's mirror --MQTT, in chunks--> the edge's VerifiedSource

No call waits: a missing file is requested, and `Retry` reports the progress. `arrived` is set as soon as another call
may return more. The caller waits on it with a timeout, since metadata also expires while nothing arrives::

    while not stopping:
        try:
            current = source.refresh()                        # the signed target, or None before the first release
            if current and current.version != serving:
                release = HeadRelease.of(source.files(current.version))
        except Retry as error:     ...                        # a file is on its way, or the other side is away
        except Rejected as error:  ...                        # refused; the serving release stays
        source.arrived.wait(TICK_S); source.arrived.clear()

Everything that these calls return was verified against the tier's trusted root (`models.releases.client`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from models.releases.client import Trust
from models.releases.targets import CURRENT, MODEL, Current, files_of
from pipeline.errors import Rejected, Retry
from pipeline.files.blobs import Blobs, File


class ReleaseSource(Protocol):
    """The interface that `agents.rollout.driver` uses."""

    arrived: threading.Event
    """Set when something arrived that may change a result."""

    def refresh(self) -> Current | None:
        """Read newer signed metadata and return the signed target, or None before the first release.

        Raises
        ------
        Retry
            A requested file has not arrived yet, or the other side is away.
        Rejected
            The metadata is not to be trusted, or newer metadata did not arrive in time (``expired-metadata``), or there
            is no trusted root (``no-root``). The metadata trusted before stays valid, and the serving release stays.
        """

    def files(self, version: int) -> Mapping[str, bytes]:
        """Return the files of this release by name (``sums.bin``), each with its signed length and digest.

        Raises
        ------
        Retry
            Some files are missing and were requested. The text reports the progress.
        Rejected
            The signed metadata has no such release (``no-such-release``), or as for `refresh`.
        """


Fetch = Callable[[Collection[File]], None]
"""Requests the missing files, and raises `Retry` with the progress, or `Rejected` if the download fails."""

Keep = Callable[[Collection[str]], None]
"""Called with the digests of all signed files, so that the tier can remove other files."""


def _keep_all(_digests: Collection[str]) -> None:
    pass


class VerifiedSource:
    """A `ReleaseSource` that returns only files which `Trust` verified, however the bytes arrive."""

    def __init__(self, trust: Trust, blobs: Blobs, fetch: Fetch, keep_only: Keep = _keep_all) -> None:
        self.arrived = threading.Event()
        self._trust = trust
        self._blobs = blobs
        self._fetch = fetch
        self._keep_only = keep_only

    def refresh(self) -> Current | None:
        """See `ReleaseSource.refresh`."""
        self._trust.refresh()
        targets = self._trust.targets
        self._keep_only({file.digest for file in targets.values()})
        if CURRENT not in targets:
            return None
        return Current.of(self._gather({CURRENT: targets[CURRENT]})[CURRENT])

    def files(self, version: int) -> Mapping[str, bytes]:
        """See `ReleaseSource.files`. Verified files are returned again, even offline and after expiry."""
        targets = self._trust.targets
        names = files_of(version, targets)
        if not names:
            raise Rejected("no-such-release", f"{MODEL}@{version} is not among the signed releases")
        return self._gather({name: targets[path] for name, path in names.items()})

    def _gather(self, wanted: Mapping[str, File]) -> dict[str, bytes]:
        found = {name: self._blobs.read(file.digest) for name, file in wanted.items()}
        if missing := [wanted[name] for name, data in found.items() if data is None]:
            self._fetch(missing)
            raise Retry(f"{len(missing)} of {len(wanted)} files are on their way")
        return {name: data for name, data in found.items() if data is not None}
