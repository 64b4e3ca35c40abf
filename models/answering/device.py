"""Answer a frame on the device: decode it reduced, check for motion, predict kingdom and person, apply the policy.

::

    bytes -> decode (reduced) -> moved? -> model (kingdom, person) -> policy (levels) -> cascade (rule)
                                                                         |                   |
                                                                Result (revision 1)    Event for the edge,
                                                                                       with a crop if it asks

Nothing here touches a broker or a database: `Frames.answer` takes the device's memory of the stream and returns the
messages to publish and the memory to keep.
"""

from __future__ import annotations

import datetime as dt
import io
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import msgspec

from models.answering import cascade, frame_gate
from models.answering.frame_gate import DECODE_PX, FramePrediction, FrameTime, StreamMemory, part_to_send, with_person
from models.answering.kept_feature import encode_feature
from models.answering.sightings import Visit, join
from models.labels.taxonomy import Taxonomy
from models.vision import images
from models.vision.boxes import Box
from models.vision.camera_health import Glance, glance
from models.vision.capture_time import EARLIEST_S, capture_time, exif_tags
from models.vision.tier_models import DeviceModel, EdgeModel, EdgePrediction
from pipeline import clock, ids, messages, readings
from pipeline.messages import Crop, Event, Kind, Levels, Privacy, Rank, Result, Task, Tier, Vector
from pipeline.privacy.policy import NAMED, UNNAMED, Policy, Verdict
from pipeline.privacy.seal import Keyring, build_private
from pipeline.settings.settings import Settings
from pipeline.topics import Parsed

IMAGE_DAMAGED = "image-damaged"
"""Flag of a frame of which a part is missing; also the rule that raises its levels."""

SMALLEST_NAMED = 0.01
"""A smaller missing share is called a part."""

NAMED_BY_CASCADE = (NAMED, UNNAMED, "person-in-frame", IMAGE_DAMAGED)
"""Rules of the policy that the cascade's reason names already."""


@dataclass(frozen=True, slots=True)
class FrameAnswer:
    """The device's answer about one frame, and everything that follows from it."""

    result: Result
    event: Event
    situation: cascade.Situation
    """The cascade decided by this."""
    prediction: FramePrediction = field(compare=False)
    visit: Visit
    memory: StreamMemory
    glance: Glance = field(compare=False)  # arrays have no single truth value, and `memory` holds them already

    def flagged(self, flags: tuple[str, ...]) -> FrameAnswer:
        """Return the answer with the flags of the camera's faults."""
        if not flags:
            return self
        result = msgspec.structs.replace(self.result, flags=(*self.result.flags, *flags))
        return replace(self, result=result, event=msgspec.structs.replace(self.event, result=result))


