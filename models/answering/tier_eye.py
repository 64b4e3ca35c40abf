"""The interface of a tier's model, and how an answering function asks the model that serves a stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from models.heads.pooled import Witnesses
from models.labels.taxonomy import Taxonomy


class Eye(Protocol):
    """What all eyes have."""

    name: str
    space: str
    tree: Taxonomy
    head: Witnesses
    """What answers of a vector alone."""


E = TypeVar("E", bound=Eye)

E_co = TypeVar("E_co", bound=Eye, covariant=True)

S = TypeVar("S")


class Looker(Protocol[E_co]):
    """What answers events by stream: `Serving`, or what wraps it."""

    def look(self, source: str, ask: Callable[[E_co], S]) -> tuple[E_co, S]:
        """Ask the eye of this stream (``site/device/stream``); the eye that answered, and what it saw.

        Raises what `ask` does of an eye that serves: `Rejected` where the event is at fault.
        """


@dataclass(frozen=True, slots=True)
class Fixed(Generic[E]):
    """One eye for all streams, for good."""

    eye: E

    def look(self, source: str, ask: Callable[[E], S]) -> tuple[E, S]:  # noqa: ARG002 - the same for all
        """See `Looker.look`."""
        return self.eye, ask(self.eye)
