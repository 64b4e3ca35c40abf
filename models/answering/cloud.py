"""Answer in the cloud: name the species of a public feature. Pure but for the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.answering import cascade
from models.answering.model_source import ModelSource
from models.vision.tier_models import CloudModel, CloudPrediction, deepest
from pipeline import messages
from pipeline.errors import Rejected
from pipeline.messages import UNKNOWN, Envelope, Feature, Result, Task, Tier


@dataclass(frozen=True, slots=True)
class SpeciesAnswer:
    """The cloud's result about one feature, and the prediction that it rests on."""

    result: Result
    prediction: CloudPrediction


def species_answer(
    models: ModelSource[CloudModel, CloudPrediction],
    envelope: Envelope,
    started_s: float,
    now: Callable[[], float],
) -> SpeciesAnswer:
    """Name the species of one public feature by the model that serves its stream.

    Raises
    ------
    Rejected
        The envelope holds no feature, or one of a space that this release's head was not made for.
    """

    def predict(model: CloudModel) -> CloudPrediction:
        if envelope.space != model.space:
            raise Rejected(
                "other-space",
                f"{envelope.id}: a feature of space {envelope.space}; this cloud answers {model.space}",
            )
        feature = messages.decode(Feature, envelope.payload)  # after the check: another space may lay it out otherwise
        return model.predict(np.frombuffer(feature.data, np.uint8))

    model, prediction = models.look(envelope.source, predict)
    feature = messages.decode(Feature, envelope.payload)
    found = deepest(prediction)
    path = cascade.deeper(feature.path, found.path)
    probability = found.probability if path == found.path else feature.probability
    decision = cascade.decide(
        cascade.Situation(
            tier=Tier.CLOUD,
            wants=feature.wants,
            path=path,
            probability=probability,
            margin=prediction.species.margin,
        )
    )
    site, device, stream = envelope.source.split("/")
    result = Result(
        event=envelope.event,
        time=envelope.time,
        site=site,
        device=device,
        stream=stream,
        sighting=feature.sighting or envelope.event,
        task=Task.WILDLIFE,
        tier=Tier.CLOUD,
        revision=feature.revision + 1,
        pending=None,
        rank=cascade.rank_of(path),
        label=path[-1] if path else UNKNOWN,
        path=path,
        probability=round(probability, 4),
        privacy=envelope.privacy,
        rule=decision.rule,
        reason=decision.reason,
        model=model.name,
        latency_ms=round(feature.latency_ms + (now() - started_s) * 1000, 1),
    )
    return SpeciesAnswer(result, prediction)
