"""Answer a frame on the edge: feature and family of the crop, a second check for persons, then the cascade.

::

    Event (crop or vector) -> model (feature, family, person) -> person? withdraw : cascade (rule)
                                       |                                            |
                                 Result (revision 2)                 Envelope with the feature, for the cloud

Pure but for the model: nothing here touches a broker or a database.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.answering import cascade
from models.answering.kept_feature import KeptFeature, encode_feature
from models.answering.model_source import ModelSource
from models.heads.pooled import PooledHeads
from models.labels.taxonomy import Taxonomy
from models.vision import images
from models.vision.boxes import Box
from models.vision.tier_models import EdgePrediction, SitePrediction, deepest
from pipeline import clock, messages
from pipeline.errors import Rejected
from pipeline.messages import (
    Crop,
    Envelope,
    Event,
    Kind,
    Levels,
    Privacy,
    Rank,
    Result,
    Tier,
    Vector,
)
from pipeline.privacy.gate import may_see
from pipeline.privacy.policy import Policy
from pipeline.privacy.seal import Keyring, seal

WITHDRAWN = "withdrawn"
"""Rule of an answer whose event shows a person after all: its crop and feature are deleted."""


class FamilyModel(Protocol):
    """Names families: the released model, or one that the user imported. A prediction names the model that made it."""

    name: str
    space: str
    tree: Taxonomy
    head: PooledHeads

    def predict(self, picture: images.Picture, box: Box = Box.WHOLE) -> EdgePrediction:
        """Predict from a picture, BGR uint8 (height, width, 3); `box` is its place in its frame."""

    def predict_vector(self, vector: NDArray[np.uint8]) -> EdgePrediction:
        """Predict from a vector of this space."""


@dataclass(frozen=True, slots=True)
class FamilyAnswer:
    """The edge's answer about one event, and everything that follows from it."""

    result: Result
    prediction: EdgePrediction
    space: str
    """Space of the prediction's vector."""
    situation: cascade.Situation
    """The cascade decided by this."""
    levels: Levels
    feature: Envelope | None = None
    """May leave the edge: in the clear to be answered, or sealed to be kept."""
    kept: KeptFeature | None = None
    """Stays here for as long as the event is known; None where the edge may not hold it in the clear."""

    @property
    def known_here(self) -> tuple[str, ...]:
        """The path as far as the site's own labels make it sure: the cloud does not overrule it."""
        return self.situation.known_here

    @property
    def doubt(self) -> float:
        """1 - the family's margin: how much a label would settle."""
        return 1 - self.situation.margin

    @property
    def withdrawn(self) -> bool:
        """Return whether the edge found a person, so that crop and feature are deleted."""
        return self.result.rule == WITHDRAWN

    def feature_of(self, event: Event) -> Envelope:
        """Return the event's feature in an envelope, in the clear and at its own privacy level."""
        result = self.result
        return Envelope(
            event=result.event,
            kind=Kind.FEATURE,
            privacy=self.levels.feature,
            key=f"{result.site}/{result.device}",
            payload=encode_feature(result, self.prediction.vector, event.wants),
            source=result.source,
            time=result.time,
            space=self.space,
        )


