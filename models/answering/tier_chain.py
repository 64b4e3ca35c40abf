"""All three tiers in one process, with no broker between them: the same code that the roles run, called in a row.

What stops on its way in the running system stops here as well: a person's picture is answered by the device alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from models.answering.cloud import species_answer
from models.answering.device import Frames
from models.answering.edge import Families, FamilyEye
from models.answering.frame_gate import Scene
from models.answering.tier_eye import Fixed
from models.labels.taxonomy import load_taxonomy
from models.shipped import BACKBONE, load_zoo
from models.vision.tier_models import CloudEye
from pipeline import ids, topics
from pipeline.clock import Clock, SystemClock
from pipeline.messages import Privacy, Result, Tier
from pipeline.privacy.policy import Policy
from pipeline.privacy.seal import Keyring
from pipeline.settings.settings import Settings, StreamSettings

CAMERA: Final = topics.Parsed("home", "cam1", "frame", "garden")

SETTINGS: Final = Settings(
    streams={
        "home/cam1/garden": StreamSettings(
            pixels=Privacy.EDGE_PRIVATE,
            feature=Privacy.PUBLIC,
            result=Privacy.PUBLIC,
            reason="as in the starter settings",
        )
    }
)
"""A photo is answered as the starter settings' camera would answer it."""


class Answered(msgspec.Struct, frozen=True):
    """One tier's answer, as ``--json`` prints it."""

    tier: Tier
    rank: str
    label: str
    probability: float
    model: str
    rule: str


class LastWord(msgspec.Struct, frozen=True):
    """The deepest answer that stands."""

    rank: str
    label: str
    path: tuple[str, ...]


class Classified(msgspec.Struct, frozen=True):
    """One photo's line of ``--json``. `privacy` is the level of its feature: what may leave, and how far."""

    file: str
    answers: tuple[Answered, ...]
    final: LastWord
    privacy: Privacy
    ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class Tiers:
    """The eyes of all tiers."""

    frames: Frames
    families: Families
    cloud: CloudEye
    clock: Clock

    @classmethod
    def open(
        cls,
        clock: Clock | None = None,
        family_eye: FamilyEye | None = None,
        device_model: str = BACKBONE,
    ) -> Tiers:
        """Load all models: the device's is one of `DEVICE_MODELS`, `family_eye` answers at the edge (the released one without).

        Raises `Stop` where one is damaged.
        """
        zoo, tree, policy = load_zoo(), load_taxonomy(), Policy(SETTINGS)
        edge_eye = zoo.edge_eye()
        return cls(
            Frames(SETTINGS, policy, tree, zoo.device_eye(device_model), Keyring(), lambda: edge_eye),
            Families(policy, Fixed(family_eye or edge_eye), Keyring(), ()),
            zoo.cloud_eye(),
            clock or SystemClock(),
        )

    def classify(self, file: Path) -> Classified:
        """Answer one photo as far as it may go.

        Raises
        ------
        Rejected
            It is no picture, or one that the limits refuse.
        """
        results: list[Result] = []
        ms: dict[str, float] = {}
        data = file.read_bytes()
        now_s = self.clock.now()
        device = self.frames.answer(
            ids.event_id(now_s),
            CAMERA,
            data,
            received_s=now_s,
            now=self.clock.now,
            order=(1, 1),
            visit=None,
            scene=Scene(),
        )
        self._took(Tier.DEVICE, now_s, ms)
        results.append(device.result)
        levels = device.event.levels
        if device.result.pending is Tier.EDGE:
            now_s = self.clock.now()
            edge = self.families.answer(device.event, revision=2, asked=None, now=self.clock.now)
            self._took(Tier.EDGE, now_s, ms)
            results.append(edge.result)
            levels = edge.levels
            if edge.feature is not None and edge.result.pending is Tier.CLOUD:
                now_s = self.clock.now()
                results.append(species_answer(Fixed(self.cloud), edge.feature, now_s, self.clock.now))
                self._took(Tier.CLOUD, now_s, ms)
        last = results[-1]
        return Classified(
            file=str(file),
            answers=tuple(Answered(r.tier, r.rank, r.label, r.probability, r.model, r.rule) for r in results),
            final=LastWord(last.rank, last.label, last.path),
            privacy=levels.feature,
            ms=ms,
        )

    def _took(self, tier: Tier, since_s: float, ms: dict[str, float]) -> None:
        ms[tier.value] = round((self.clock.now() - since_s) * 1000, 2)
