"""How the device answers a frame: one reduced decode, the motion gate, kingdom and person; then policy, then the cascade.

::

    bytes -> decode (reduced) -> moved? -> eye (kingdom, person) -> policy (levels) -> cascade (rule)
                                                                       |                   |
                                                              Result (revision 1)    Event for the edge,
                                                                                     with a crop if it goes on

Nothing here touches a broker or a database: `Frames.answer` takes what the device remembers of the stream and returns
what to publish and what to remember.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import msgspec

from models.answering import cascade
from models.answering.frame_gate import EYE_PX, Scene, Seen, look, part_to_send, with_person
from models.answering.sightings import Visit, join
from models.labels.taxonomy import Taxonomy
from models.vision import images
from models.vision.boxes import Box
from models.vision.camera_health import Glance, glance
from models.vision.tier_models import DeviceEye, EdgeEye, EdgeSight
from pipeline import clock, ids, messages, readings
from pipeline.messages import Crop, Event, Feature, Kind, Levels, Privacy, Rank, Result, Task, Tier, Vector
from pipeline.privacy.policy import NAMED, UNNAMED, Policy, Verdict
from pipeline.privacy.seal import Keyring, build_private
from pipeline.settings.settings import Settings
from pipeline.topics import Parsed

PERSON_RULE = "person-in-frame"
"""Of the policy; the cascade's reason says it already."""


@dataclass(frozen=True, slots=True)
class FrameAnswer:
    """What one frame leads to."""

    result: Result
    event: Event
    visit: Visit
    scene: Scene
    glance: Glance = field(compare=False)  # pixels have no one truth value, and `scene` has them already

    def flagged(self, flags: tuple[str, ...]) -> FrameAnswer:
        """With what was odd about the camera."""
        if not flags:
            return self
        result = msgspec.structs.replace(self.result, flags=(*self.result.flags, *flags))
        return replace(self, result=result, event=msgspec.structs.replace(self.event, result=result))


