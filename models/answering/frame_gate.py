"""A camera's frames in their order: motion first, the model only where something moved, and the crop that goes on.

It stands at the device between decode and policy, and is pure but for the model::

    frame --predict--> StreamMemory (kept), FramePrediction --part_to_send--> the crop that goes to the edge

Example::

    memory, prediction = predict(StreamMemory(), frame, model, tree, event="0193…", at_s=0.0, still_s=30)
    memory, prediction = predict(memory, frame, model, tree, event="0194…", at_s=1.0, still_s=30)
    prediction.stands                                   # "0193…": nothing moved
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from models.labels.calibration import DEFAULT_THRESHOLDS, answer
from models.labels.scores import Scores
from models.labels.taxonomy import Taxonomy
from models.vision import images, motion
from models.vision.tier_models import DeviceModel, DevicePrediction

DECODE_PX = 448
"""Short side of the reduced decode that motion gate and model share: twice the model's input, so that a closer look at
the part that moved still has pixels enough."""

CROP_PX = 320
"""Longest side of a crop that goes to the edge: somewhat more than the edge model's input, to survive the JPEG."""


@dataclass(frozen=True, slots=True)
class FramePrediction:
    """The device's prediction about a frame, or about an earlier one whose answer stands."""

    path: tuple[str, ...]
    probability: float
    margin: float
    person: float
    person_raised: bool
    box: motion.Box
    """The box to crop for the edge."""
    kingdom: Scores
    stands: str | None = None
    """The earlier event whose answer this is, while nothing moves."""


@dataclass(frozen=True, slots=True)
class LastPrediction:
    """A stream's last prediction, which stands while nothing moves."""

    event: str
    prediction: FramePrediction
    at_s: float


@dataclass(frozen=True, slots=True)
class StreamMemory:
    """The device's memory of a stream between two frames; lost at a restart, when the first frame counts whole."""

    background: motion.BackgroundModel | None = None
    last: LastPrediction | None = None
    person_s: float | None = None
    """Time at which a person was last seen."""

    def person_ago_s(self, at_s: float, hold_s: float) -> float | None:
        """Return the seconds since this stream saw a person (0: in this frame), or None after `hold_s`."""
        if self.person_s is None or at_s - self.person_s > hold_s:
            return None
        return max(0.0, at_s - self.person_s)


def predict(
    memory: StreamMemory,
    frame: images.Picture,
    model: DeviceModel,
    tree: Taxonomy,
    *,
    event: str,
    at_s: float,
    still_s: float,
) -> tuple[StreamMemory, FramePrediction]:
    """Ask the model where something moved, or where the last prediction is older than `still_s`."""
    background, moved = motion.look(memory.background, frame)
    last = memory.last
    if not moved.moved and last is not None and at_s - last.at_s <= still_s:
        person_s = at_s if last.prediction.person_raised else memory.person_s
        unchanged = replace(memory, background=background, person_s=person_s)
        return unchanged, replace(last.prediction, stands=last.event)
    prediction = _named(model.predict(frame, moved.box if moved.moved else None), tree)
    person_s = at_s if prediction.person_raised else memory.person_s
    return StreamMemory(background, LastPrediction(event, prediction, at_s), person_s), prediction


def _named(prediction: DevicePrediction, tree: Taxonomy) -> FramePrediction:
    found = answer(tree, (prediction.kingdom,), DEFAULT_THRESHOLDS)
    return FramePrediction(
        path=found.path,
        probability=found.probability,
        margin=prediction.kingdom.margin,
        person=prediction.person,
        # A frame that is answered `person` counts as one, however low the score that raises levels is.
        person_raised=prediction.person_raised or found.path[:1] == ("person",),
        box=prediction.crop_box,
        kingdom=prediction.kingdom,
    )


def with_person(
    memory: StreamMemory, prediction: FramePrediction, person: float, *, event: str, at_s: float
) -> tuple[StreamMemory, FramePrediction]:
    """Count the frame as one with a person, since a second model found one with that score in the part to be sent."""
    raised = replace(prediction, person=max(prediction.person, person), person_raised=True)
    return replace(memory, last=LastPrediction(event, raised, at_s), person_s=at_s), raised


def part_to_send(frame: images.Picture, data: bytes, box: motion.Box) -> images.Picture:
    """Cut the part from the frame that is decoded already, unless that was reduced too far for it."""
    cut = images.crop(frame, box)
    if max(cut.shape[:2]) < CROP_PX and frame.size < _size(images.inspect(data)):
        cut = images.crop(images.decode(data), box)
    return images.pad(images.shrink(cut, CROP_PX))


def _size(header: images.ImageHeader) -> int:
    return header.width * header.height * 3
