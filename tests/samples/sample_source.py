"""A source of releases in memory: a test sets the signed target and the releases."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from models.heads.release import HeadRelease
from models.releases.targets import Current
from pipeline.errors import Rejected, Retry


def target(version: int = 3, **changes: Any) -> Current:
    """Return a signed target with a canary of 100 s on all streams."""
    fields: dict[str, Any] = {"version": version, "canary_share": 1.0, "canary_s": 100.0}
    return Current(**(fields | {"why": "a new species", "by": "trainer"} | changes))


class SampleSource:
    """An `agents.releases.source.ReleaseSource`."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.current: Current | None = None
        self.releases: dict[int, Mapping[str, bytes]] = {}
        self.trouble: Rejected | Retry | None = None
        self.asked: list[int] = []

    def publish(self, current: Current, *releases: HeadRelease) -> None:
        self.releases |= {release.version: release.files() for release in releases}
        self.current = current
        self.arrived.set()

    def refresh(self) -> Current | None:
        if self.trouble is not None:
            raise self.trouble
        return self.current

    def files(self, version: int) -> Mapping[str, bytes]:
        self.asked.append(version)
        if version not in self.releases:
            raise Retry("40% of 61 KB are here")
        return self.releases[version]
