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
from functools import partial
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.answering import cascade
from models.answering.kept_feature import KeptFeature
from models.heads.pooled import Witnesses
from models.labels.calibration import answer
from models.labels.taxonomy import Taxonomy
from models.site_learning.site_answers import GeneralEyes
from models.vision import images
from models.vision.boxes import Box
from models.vision.tier_models import EdgeSight, SiteWord
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

    name: str
    space: str
    tree: Taxonomy
    head: Witnesses

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
    known_here: tuple[str, ...] = ()
    """As far as the site's own labels make it sure: the cloud does not overrule that."""
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
        eyes: GeneralEyes[FamilyEye],
        keyring: Keyring,
        sealed: tuple[Privacy, ...],
    ) -> None:
        """`eyes` says which one answers a stream; `sealed`: levels whose features the settings let leave sealed."""
        self._policy = policy
        self._eyes = eyes
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
        eye, seen = self._see(event)
        found = said(seen)
        path = cascade.deeper(before.path, found.path)
        probability = found.probability if path == found.path else before.probability
        known_here = found.path if found.sure else ()
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
                known_here=known_here,
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
            return FamilyAnswer(result, levels, None, None, known_here)
        payload = self._payload(event, result, seen)
        feature = self._feature(result, payload, levels, decision.forward, eye.space)
        kept = self._kept(result, payload, seen, levels, eye.space)
        return FamilyAnswer(result, levels, feature, kept, known_here, 1 - seen.family.margin)

    def _see(self, event: Event) -> tuple[FamilyEye, EdgeSight]:
        source = event.result.source
        if isinstance(event.body, Crop):
            picture, box = images.decode(event.body.jpeg), Box(*event.body.box)
            return self._eyes.look(source, lambda eye: eye.see(picture, box))
        if isinstance(event.body, Vector):
            return self._eyes.look(source, partial(_see_vector, event.body))
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

    def _kept(
        self, result: Result, payload: bytes, seen: EdgeSight, levels: Levels, space: str
    ) -> KeptFeature | None:
        if not may_see(Tier.EDGE, levels.feature):
            return None
        return KeptFeature(
            event=result.event,
            sighting=result.sighting or result.event,
            source=result.source,
            time=result.time,
            space=space,
            payload=payload,
            vector=seen.vector.tobytes(),
            levels=levels,
        )

    def _feature(
        self, result: Result, payload: bytes, levels: Levels, forward: bool, space: str
    ) -> Envelope | None:
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
            space=space,
        )
        if keep_sealed:
            return seal(envelope, self._keyring.site) if self._keyring.site is not None else None
        return envelope


def said(seen: EdgeSight) -> SiteWord:
    """What the eye answers: the word of the site's own labels, or else the deepest rank that reaches its threshold."""
    if seen.site is not None:
        return seen.site
    found = answer(seen.tree, (seen.family, seen.kingdom), seen.thresholds)
    return SiteWord(tuple(found.path), found.probability, sure=False)


def _see_vector(vector: Vector, eye: FamilyEye) -> EdgeSight:
    if vector.space != eye.space:
        raise Rejected(
            "other-space",
            f"a vector of space {vector.space}, but this edge serves {eye.space}: "
            "give device and edge the same release",
        )
    return eye.see_vector(np.frombuffer(vector.data, np.uint8))


def latency_ms(event: Event, now_s: float) -> float:
    """Since the device's receipt by this tier's clock; never less than what the tiers before took by theirs."""
    return round(max(event.result.latency_ms, (now_s - event.received_s) * 1000), 1)
