"""All three tiers in one process, with no broker between them: the functions that the roles run, called in a row.

::

    bytes --Frames--> FrameAnswer --crop--> Families --> FamilyAnswer --feature--> species_answer --> SpeciesAnswer

A photo stops where it stops in the running system: a person's picture is answered by the device alone. With `ask_all`
every tier answers every photo in which something moved, so that each tier's figures are over all photos; `situation`
of an answer then holds the input of the cascade.

Example::

    answer = TierChain.open().answer(Path("cat.jpg").read_bytes())
    answer.results[-1].path         # ("animal", "Felidae", "Felis catus")
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from models.answering.cascade import contradicts
from models.answering.cloud import SpeciesAnswer, species_answer
from models.answering.device import FrameAnswer, Frames, crop_to_send
from models.answering.edge import Families, FamilyAnswer, FamilyModel
from models.answering.frame_gate import DECODE_PX, StreamMemory
from models.answering.model_source import FixedModel, ModelSource
from models.labels.taxonomy import load_taxonomy
from models.shipped import BACKBONE, load_zoo
from models.vision import images
from models.vision.boxes import Box
from models.vision.tier_models import CloudModel, DeviceModel, EdgeModel, EdgePrediction
from pipeline import ids, topics
from pipeline.clock import Clock, SystemClock
from pipeline.messages import Event, Privacy, Result, Tier
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


@dataclass(frozen=True, slots=True)
class ChainAnswer:
    """The answers about one photo, None of a tier that was not asked; `ms` by tier that was asked."""

    device: FrameAnswer
    ms: Mapping[str, float]
    event: Event | None = None
    """The event that the edge received."""
    edge: FamilyAnswer | None = None
    cloud: SpeciesAnswer | None = None

    @property
    def results(self) -> tuple[Result, ...]:
        """One a tier that was asked, in the order in which they would be published."""
        answers = (self.device, self.edge, self.cloud)
        return tuple(answer.result for answer in answers if answer is not None)


class SiteSource(ModelSource[FamilyModel, EdgePrediction], Protocol):
    """Chooses the edge's model, and names its predictions: `models.site_learning.site_answers.SiteModels`."""

    def name_beside(self, general: str) -> str:
        """Return the name under which a prediction of this general model is published."""


class TierChain:
    """The answering functions of device, edge and cloud, with one model each."""

    def __init__(
        self,
        settings: Settings,
        device: DeviceModel,
        edge: EdgeModel,
        cloud: CloudModel,
        *,
        families: FamilyModel | None = None,
        site: SiteSource | None = None,
        ask_all: bool = False,
        clock: Clock | None = None,
    ) -> None:
        """`families` answers at the edge in place of `edge`, which the device makes vectors with.

        `site` chooses that model, and refines its predictions by what a site learned.
        """
        policy = Policy(settings)
        family_model: FamilyModel = families or edge
        self.names: Mapping[str, str] = {
            Tier.DEVICE.value: device.name,
            Tier.EDGE.value: site.name_beside(family_model.name) if site else family_model.name,
            Tier.CLOUD.value: cloud.name,
        }
        """Name of the model of each tier."""
        self._ask_all = ask_all
        self._now = (clock or SystemClock()).now
        self._frames = Frames(settings, policy, load_taxonomy(), device, Keyring(), lambda: edge)
        self._families = Families(policy, site or FixedModel(family_model), Keyring(), ())
        self._cloud = FixedModel(cloud)

    @classmethod
    def open(
        cls,
        settings: Settings = SETTINGS,
        *,
        device_model: str = BACKBONE,
        families: FamilyModel | None = None,
        site: SiteSource | None = None,
        ask_all: bool = False,
        clock: Clock | None = None,
    ) -> TierChain:
        """Load the shipped models; `device_model` is one of `DEVICE_MODELS`. Raises `Stop` where one is damaged."""
        zoo = load_zoo()
        device, edge, cloud = zoo.device_model(device_model), zoo.edge_model(), zoo.cloud_model()
        return cls(settings, device, edge, cloud, families=families, site=site, ask_all=ask_all, clock=clock)

    def answer(
        self,
        data: bytes,
        origin: topics.Parsed = CAMERA,
        *,
        event: str | None = None,
        received_s: float | None = None,
        captured_s: float | None = None,
        before: ChainAnswer | None = None,
    ) -> ChainAnswer:
        """Answer one photo: by itself, or as its camera's next frame after the one answered `before`.

        `event` is its id, by default a new one; `captured_s` is the time of its file (UTC seconds).

        Raises
        ------
        Rejected
            It is no picture, or one that the limits refuse.
        """
        received_s = self._now() if received_s is None else received_s
        ms: dict[str, float] = {}
        start_s = time.perf_counter()
        device = self._frames.answer(
            event or ids.event_id(received_s),
            origin,
            data,
            received_s=received_s,
            captured_s=captured_s,
            now=self._now,
            order=(1, 1),
            visit=before.device.visit if before else None,
            memory=before.device.memory if before else StreamMemory(),
        )
        ms[Tier.DEVICE.value] = _ms_since(start_s)
        onward = self._event_for_edge(device, data)
        if onward is None:
            return ChainAnswer(device, ms)
        start_s = time.perf_counter()
        edge = self._families.answer(onward, revision=2, asked=None, now=self._now)
        ms[Tier.EDGE.value] = _ms_since(start_s)
        feature = edge.feature_of(onward) if self._ask_all else edge.feature
        if feature is None:
            return ChainAnswer(device, ms, onward, edge)
        start_s = time.perf_counter()
        cloud = species_answer(self._cloud, feature, self._now(), self._now)
        ms[Tier.CLOUD.value] = _ms_since(start_s)
        if contradicts(edge.known_here, cloud.result.path):  # people of this site know better
            return ChainAnswer(device, ms, onward, edge)
        return ChainAnswer(device, ms, onward, edge, cloud)

    def _event_for_edge(self, device: FrameAnswer, data: bytes) -> Event | None:
        """Return the event with what the edge gets to see, or None where the photo stays on the device."""
        if device.event.body is not None:
            return device.event
        if not self._ask_all or device.situation.stands is not None:
            return None
        frame = images.decode(data, at_least_px=DECODE_PX)
        crop = crop_to_send(frame, data, device.prediction.box)
        return msgspec.structs.replace(device.event, body=crop)