class Families:
    """Answers crops and vectors of all streams."""

    def __init__(
        self,
        policy: Policy,
        models: ModelSource[FamilyModel, EdgePrediction],
        keyring: Keyring,
        sealed: tuple[Privacy, ...],
    ) -> None:
        """`sealed` are the levels whose features the settings let leave under a seal."""
        self._policy = policy
        self._models = models
        self._keyring = keyring
        self._sealed = sealed

    def answer(self, event: Event, *, revision: int, asked: str | None, now: Callable[[], float]) -> FamilyAnswer:
        """Answer one event that came with a body.

        Parameters
        ----------
        revision
            The revision of the result.
        asked
            The event of the same sighting about which the cloud was asked before.

        Raises
        ------
        Rejected
            The crop is no picture, or the vector is of another space.
        """
        before = event.result
        model, seen = self._predict(event)
        situation = situation_of(seen, wants=event.wants, before=before.path, before_probability=before.probability)
        path, levels = situation.path, event.levels
        if seen.person_raised or self._policy.knows(before.source):
            asked_again = self._policy.levels(
                before.source, clock.seconds(before.time), path=path, person=seen.person_raised
            )
            levels = levels.join(asked_again.levels)
        situation = replace(situation, may_leave=levels.feature.reach is Tier.CLOUD, asked=asked)
        decision = cascade.decide(situation)
        rule, reason = decision.rule, decision.reason
        if seen.person_raised:
            rule = WITHDRAWN
            reason = f"the edge sees a person ({seen.person:.2f}): crop and feature are deleted, nothing goes on"
        result = msgspec.structs.replace(
            before,
            tier=Tier.EDGE,
            revision=revision,
            pending=Tier.CLOUD if decision.forward else None,
            rank=cascade.rank_of(path),
            label=path[-1] if path else messages.UNKNOWN,
            path=path,
            probability=round(situation.probability, 4),
            privacy=levels.result,
            rule=rule,
            reason=reason,
            model=seen.model,
            latency_ms=latency_ms(event, now()),
        )
        answer = FamilyAnswer(result, seen, model.space, situation, levels)
        if seen.person_raised:
            return answer
        feature = answer.feature_of(event)
        return replace(
            answer,
            feature=self._to_send(feature, forward=decision.forward),
            kept=self._kept(answer, feature),
        )

    def _predict(self, event: Event) -> tuple[FamilyModel, EdgePrediction]:
        source = event.result.source
        if isinstance(event.body, Crop):
            picture, box = images.decode(event.body.jpeg), Box(*event.body.box)
            return self._models.look(source, lambda model: model.predict(picture, box))
        if isinstance(event.body, Vector):
            return self._models.look(source, partial(_predict_vector, event.body))
        raise Rejected("no-body", "an event for the edge has neither a crop nor a vector")

    @staticmethod
    def _kept(answer: FamilyAnswer, feature: Envelope) -> KeptFeature | None:
        if not may_see(Tier.EDGE, feature.privacy):
            return None
        result = answer.result
        return KeptFeature(
            event=result.event,
            sighting=result.sighting or result.event,
            source=result.source,
            time=result.time,
            space=answer.space,
            payload=feature.payload,
            vector=answer.prediction.vector.tobytes(),
            levels=answer.levels,
        )

    def _to_send(self, feature: Envelope, *, forward: bool) -> Envelope | None:
        """Return a public feature as it is, and an edge-private one under the site's seal if the settings ask so."""
        if feature.privacy is Privacy.EDGE_PRIVATE and feature.privacy in self._sealed:
            return seal(feature, self._keyring.site) if self._keyring.site is not None else None
        return feature if forward else None


def named(prediction: EdgePrediction) -> SitePrediction:
    """Return the answer by the site's own labels, or else the deepest rank that reaches its threshold."""
    if prediction.site is not None:
        return prediction.site
    found = deepest(prediction)
    return SitePrediction(found.path, found.probability, sure=False)


def situation_of(
    prediction: EdgePrediction, *, wants: Rank, before: tuple[str, ...] = (), before_probability: float = 0.0
) -> cascade.Situation:
    """Return the cascade's input for a prediction that refines the answer `before`. Policy lets its feature leave."""
    found = named(prediction)
    path = cascade.deeper(before, found.path)
    return cascade.Situation(
        tier=Tier.EDGE,
        wants=wants,
        path=path,
        probability=found.probability if path == found.path else before_probability,
        margin=prediction.family.margin,
        person=prediction.person,
        person_raised=prediction.person_raised,
        known_here=found.path if found.sure else (),
    )


def _predict_vector(vector: Vector, model: FamilyModel) -> EdgePrediction:
    if vector.space != model.space:
        raise Rejected(
            "other-space",
            f"a vector of space {vector.space}, but this edge serves {model.space}: "
            "give device and edge the same release",
        )
    return model.predict_vector(np.frombuffer(vector.data, np.uint8))


def latency_ms(event: Event, now_s: float) -> float:
    """Return the milliseconds since the device received the frame, never less than the earlier tiers measured."""
    return round(max(event.result.latency_ms, (now_s - event.received_s) * 1000), 1)
