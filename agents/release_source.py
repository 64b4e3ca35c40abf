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

All that these return was verified against the tier's trusted root (`models.release_client`); nothing else ever is.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Protocol

from models.release import Current


class ReleaseSource(Protocol):
    """What `agents.updates` asks."""

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