def _ms_since(start_s: float) -> float:
    return (time.perf_counter() - start_s) * 1000


# --- as `tierwise classify` prints it --------------------------------------------------------------------------


class TierAnswer(msgspec.Struct, frozen=True):
    """One tier's answer, as ``--json`` prints it."""

    tier: Tier
    rank: str
    label: str
    probability: float
    model: str
    rule: str


class FinalAnswer(msgspec.Struct, frozen=True):
    """The deepest answer that stands."""

    rank: str
    label: str
    path: tuple[str, ...]


class Classified(msgspec.Struct, frozen=True):
    """One photo's line of ``--json``. `privacy` is the level of its feature: what may leave, and how far."""

    file: str
    answers: tuple[TierAnswer, ...]
    final: FinalAnswer
    privacy: Privacy
    ms: dict[str, float]
    result_privacy: Privacy = Privacy.EDGE_PRIVATE
    """Level of the answer itself."""
    time: str = ""
    """When it was taken, in the site's zone."""
    time_source: str = ""
    """`exif-offset`, `exif-timezone` or `file`."""
    sighting: str = ""
    """Id of the burst that it belongs to."""
    media: str = ""
    """`image` or `video`."""
    person: bool = False
    box: tuple[float, float, float, float] | None = None
    """Left, top, right and bottom of the part that was looked at closely; None for the whole picture."""
    flags: tuple[str, ...] = ()


def classified(file: str, answer: ChainAnswer, *, time: str = "", time_source: str = "", media: str = "") -> Classified:
    """Return the line of ``--json`` for one photo."""
    device, results, last = answer.device, answer.results, answer.results[-1]
    levels = device.event.levels if answer.edge is None else device.event.levels.join(answer.edge.levels)
    box = device.prediction.box
    return Classified(
        file=file,
        answers=tuple(TierAnswer(r.tier, r.rank, r.label, r.probability, r.model, r.rule) for r in results),
        final=FinalAnswer(last.rank, last.label, last.path),
        privacy=levels.feature,
        ms={tier: round(ms, 2) for tier, ms in answer.ms.items()},
        result_privacy=levels.result,
        time=time,
        time_source=time_source,
        sighting=device.visit.id,
        media=media,
        person=any(
            (device.prediction.person_raised, answer.edge is not None and answer.edge.withdrawn, "person" in last.path)
        ),
        box=None if box == Box.WHOLE else box.as_tuple(),
        flags=device.result.flags,
    )
