"""An event's feature: as a tier encodes it, and as the edge keeps it where the privacy level allows that."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline import messages
from pipeline.messages import Feature, Levels, Rank, Result


class KeptFeature(NamedTuple):
    """The feature of one event, with all that is needed to send it later."""

    event: str
    sighting: str
    source: str
    time: str
    space: str
    payload: bytes
    """An encoded `Feature`."""
    vector: bytes
    """uint8, of `space`."""
    levels: Levels


def encode_feature(result: Result, vector: NDArray[np.uint8], wants: Rank) -> bytes:
    """Return the payload of a feature's envelope: the vector, and the answer so far, which the next tier refines."""
    feature = Feature(
        data=vector.tobytes(),
        sighting="" if result.sighting in (None, result.event) else str(result.sighting),
        wants=wants,
        revision=result.revision,
        path=result.path,
        probability=result.probability,
        latency_ms=result.latency_ms,
    )
    return messages.encode(feature)
