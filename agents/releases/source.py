"""Where a tier gets head releases from: the same two questions at the edge (over MQTT) and in the cloud (over Kafka).

::

    repository --> Kafka tierwise.models --> cloud's folder   --> FolderSource --> updates in the cloud
                                        \\--> gateway's folder --MQTT metadata, chunks--> DownloadSource --> updates at the edge

Neither question waits: what is not here yet is asked for, and `Retry` says how much of it is here. `arrived` is set as
soon as asking again is worth while; whoever drives the updates waits on it with a timeout, since metadata expires while
nothing arrives::

    while not stopping:
        try:
            current = source.refresh()                        # what is to serve; None: nothing was ever released
            if current and current.version != serving:
                release = HeadRelease.of(source.files(current.version))
        except Retry as error:     ...                        # on its way, or the other side is away
        except Rejected as error:  ...                        # refused; what serves goes on serving
        source.arrived.wait(TICK_S); source.arrived.clear()

All that these return was verified against the tier's trusted root (`models.releases.client`); nothing else ever is.
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
    """What `agents.rollout.state` asks."""

    arrived: threading.Event
    """Set when something came that may change an answer."""

    def refresh(self) -> Current | None:
        """Take in newer signed metadata, and say what is to serve by it; None where nothing was ever released.

        Raises
        ------
        Retry
            Something that was asked for has not come yet, or the other side is away.
        Rejected
            What came is not to be trusted, or nothing newer came in time (``expired-metadata``), or there is no root to
            trust (``no-root``). What was trusted before stands, and what serves goes on serving.
        """

    def files(self, version: int) -> Mapping[str, bytes]:
        """The files of this release by name (``sums.bin``), each of the length and digest that was signed.

        Raises
        ------
        Retry
            Not all of them are here; they were asked for. The text says how much is.
        Rejected
            The signed metadata names no such release (``no-such-release``), or as for `refresh`.
        """


Fetch = Callable[[Collection[File]], None]
"""Called with the files that are missing: asks for them, and raises `Retry` or `Rejected` to say how that goes."""

Keep = Callable[[Collection[str]], None]
"""Told the digests of all files that are good now, where a tier's own files are its to remove."""


def _all(_digests: Collection[str]) -> None:
    pass


class VerifiedSource:
    """A `ReleaseSource` over whatever brings bytes: nothing passes but what `Trust` vouches for."""

    def __init__(self, trust: Trust, blobs: Blobs, fetch: Fetch, keep_only: Keep = _all) -> None:
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
        """See `ReleaseSource.files`. What was trusted once is given again without a word from outside, expired or not."""
        targets = self._trust.targets
        names = files_of(version, targets)
        if not names:
            raise Rejected("no-such-release", f"{MODEL}@{version} is not among the releases that were signed")
        return self._gather({name: targets[path] for name, path in names.items()})

    def _gather(self, wanted: Mapping[str, File]) -> dict[str, bytes]:
        found = {name: self._blobs.read(file.digest) for name, file in wanted.items()}
        if missing := [wanted[name] for name, data in found.items() if data is None]:
            self._fetch(missing)
            raise Retry(f"{len(missing)} of {len(wanted)} files are on their way")
        return {name: data for name, data in found.items() if data is not None}
