"""A camera's frames in their order: motion first, the model only where something moved, and the crop that goes on.

It stands at the device between decode and policy, and is pure but for the model::

    frame --predict--> StreamMemory (kept), FramePrediction --part_to_send--> the crop that goes to the edge

Example::

    memory, prediction = predict(StreamMemory(), frame, model, tree, event="0193…", at=FrameTime(0.0), still_s=30)
    memory, prediction = predict(memory, frame, model, tree, event="0194…", at=FrameTime(1.0), still_s=30)
    prediction.stands                                   # "0193…": nothing moved

A standing answer and the hold after a person end with time. Of live pictures that is the time of receipt; pictures of
an earlier day, read from a card at once, have only their times of capture. See `FrameTime.apart_s`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from models.labels.calibration import DEFAULT_THRESHOLDS, answer
from models.labels.scores import Scores
from models.labels.taxonomy import Taxonomy
from models.vision import images, motion
from models.vision.tier_models import DeviceModel, DevicePrediction
from pipeline.readings import FUTURE_MAX_S

DECODE_PX = 448
"""Short side of the reduced decode that motion gate and model share: twice the model's input, so that a closer look at
the part that moved still has pixels enough."""

CROP_PX = 320
"""Longest side of a crop that goes to the edge: somewhat more than the edge model's input, to survive the JPEG."""


PERSONS_KEPT: Final = 64
"""Pictures with a person that are remembered: pictures of a card may arrive out of the order of their capture."""


FILE_LATE_S: Final = 3600.0
"""Without EXIF data, a picture has its file's time. Copying a card or sending its photos takes less."""


class FrameTime(NamedTuple):
    """When the device received a picture, and when it was taken (UTC seconds)."""

    received_s: float
    taken_s: float | None = None
    """None where no time of capture is known that can be believed."""
    slack_s: float = 0.0
    """The picture may have been taken so much earlier: a file's time may be that of its copy."""

    @property
    def is_old(self) -> bool:
        """Return whether the picture was surely not taken just now, however wrong the camera's clock is by."""
        return self.taken_s is not None and self.received_s - self.taken_s > FUTURE_MAX_S

    def apart_s(self, earlier: FrameTime) -> float:
        """Return the seconds that surely passed since a picture that was received earlier.

        Times of capture count alone only between two old pictures, the later one received last. In any other case a
        wrong or turned clock could hide that they were taken together: then the shorter time counts.

        >>> FrameTime(1e9 + 1, taken_s=432_000).apart_s(FrameTime(1e9, taken_s=0))  # a card: five days apart
        432000.0
        >>> FrameTime(1e9 + 1).apart_s(FrameTime(1e9, taken_s=0))  # the second one's time is unknown
        1.0
        """
        received_s = self.received_s - earlier.received_s
        if self.taken_s is None or earlier.taken_s is None:
            return received_s
        taken_s = self.taken_s - earlier.taken_s
        surely_s = taken_s - max(self.slack_s, earlier.slack_s)
        if surely_s >= 0 and self.is_old and earlier.is_old:
            return float(surely_s)
        return min(received_s, abs(taken_s))


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
    at: FrameTime


@dataclass(frozen=True, slots=True)
class StreamMemory:
    """The device's memory of a stream between two frames; lost at a restart, when the first frame counts whole."""

    background: motion.BackgroundModel | None = None
    last: LastPrediction | None = None
    persons: tuple[FrameTime, ...] = ()
    """Pictures with a person, in the order of receipt."""

    def person_ago_s(self, at: FrameTime, hold_s: float) -> float | None:
        """Return the seconds since this stream saw a person (0: in this frame), or None after `hold_s`.

        A hold looks ahead only: pictures received before the person's are answered already.
        """
        ago_s = min((at.apart_s(person) for person in self.persons), default=None)
        return None if ago_s is None or ago_s > hold_s else max(0.0, ago_s)

    def with_person(self, at: FrameTime) -> StreamMemory:
        """Remember that a person was seen."""
        return replace(self, persons=(*self.persons[1 - PERSONS_KEPT :], at))

    def set_back(self, now_s: float) -> StreamMemory:
        """Begin the holds anew if the device's clock was set back: they would last until it is as late again."""
        persons = tuple(at._replace(received_s=min(at.received_s, now_s)) for at in self.persons)
        last = self.last
        if last is not None and last.at.received_s > now_s:
            last = replace(last, at=last.at._replace(received_s=now_s))
        return replace(self, persons=persons, last=last)


def predict(
    memory: StreamMemory,
    frame: images.Picture,
    model: DeviceModel,
    tree: Taxonomy,
    *,
    event: str,
    at: FrameTime,
    still_s: float,
) -> tuple[StreamMemory, FramePrediction]:
    """Ask the model where something moved, or where the last prediction is older than `still_s`."""
    memory = memory.set_back(at.received_s)
    background, moved = motion.look(memory.background, frame)
    last = memory.last
    if not moved.moved and last is not None and at.apart_s(last.at) <= still_s:
        unchanged = memory.with_person(at) if last.prediction.person_raised else memory
        return replace(unchanged, background=background), replace(last.prediction, stands=last.event)
    prediction = _named(model.predict(frame, moved.box if moved.moved else None), tree)
    after = StreamMemory(background, LastPrediction(event, prediction, at), memory.persons)
    return after.with_person(at) if prediction.person_raised else after, prediction


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
    memory: StreamMemory, prediction: FramePrediction, person: float, *, event: str, at: FrameTime
) -> tuple[StreamMemory, FramePrediction]:
    """Count the frame as one with a person, since a second model found one with that score in the part to be sent."""
    raised = replace(prediction, person=max(prediction.person, person), person_raised=True)
    return replace(memory.with_person(at), last=LastPrediction(event, raised, at)), raised


def part_to_send(frame: images.Picture, data: bytes, box: motion.Box) -> images.Picture:
    """Cut the part from the frame that is decoded already, unless that was reduced too far for it."""
    cut = images.crop(frame, box)
    if max(cut.shape[:2]) < CROP_PX and frame.size < _size(images.inspect(data)):
        cut = images.crop(images.decode(data), box)
    return images.pad(images.shrink(cut, CROP_PX))


def _size(header: images.ImageHeader) -> int:
    return header.width * header.height * 3
