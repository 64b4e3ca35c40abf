"""How the edge answers a frame: feature and family of the crop, a second look for persons, then the cascade.

::

    Event (crop or vector) -> eye (feature, family, person) -> person? withdraw : cascade (rule)
                                       |                                            |
                                 Result (revision 2)                 Envelope with the feature, for the cloud

Pure but for the eye: nothing here touches a broker or a database.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from agents.labels import KeptFeature
from models import cascade, images
from models.boxes import Box
from models.calibrate import answer
from models.eyes import EdgeSight
from models.taxonomy import Taxonomy
from pipeline import clock, messages
from pipeline.errors import Rejected
from pipeline.messages import Crop, Envelope, Event, Feature, Kind, Levels, Privacy, Result, Tier, Vector
from pipeline.privacy.gate import may_see
from pipeline.privacy.policy import Policy
from pipeline.privacy.seal import Keyring, seal

WITHDRAWN = "withdrawn"
"""Rule of an answer whose event was found to show a person after all: its crop and feature are gone."""


class FamilyEye(Protocol):
    """What names families: the released eye, or one with a model of the site's own. A sight names the model it is by."""

    space: str

    def see(self, picture: images.Picture, box: Box = Box.WHOLE) -> EdgeSight:
        """BGR uint8 (height, width, 3), and where in its frame it lies."""

    def see_vector(self, vector: NDArray[np.uint8]) -> EdgeSight:
        """A vector of this space."""


@dataclass(frozen=True, slots=True)
class FamilyAnswer:
    """What one crop leads to."""

    result: Result
    levels: Levels
    feature: Envelope | None
    """What may travel on: in the clear to be answered, or sealed to be kept."""
    kept: KeptFeature | None
    """What stays here for as long as the event is known; None where the edge may not hold it in the clear."""
    doubt: float = 0.0
    """1 - the family's margin: how much a label would settle."""

    @property
    def withdrawn(self) -> bool:
        return self.result.rule == WITHDRAWN


class Families:
    """Answers crops and vectors of all streams."""

    def __init__(
        self,
        policy: Policy,
        taxonomy: Taxonomy,
        eye: FamilyEye,
        keyring: Keyring,
        sealed: tuple[Privacy, ...],
    ) -> None:
        """`sealed`: levels whose features the settings let leave sealed."""
        self._policy = policy
        self._taxonomy = taxonomy
        self._eye = eye
        self._keyring = keyring
        self._sealed = sealed

    def answer(
        self, event: Event, *, revision: int, asked: str | None, now: Callable[[], float]
    ) -> FamilyAnswer:
        """Answer one event that came with a body.

        Parameters
        ----------
        revision
            Of the answer to come.
        asked
            The event of the same sighting about which the cloud was asked before.

        Raises
        ------
        Rejected
            The crop is no picture, or the vector is of another space.
        """
        before = event.result
        seen = self._see(event)
        found = answer(self._taxonomy, (seen.family, seen.kingdom), seen.thresholds)
        path = cascade.deeper(before.path, tuple(found.path))
        probability = found.probability if path == tuple(found.path) else before.probability
        levels = event.levels
        if seen.person_raised or self._policy.knows(before.source):
            asked_again = self._policy.levels(
                before.source, clock.seconds(before.time), path=path, person=seen.person_raised
            )
            levels = levels.join(asked_again.levels)
        decision = cascade.decide(
            cascade.Situation(
                tier=Tier.EDGE,
                wants=event.wants,
                path=path,
                probability=probability,
                margin=seen.family.margin,
                person=seen.person,
                person_raised=seen.person_raised,
                may_leave=levels.feature.reach is Tier.CLOUD,
                asked=asked,
            )
        )
        rule, reason = decision.rule, decision.reason
        if seen.person_raised:
            rule = WITHDRAWN
            reason = (
                f"the edge sees a person ({seen.person:.2f}): crop and feature are deleted, nothing goes on"
            )
        result = msgspec.structs.replace(
            before,
            tier=Tier.EDGE,
            revision=revision,
            pending=Tier.CLOUD if decision.forward else None,
            rank=cascade.rank_of(path),
            label=path[-1] if path else messages.UNKNOWN,
            path=path,
            probability=round(probability, 4),
            privacy=levels.result,
            rule=rule,
            reason=reason,
            model=seen.model,
            latency_ms=latency_ms(event, now()),
        )
        if seen.person_raised:
            return FamilyAnswer(result, levels, None, None)
        payload = self._payload(event, result, seen)
        feature = self._feature(result, payload, levels, decision.forward)
        return FamilyAnswer(
            result, levels, feature, self._kept(result, payload, seen, levels), 1 - seen.family.margin
        )

    def _see(self, event: Event) -> EdgeSight:
        if isinstance(event.body, Crop):
            return self._eye.see(images.decode(event.body.jpeg), Box(*event.body.box))
        if isinstance(event.body, Vector):
            if event.body.space != self._eye.space:
                raise Rejected(
                    "other-space",
                    f"a vector of space {event.body.space}, but this edge serves {self._eye.space}: "
                    "give device and edge the same release",
                )
            return self._eye.see_vector(np.frombuffer(event.body.data, np.uint8))
        raise Rejected("no-body", "an event for the edge's eye came without a crop or a vector")

    @staticmethod
    def _payload(event: Event, result: Result, seen: EdgeSight) -> bytes:
        feature = Feature(
            data=seen.vector.tobytes(),
            sighting="" if result.sighting in (None, result.event) else str(result.sighting),
            wants=event.wants,
            revision=result.revision,
            path=result.path,
            probability=result.probability,
            latency_ms=result.latency_ms,
        )
        return messages.encode(feature)

    def _kept(self, result: Result, payload: bytes, seen: EdgeSight, levels: Levels) -> KeptFeature | None:
        if not may_see(Tier.EDGE, levels.feature):
            return None
        return KeptFeature(
            event=result.event,
            sighting=result.sighting or result.event,
            source=result.source,
            time=result.time,
            space=self._eye.space,
            payload=payload,
            vector=seen.vector.tobytes(),
            levels=levels,
        )

    def _feature(self, result: Result, payload: bytes, levels: Levels, forward: bool) -> Envelope | None:
        """The feature's envelope: public to be answered, edge-private sealed by the site's key if settings ask so."""
        keep_sealed = levels.feature is Privacy.EDGE_PRIVATE and levels.feature in self._sealed
        if not forward and not keep_sealed:
            return None
        envelope = Envelope(
            event=result.event,
            kind=Kind.FEATURE,
            privacy=levels.feature,
            key=f"{result.site}/{result.device}",
            payload=payload,
            source=result.source,
            time=result.time,
            space=self._eye.space,
        )
        if keep_sealed:
            return seal(envelope, self._keyring.site) if self._keyring.site is not None else None
        return envelope


def latency_ms(event: Event, now_s: float) -> float:
    """Since the device's receipt by this tier's clock; never less than what the tiers before took by theirs."""
    return round(max(event.result.latency_ms, (now_s - event.received_s) * 1000), 1)