class Frames:
    """Answers frames of all streams; the device's workers share the model."""

    def __init__(
        self,
        settings: Settings,
        policy: Policy,
        taxonomy: Taxonomy,
        model: DeviceModel,
        keyring: Keyring,
        edge_model: Callable[[], EdgeModel],
    ) -> None:
        """`edge_model` is called only to make a vector: with ``send = "vector"``, or for a sealed copy."""
        self._settings = settings
        self._policy = policy
        self._taxonomy = taxonomy
        self._model = model
        self._keyring = keyring
        self._make_edge_model = edge_model
        self._edge_model: EdgeModel | None = None
        self._edge_model_lock = threading.Lock()

    def answer(
        self,
        event: str,
        origin: Parsed,
        data: bytes,
        *,
        received_s: float,
        captured_s: float | None = None,
        now: Callable[[], float],
        order: tuple[int, int],
        visit: Visit | None,
        memory: StreamMemory,
    ) -> FrameAnswer:
        """Answer one frame.

        Parameters
        ----------
        event
            The frame's id, which holds the time of capture.
        data
            JPEG or PNG.
        received_s, now
            The time when the device agent received it, and the clock for the latency (UTC seconds).
            The holds run on it, unless the time of capture can be believed (see `frame_gate.FrameTime`).
        captured_s
            The time of the capture, if neither `event` nor `data` hold it (UTC seconds).
        order
            The device's (boot, sequence).

        Raises
        ------
        Rejected
            The bytes are no picture (see `models.vision.images`).
        """
        time_s, time_source, flags = frame_time(event, data, self._settings.zone, received_s, captured_s)
        source = f"{origin.site}/{origin.device}/{origin.name}"
        decoded = images.examine(data, at_least_px=DECODE_PX)
        frame = decoded.picture
        at = FrameTime(received_s)
        if decoded.damaged:
            flags = (*flags, IMAGE_DAMAGED)
        elif readings.TIME_IMPLAUSIBLE not in flags:
            of_file = not time_source or ids.time_s(event) is None  # a clip's file time is written into its frame
            at = FrameTime(received_s, time_s, slack_s=frame_gate.FILE_LATE_S if of_file else 0.0)
        device = self._settings.device
        before = memory
        memory, prediction = frame_gate.predict(
            StreamMemory(persons=before.persons) if decoded.damaged else before,
            frame,
            self._model,
            self._taxonomy,
            event=event,
            at=at,
            still_s=device.still_s,
        )
        edge_prediction = None if decoded.damaged else self._vector(frame, data, prediction)
        if edge_prediction is not None and edge_prediction.person_raised:
            memory, prediction = with_person(memory, prediction, edge_prediction.person, event=event, at=at)
        if decoded.damaged:  # no later frame is compared with it
            memory = replace(before, persons=memory.persons)
        person_ago_s = memory.person_ago_s(at, device.person_hold_s)
        # Rules about hours hold for a frame whose hour is not known.
        hour_of_s = time_s if readings.TIME_IMPLAUSIBLE not in flags else math.nan
        verdict = self._policy.levels(
            source, hour_of_s, path=prediction.path, person=person_ago_s is not None, damaged=decoded.damaged
        )
        situation = replace(
            self._situation(source, prediction, verdict.levels), person_ago_s=person_ago_s, damage=_damage(decoded)
        )
        decision = cascade.decide(situation)
        visit = join(
            visit,
            event=event,
            time_s=time_s,
            label=prediction.path[0] if prediction.path else messages.UNKNOWN,
            gap_s=device.sighting_gap_s,
        )
        result = Result(
            event=event,
            time=clock.rfc3339(time_s),
            site=origin.site,
            device=origin.device,
            stream=origin.name,
            sighting=visit.id,
            task=Task.WILDLIFE,
            tier=Tier.DEVICE,
            revision=1,
            pending=Tier.EDGE if decision.forward else None,
            rank=cascade.rank_of(prediction.path),
            label=prediction.path[-1] if prediction.path else messages.UNKNOWN,
            path=prediction.path,
            probability=round(prediction.probability, 4),
            privacy=verdict.levels.result,
            rule=decision.rule,
            reason=_explained(decision.reason, verdict),
            model=self._model.name,
            latency_ms=round((now() - received_s) * 1000, 1),
            flags=flags,
            time_source=time_source,
        )
        onward = Event(
            result=result,
            boot=order[0],
            sequence=order[1],
            received_s=received_s,
            wants=situation.wants,
            levels=verdict.levels,
            person=round(prediction.person, 4),
            body=self._body(frame, data, prediction.box, edge_prediction) if decision.forward else None,
            sealed=self._sealed(result, frame, verdict.levels, situation.wants) if prediction.stands is None else (),
        )
        return FrameAnswer(result, onward, situation, prediction, visit, memory, glance(frame))

    def _situation(self, source: str, prediction: FramePrediction, levels: Levels) -> cascade.Situation:
        stream = self._settings.stream(source)
        sends = levels.feature if self._settings.device.send == "vector" else levels.pixels
        return cascade.Situation(
            tier=Tier.DEVICE,
            wants=stream.wants if stream else Rank.SPECIES,
            path=prediction.path,
            probability=prediction.probability,
            margin=prediction.margin,
            person=prediction.person,
            person_raised=prediction.person_raised,
            stands=prediction.stands,
            may_leave=min(sends.reach.depth, levels.result.reach.depth) >= Tier.EDGE.depth,
            advice="" if stream else self._policy.advice(source),
            person_miss_rate=self._model.person_miss_rate or 0.0,
            person_miss_rate_accepted=self._settings.device.person_miss_rate,
        )

    def _vector(self, frame: images.Picture, data: bytes, prediction: FramePrediction) -> EdgePrediction | None:
        """Return the edge model's prediction if the edge gets no pixels, and so cannot look for a person itself."""
        if self._settings.device.send != "vector" or prediction.person_raised or prediction.stands is not None:
            return None
        return self._vector_model().predict(part_to_send(frame, data, prediction.box), prediction.box)

    def _body(
        self, frame: images.Picture, data: bytes, box: Box, edge_prediction: EdgePrediction | None
    ) -> Crop | Vector:
        """Return the pixels around the part that moved, or their vector where no pixels may leave."""
        if edge_prediction is not None:
            return Vector(space=self._vector_model().space, data=edge_prediction.vector.tobytes())
        return crop_to_send(frame, data, box)

    def _sealed(
        self, result: Result, frame: images.Picture, levels: Levels, wants: Rank
    ) -> tuple[messages.Envelope, ...]:
        """Return the user's own copy of a user-private feature, where the settings ask for it."""
        private = levels.feature is Privacy.USER_PRIVATE
        asked = private and Privacy.USER_PRIVATE in self._settings.uplink.sealed
        if not asked or self._keyring.user is None or self._settings.stream(result.source) is None:
            return ()
        model = self._vector_model()
        payload = encode_feature(result, model.predict(frame).vector, wants)
        return (
            build_private(
                self._keyring.user,
                event=result.event,
                kind=Kind.FEATURE,
                source=result.source,
                time=result.time,
                space=model.space,
                payload=payload,
            ),
        )

    def _vector_model(self) -> EdgeModel:
        with self._edge_model_lock:
            if self._edge_model is None:
                self._edge_model = self._make_edge_model()
            return self._edge_model


