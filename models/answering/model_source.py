"""The interface of a tier's model, and how an answering function asks the model that serves a stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from models.heads.pooled import PooledHeads
from models.labels.taxonomy import Taxonomy


class TierModel(Protocol):
    """The attributes that every tier's model has."""

    name: str
    space: str
    tree: Taxonomy
    head: PooledHeads
    """Predicts from a vector alone."""


E = TypeVar("E", bound=TierModel)
M = TypeVar("M")
M_co = TypeVar("M_co", covariant=True)
S = TypeVar("S")


class ModelSource(Protocol[M_co, S]):
    """Chooses the model that answers a stream: `Serving`, `FixedModel`, or a wrapper that adds a site's own head."""

    def look(self, source: str, ask: Callable[[M_co], S]) -> tuple[M_co, S]:
        """Return the model that serves this stream (``site/device/stream``), and its prediction.

        Raises whatever `ask` raises with that model: `Rejected` where the event is at fault.
        """


@dataclass(frozen=True, slots=True)
class FixedModel(Generic[M]):
    """The same model for all streams."""

    model: M

    def look(self, source: str, ask: Callable[[M], S]) -> tuple[M, S]:  # noqa: ARG002 - all streams share it
        """See `ModelSource.look`."""
        return self.model, ask(self.model)
