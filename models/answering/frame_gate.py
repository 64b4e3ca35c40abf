"""A fixed camera's frames in their order: motion first, the eye only where it is needed, and what goes on of a frame.

Stands at the device, between the decode and the policy, and under `models.evaluation.evaluate`, which measures what motion is
worth with this very code. Pure but for the eye::

    frame --look--> Scene (remembered), Seen --part_to_send--> the crop that goes to the edge

Example::

    scene, seen = look(Scene(), frame, eye, tree, event="0193…", at_s=0.0, still_s=30)
    scene, seen = look(scene, frame, eye, tree, event="0194…", at_s=1.0, still_s=30)
    seen.stands                                         # "0193…": nothing moved
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from models.labels.calibration import DEFAULT_THRESHOLDS, answer
from models.labels.taxonomy import Taxonomy
from models.vision import images, motion
from models.vision.tier_models import DeviceEye, DeviceSight

EYE_PX = 448
"""Short side of the reduced decode that motion gate and eye share: twice the eye's served size, so that what moved can
be looked at by itself."""

CROP_PX = 320
"""Longest side of a crop that goes to the edge: somewhat more than its eye is served, to survive the JPEG."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the eye said of a frame."""

    path: tuple[str, ...]
    probability: float
    margin: float
    person: float
    person_raised: bool
    box: motion.Box
    """Where to crop what goes on."""
    sight: DeviceSight
    """All of it; of the earlier frame, where that one's answer stands."""
    stands: str | None = None
    """The earlier event whose answer this is, while nothing moves."""


@dataclass(frozen=True, slots=True)
class Still:
    """The last answer of a stream, which stands while nothing moves."""

    event: str
    seen: Seen
    at_s: float


@dataclass(frozen=True, slots=True)
class Scene:
    """What the device remembers of a stream between two frames; lost at a restart, when the first frame counts whole."""

    background: motion.Background | None = None
    still: Still | None = None
    person_s: float | None = None
    """When a person was last seen."""

    def person_ago_s(self, at_s: float, hold_s: float) -> float | None:
        """Seconds since this stream saw a person (0: in this frame); None once that does not count any more."""
        if self.person_s is None or at_s - self.person_s > hold_s:
            return None
        return max(0.0, at_s - self.person_s)


def look(
    scene: Scene,
    frame: images.Picture,
    eye: DeviceEye,
    tree: Taxonomy,
    *,
    event: str,
    at_s: float,
    still_s: float,
) -> tuple[Scene, Seen]:
    """Motion first; the eye only where something moved, or where the last answer is older than `still_s`."""
    background, moved = motion.look(scene.background, frame)
    still = scene.still
    if not moved.moved and still is not None and at_s - still.at_s <= still_s:
        person_s = at_s if still.seen.person_raised else scene.person_s
        unchanged = replace(scene, background=background, person_s=person_s)
        return unchanged, replace(still.seen, stands=still.event)
    seen = seen_of(eye.see(frame, moved.box if moved.moved else None), tree)
    person_s = at_s if seen.person_raised else scene.person_s
    return Scene(background, Still(event, seen, at_s), person_s), seen


def seen_of(sight: DeviceSight, tree: Taxonomy) -> Seen:
    """The eye's view as an answer."""
    found = answer(tree, (sight.kingdom,), DEFAULT_THRESHOLDS)
    return Seen(
        path=tuple(found.path),
        probability=found.probability,
        margin=sight.kingdom.margin,
        person=sight.person,
        # What is answered `person` counts as one, however low the score that raises levels is.
        person_raised=sight.person_raised or found.path[:1] == ("person",),
        box=sight.crop_box,
        sight=sight,
    )


def with_person(scene: Scene, seen: Seen, person: float, *, event: str, at_s: float) -> tuple[Scene, Seen]:
    """A second look at what was to be sent found a person, with that score: the frame counts as one with a person."""
    raised = replace(seen, person=max(seen.person, person), person_raised=True)
    return replace(scene, still=Still(event, raised, at_s), person_s=at_s), raised


def part_to_send(frame: images.Picture, data: bytes, box: motion.Box) -> images.Picture:
    """What goes on: cut from the frame that was decoded already, unless it was reduced too far for that."""
    cut = images.crop(frame, box)
    if max(cut.shape[:2]) < CROP_PX and frame.size < _size(images.inspect(data)):
        cut = images.crop(images.decode(data), box)
    return images.pad(images.shrink(cut, CROP_PX))


def _size(header: images.Header) -> int:
    return header.width * header.height * 3
