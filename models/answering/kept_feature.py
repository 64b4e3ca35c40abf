"""An event's feature as the edge keeps it, where its privacy level allows that."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.messages import Levels


class KeptFeature(NamedTuple):
    """An event's feature, kept at the edge where its level allows that."""

    event: str
    sighting: str
    source: str
    time: str
    space: str
    payload: bytes
    """`Feature`, as it travels."""
    vector: bytes
    """uint8 of this space."""
    levels: Levels