def crop_to_send(frame: images.Picture, data: bytes, box: Box) -> Crop:
    """Return the part of a frame that the edge gets. `data` are the bytes that `frame` was decoded from."""
    return Crop(jpeg=images.encode_jpeg(part_to_send(frame, data, box)), box=box.as_tuple())


def frame_time(
    event: str, data: bytes, zone: dt.tzinfo, received_s: float, captured_s: float | None = None
) -> tuple[float, str, tuple[str, ...]]:
    """Return when a frame was captured (UTC seconds), where that comes from, and a flag if it is implausible.

    The EXIF time of the picture counts, else `captured_s`, which is that of its file, else the time in the frame's id.
    """
    taken = capture_time(exif_tags(io.BytesIO(data)), zone, received_s)
    if taken.source == "received":
        time_s, flags = event_time(event, received_s, captured_s)
        return time_s, "", flags if taken.trusted else (readings.TIME_IMPLAUSIBLE,)
    return taken.time_s, taken.source, () if taken.trusted else (readings.TIME_IMPLAUSIBLE,)


def event_time(event: str, received_s: float, captured_s: float | None = None) -> tuple[float, tuple[str, ...]]:
    """Return the time of a frame's file, or else in its id (UTC seconds), and a flag where that is implausible.

    A time in the future, or of a clock that was never set, is replaced by the time of receipt and flagged; old photos
    are as good as new ones.
    """
    time_s = ids.time_s(event) if captured_s is None else captured_s
    if time_s is None:
        return received_s, ()
    if not EARLIEST_S <= time_s <= received_s + readings.FUTURE_MAX_S:
        return received_s, (readings.TIME_IMPLAUSIBLE,)
    return time_s, ()


def _damage(decoded: images.Decoded) -> str:
    """Return what is missing of a damaged picture, in words; empty for a whole one."""
    if not decoded.damaged:
        return ""
    share = decoded.missing or 0.0
    return f"{f'{share:.0%}' if share >= SMALLEST_NAMED else 'a part'} of the picture is missing"


def _explained(reason: str, verdict: Verdict) -> str:
    """Return the cascade's reason, with the rules of the settings that raised a level."""
    raising = [rule for rule in verdict.rules if rule not in NAMED_BY_CASCADE]
    return f"{reason} (raised by: {', '.join(raising)})" if raising else reason