class Frames:
    """Answers frames of all streams; the eye is shared by the device's workers."""

    def __init__(
        self,
        settings: Settings,
        policy: Policy,
        taxonomy: Taxonomy,
        eye: DeviceEye,
        keyring: Keyring,
        edge_eye: Callable[[], EdgeEye],
    ) -> None:
        """`edge_eye` is asked for only where a vector is made on the device: ``send = "vector"``, or a sealed copy."""
        self._settings = settings
        self._policy = policy
        self._taxonomy = taxonomy
        self._eye = eye
        self._keyring = keyring
        self._make_edge_eye = edge_eye
        self._edge_eye: EdgeEye | None = None
        self._edge_eye_lock = threading.Lock()

    def answer(
        self,
        event: str,
        origin: Parsed,
        data: bytes,
        *,
        received_s: float,
        now: Callable[[], float],
        order: tuple[int, int],
        visit: Visit | None,
        scene: Scene,
    ) -> FrameAnswer:
        """Answer one frame.

        Parameters
        ----------
        event
            Its id; the time in it is when the frame was captured.
        data
            JPEG or PNG.
        received_s, now
            When the device agent received it, and the clock for the latency (UTC seconds).
        order
            The device's (boot, sequence).

        Raises
        ------
        Rejected
            The bytes are no picture after all (see `models.vision.images`).
        """
        time_s, flags = capture_time(event, received_s)
        source = f"{origin.site}/{origin.device}/{origin.name}"
        frame = images.decode(data, at_least_px=EYE_PX)
        device = self._settings.device
        scene, seen = look(
            scene, frame, self._eye, self._taxonomy, event=event, at_s=received_s, still_s=device.still_s
        )
        sight = self._vector(frame, data, seen)
        if sight is not None and sight.person_raised:
            scene, seen = with_person(scene, seen, sight.person, event=event, at_s=received_s)
        person_ago_s = scene.person_ago_s(received_s, device.person_hold_s)
        verdict = self._policy.levels(source, time_s, path=seen.path, person=person_ago_s is not None)
        situation = replace(self._situation(source, seen, verdict.levels), person_ago_s=person_ago_s)
        decision = cascade.decide(situation)
        visit = join(
            visit,
            event=event,
            time_s=time_s,
            label=seen.path[0] if seen.path else messages.UNKNOWN,
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
            rank=cascade.rank_of(seen.path),
            label=seen.path[-1] if seen.path else messages.UNKNOWN,
            path=seen.path,
            probability=round(seen.probability, 4),
            privacy=verdict.levels.result,
            rule=decision.rule,
            reason=_explained(decision.reason, verdict),
            model=self._eye.name,
            latency_ms=round((now() - received_s) * 1000, 1),
            flags=flags,
        )
        onward = Event(
            result=result,
            boot=order[0],
            sequence=order[1],
            received_s=received_s,
            wants=situation.wants,
            levels=verdict.levels,
            person=round(seen.person, 4),
            body=self._body(frame, data, seen.box, sight) if decision.forward else None,
            sealed=self._sealed(result, frame, verdict.levels, situation.wants)
            if seen.stands is None
            else (),
        )
        return FrameAnswer(result, onward, visit, scene, glance(frame))

    def _situation(self, source: str, seen: Seen, levels: Levels) -> cascade.Situation:
        stream = self._settings.stream(source)
        sends = levels.feature if self._settings.device.send == "vector" else levels.pixels
        return cascade.Situation(
            tier=Tier.DEVICE,
            wants=stream.wants if stream else Rank.SPECIES,
            path=seen.path,
            probability=seen.probability,
            margin=seen.margin,
            person=seen.person,
            person_raised=seen.person_raised,
            stands=seen.stands,
            may_leave=min(sends.reach.depth, levels.result.reach.depth) >= Tier.EDGE.depth,
            advice="" if stream else self._policy.advice(source),
            person_miss_rate=self._eye.person_miss_rate or 0.0,
            person_miss_rate_accepted=self._settings.device.person_miss_rate,
        )

    def _vector(self, frame: images.Picture, data: bytes, seen: Seen) -> EdgeSight | None:
        """The edge's own look, where it gets a vector and no pixels to look at: what would be withdrawn there stays here."""
        if self._settings.device.send != "vector" or seen.person_raised or seen.stands is not None:
            return None
        return self._vector_eye().see(part_to_send(frame, data, seen.box), seen.box)

    def _body(self, frame: images.Picture, data: bytes, box: Box, sight: EdgeSight | None) -> Crop | Vector:
        """What goes on: pixels around what moved, or their vector where none may leave."""
        if sight is not None:
            return Vector(space=self._vector_eye().space, data=sight.vector.tobytes())
        return Crop(jpeg=images.encode_jpeg(part_to_send(frame, data, box)), box=box.as_tuple())

    def _sealed(
        self, result: Result, frame: images.Picture, levels: Levels, wants: Rank
    ) -> tuple[messages.Envelope, ...]:
        """The user's own copy of a user-private feature, where the settings ask for it."""
        private = levels.feature is Privacy.USER_PRIVATE
        asked = private and Privacy.USER_PRIVATE in self._settings.uplink.sealed
        if not asked or self._keyring.user is None or self._settings.stream(result.source) is None:
            return ()
        eye = self._vector_eye()
        vector = eye.see(frame).vector
        feature = Feature(
            data=vector.tobytes(),
            sighting="" if result.sighting in (None, result.event) else str(result.sighting),
            wants=wants,
            revision=result.revision,
            path=result.path,
            probability=result.probability,
            latency_ms=result.latency_ms,
        )
        return (
            build_private(
                self._keyring.user,
                event=result.event,
                kind=Kind.FEATURE,
                source=result.source,
                time=result.time,
                space=eye.space,
                payload=messages.encode(feature),
            ),
        )

    def _vector_eye(self) -> EdgeEye:
        with self._edge_eye_lock:
            if self._edge_eye is None:
                self._edge_eye = self._make_edge_eye()
            return self._edge_eye


def capture_time(event: str, received_s: float) -> tuple[float, tuple[str, ...]]:
    """When a frame was captured (UTC seconds: the time in its id), and what is odd about that. A time that is yet to
    come keeps the event, takes the receipt time, and is flagged; old photos are as good as new ones.
    """
    time_s = ids.time_s(event)
    if time_s is None:
        return received_s, ()
    if time_s > received_s + readings.FUTURE_MAX_S:
        return received_s, (readings.TIME_IMPLAUSIBLE,)
    return time_s, ()


def _explained(reason: str, verdict: Verdict) -> str:
    """The cascade's reason, with the rules of the settings where some raised a level."""
    raising = [rule for rule in verdict.rules if rule not in (NAMED, UNNAMED, PERSON_RULE)]
    return f"{reason} (raised by: {', '.join(raising)})" if raising else reason
