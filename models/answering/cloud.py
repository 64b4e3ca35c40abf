"""How the cloud answers: the species of a public feature. Pure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.answering import cascade
from models.answering.tier_eye import Looker
from models.labels.calibration import answer
from models.vision.tier_models import CloudEye, CloudSight
from pipeline import messages
from pipeline.errors import Rejected
from pipeline.messages import UNKNOWN, Envelope, Feature, Result, Task, Tier


def species_answer(
    eyes: Looker[CloudEye], envelope: Envelope, started_s: float, now: Callable[[], float]
) -> Result:
    """Name the species of one public feature. `eyes` says which one answers a stream.

    Raises
    ------
    Rejected
        The envelope holds no feature, or one of a space that this release's head was not made for.
    """

    def see(eye: CloudEye) -> CloudSight:
        if envelope.space != eye.space:
            raise Rejected(
                "other-space",
                f"{envelope.id}: a feature of space {envelope.space}; this cloud answers {eye.space}",
            )
        return eye.see(np.frombuffer(messages.decode(Feature, envelope.payload).data, np.uint8))

    eye, seen = eyes.look(envelope.source, see)
    feature = messages.decode(Feature, envelope.payload)
    found = answer(eye.tree, (seen.species, seen.family, seen.kingdom), seen.thresholds)
    path = cascade.deeper(feature.path, tuple(found.path))
    probability = found.probability if path == tuple(found.path) else feature.probability
    decision = cascade.decide(
        cascade.Situation(
            tier=Tier.CLOUD,
            wants=feature.wants,
            path=path,
            probability=probability,
            margin=seen.species.margin,
        )
    )
    site, device, stream = envelope.source.split("/")
    return Result(
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
        model=eye.name,
        latency_ms=round(feature.latency_ms + (now() - started_s) * 1000, 1),
    )
