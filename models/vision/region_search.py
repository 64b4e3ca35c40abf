"""Where in a frame something lives, by the backbone: a person in a corner, an animal of two hundredths of the picture.

::

    frame --224 px--> feature of the whole --------------------------------------+
          --448 px--> map --windows--> kingdom of each --> peaks                  +--> kingdom, person, where to crop
                                          |  the clearest of them, cropped        |
                                          +--224 px--> features of parts ---------+

The network before its pooling is a map of features, and a head that reads the pooled feature reads any window of it as
well: one pass at twice the served size judges a hundred places at once. The clearest ones are cropped and looked at
again, closer. What the whole frame, its parts and the map's peaks say is weighed by a small head (`PartsHead`): a
butterfly on a flower must not become a plant's kingdom, nor a bush an animal.

Where something moved (`region`), that part is looked at in place of the map's animals; persons are searched for all
the same.

Source: class activation maps, Zhou et al. 2016 (arXiv:1512.04150). Measured against tiles in
`models.train.lite0.frames`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.heads.linear import Arrays, Floats, FrameHead
from models.labels.scores import softmax
from models.labels.taxonomy import KINGDOMS
from models.vision.boxes import Box, crop

Picture = NDArray[np.uint8]

SEARCH_PX = 448
"""Twice the served size: four times its cost, and an animal of 2% of the frame still covers two cells of the map."""

WINDOW_CELLS = 3
"""A window's side in cells of the map (14 x 14 for a square frame): a fifth of the frame's."""

WINDOW_MARGIN = 0.25
"""What is looked at closer is grown by so much of its own size: a peak is seldom in the middle of its animal."""

PARTS_A_KINGDOM = 2
"""How many of the map's peaks are looked at closer, for animals and for persons each."""

APART = 0.2
"""Peaks whose centres are nearer than that (share of the frame) are one."""

SEARCHED_FROM_PX = 96
"""A frame whose shorter side is below has no detail that a closer look could find: it counts whole."""

CLEARER = 0.1
"""By how much a part has to show its kingdom more clearly than the whole frame does, to be cropped for the edge."""

CROP_PERSON = 0.5
"""From this score of the frame head on, what moved, or a crop, shows a person. A whole frame has a threshold of its
own, lower: a person is a smaller part of it. On validation frames with a region: all of 80 persons, and 5.7% of 140
animals."""

CROP_DOUBT = 0.35
"""From this score of what is looked at closer on, a second opinion is asked: much is not far from looking like
somebody, and the opinion costs as much as five looks."""

OVERRULES, OVERRULES_PERSON = 0.6, 0.75
"""The weighed evidence answers another kingdom than the whole frame only from this probability on, and another one
than `person` only if it is surer still: it was fitted on fewer pictures, and knows less of the world than the frame
head."""

PLACE_MARGIN = 1.0
"""Below `CROP_PERSON` the whole frame's score counts only with a place on the map where a person leads everything else
by so much (in logits): a yard before a surveillance camera looks like one with people in it."""

ANIMAL, PLANT, PERSON, OTHER = (KINGDOMS.index(name) for name in ("animal", "plant", "person", "other"))
FAINTEST = 1e-4


class FeatureMaps(Protocol):
    """What the search needs of `models.onnx_session.Backbone`."""

    def feature(self, picture: Picture) -> Floats:
        """BGR (height, width, 3) -> (1280,)."""
        ...

    def map(self, picture: Picture, size_px: int) -> Floats:
        """BGR (height, width, 3) -> (1280, h, w), before pooling."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FrameEvidence:
    """What was seen of a frame: `kingdom` float32 (16,) and `person` (4,), as `PartsHead` weighs them.

    `boxes`, `parts` (n, 4) and `persons` (n,) are the places that were looked at, the whole frame first and what moved
    second, with their kingdoms and person scores.
    """

    kingdom: Floats
    person: Floats
    boxes: tuple[Box, ...]
    parts: Floats
    persons: Floats


@dataclass(frozen=True, slots=True, eq=False)
class PartsHead:
    """Weighs the evidence: kingdom weights (16, 4), bias (4,); person weights (4,), bias, and two thresholds.

    From `person_threshold` on the frame's level rises (see `person_in`). From `person_doubt` on, which is lower, a
    second opinion is asked.
    """

    kingdom_weights: Floats
    kingdom_bias: Floats
    person_weights: Floats
    person_bias: float
    person_threshold: float
    person_doubt: float

    @classmethod
    def of(cls, arrays: Arrays) -> PartsHead:
        """From the zoo's ``parts.npz``."""
        return cls(
            arrays["kingdom_weights"].astype(np.float32),
            arrays["kingdom_bias"].astype(np.float32),
            arrays["person_weights"].astype(np.float32),
            float(arrays["person_bias"]),
            float(arrays["person_threshold"]),
            float(arrays["person_doubt"]),
        )

    def kingdoms(self, evidence: FrameEvidence) -> Floats:
        """Calibrated probabilities over `KINGDOMS`, (4,)."""
        return softmax(evidence.kingdom @ self.kingdom_weights + self.kingdom_bias)

    def person(self, evidence: FrameEvidence) -> float:
        """How surely a person is anywhere in the frame, 0 to 1; the threshold is for this."""
        return float(1 / (1 + np.exp(-(evidence.person @ self.person_weights + self.person_bias))))


def search(frame: Picture, region: Box | None, backbone: FeatureMaps, head: FrameHead) -> FrameEvidence:
    """Look at a frame (BGR, any size), at what moved if something did, and at what the map shows most clearly."""
    if min(frame.shape[:2]) < SEARCHED_FROM_PX:
        boxes: tuple[Box, ...] = (Box.WHOLE,)
        peaks = None
    else:
        windows, places = windows_of(backbone.map(frame, SEARCH_PX))
        logits, _ = head.judge(windows)
        peaks = logits
        animals = (region,) if region else clearest(logits[:, ANIMAL] - logits[:, OTHER], places)
        persons = clearest(logits[:, PERSON] - logits[:, OTHER], places)
        boxes = (Box.WHOLE, *animals, *persons)
    logits, odds = head.judge(np.stack([backbone.feature(crop(frame, box)) for box in boxes]))
    return weigh(boxes, logits, odds, logits if peaks is None else peaks)


def windows_of(cells: Floats) -> tuple[Floats, tuple[Box, ...]]:
    """Return the mean feature of every window of a map (1280, h, w), (n, 1280), and where each lies in the frame."""
    _, high, wide = cells.shape
    down, across = min(WINDOW_CELLS, high), min(WINDOW_CELLS, wide)
    # Sums over windows as differences of running sums (an integral image); float64, or the differences lose digits.
    sums = np.pad(cells.astype(np.float64).cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))
    totals = sums[:, down:, across:] - sums[:, :-down, across:] - sums[:, down:, :-across] + sums[:, :-down, :-across]
    places = tuple(
        Box(left / wide, top / high, (left + across) / wide, (top + down) / high)
        for top in range(high - down + 1)
        for left in range(wide - across + 1)
    )
    return (totals.reshape(len(cells), -1).T / (down * across)).astype(np.float32), places


def clearest(scores: Floats, places: tuple[Box, ...]) -> tuple[Box, ...]:
    """Return the places of the highest scores (n,), each apart from the others, grown by a margin."""
    found: list[Box] = []
    for at in np.argsort(-scores, kind="stable").tolist():
        if all(_distance(places[at], other) >= APART for other in found):
            found.append(places[at])
            if len(found) == PARTS_A_KINGDOM:
                break
    return tuple(box.with_margin(WINDOW_MARGIN) for box in found)


def _distance(first: Box, other: Box) -> float:
    """Between centres, along the axis where it is larger."""
    return max(
        abs(first.left + first.right - other.left - other.right),
        abs(first.top + first.bottom - other.top - other.bottom),
    ) / 2  # fmt: skip


def weigh(boxes: tuple[Box, ...], logits: Floats, persons: Floats, peaks: Floats) -> FrameEvidence:
    """Return the numbers that `PartsHead` weighs.

    Parameters
    ----------
    boxes
        The whole frame, then its parts; parts may be missing.
    logits, persons
        Kingdom logits (n, 4) and person scores (n,) of those.
    peaks
        Kingdom logits of the map's windows (m, 4).
    """
    parts = softmax(logits)
    logs = np.log(np.maximum(parts, FAINTEST))
    rest = slice(1, None) if len(boxes) > 1 else slice(None)
    animal = logs[rest][parts[rest][:, ANIMAL].argmax()]
    person = logs[rest][parts[rest][:, PERSON].argmax()]
    margins = np.array(
        [
            (peaks[:, ANIMAL] - peaks[:, [PLANT, OTHER]].max(1)).max(),
            (peaks[:, ANIMAL] - peaks[:, OTHER]).max(),
            (peaks[:, PERSON] - peaks[:, [ANIMAL, PLANT, OTHER]].max(1)).max(),
            (peaks[:, PERSON] - peaks[:, OTHER]).max(),
        ]
    )
    odds = np.log(np.clip(persons, FAINTEST, 1 - FAINTEST) / np.clip(1 - persons, FAINTEST, 1))
    return FrameEvidence(
        np.concatenate([logs[0], animal, person, margins]).astype(np.float32),
        np.array([odds[0], odds[rest].max(), margins[2], margins[3]], np.float32),
        boxes,
        parts,
        persons,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Probabilities over `KINGDOMS` (4,), how surely a person is anywhere in the frame, and what to send on.

    `doubtful`: whether a second opinion about persons may help.
    """

    kingdoms: Floats
    person: float
    box: Box
    doubtful: bool = False


def of_still(evidence: FrameEvidence, head: PartsHead, frame_threshold: float) -> Found:
    """Nothing says which part matters: all evidence is weighed.

    What is sent on is the part that shows the answer most clearly, if it does so more clearly than the whole frame.
    Plants and scenes are named from the whole.
    """
    kingdoms = overruled(evidence.parts[0], head.kingdoms(evidence))
    answer, box = int(kingdoms.argmax()), Box.WHOLE
    if answer in (ANIMAL, PERSON):
        clear = evidence.parts[:, answer]
        best = int(clear.argmax())
        box = evidence.boxes[best] if clear[best] > clear[0] + CLEARER else Box.WHOLE
    # What is sent on is looked at by itself: a part that shows a person must not leave.
    sent = float(evidence.persons[evidence.boxes.index(box)])
    return _found(kingdoms, box, sent, evidence, head, frame_threshold)


def overruled(whole: Floats, weighed: Floats) -> Floats:
    """Return kingdoms (4,): of the weighed evidence, or of the whole frame if that differs and is not overruled."""
    needs = OVERRULES_PERSON if int(whole.argmax()) == PERSON else OVERRULES
    same = int(whole.argmax()) == int(weighed.argmax())
    return weighed if same or float(weighed.max()) >= needs else whole


def of_moved(evidence: FrameEvidence, head: PartsHead, frame_threshold: float) -> Found:
    """Something moved: it answers, unless the whole frame shows something living more clearly."""
    living = evidence.parts[:2, [ANIMAL, PERSON]].max(1)
    chosen = int(living.argmax())
    seen = float(evidence.persons[:2].max())
    return _found(evidence.parts[chosen], evidence.boxes[chosen], seen, evidence, head, frame_threshold)


def _found(
    kingdoms: Floats, box: Box, crop: float, evidence: FrameEvidence, head: PartsHead, frame_threshold: float
) -> Found:
    """With the person score `crop` of what is sent on, or moved, beside the evidence of the whole frame."""
    person = max(
        person_in(evidence, head, frame_threshold),
        min(1.0, crop / CROP_PERSON * head.person_threshold),
    )
    doubtful = person < head.person_threshold and (crop >= CROP_DOUBT or head.person(evidence) >= head.person_doubt)
    return Found(kingdoms, person, box, doubtful)


def person_in(evidence: FrameEvidence, head: PartsHead, frame_threshold: float) -> float:
    """How surely a person is anywhere in a frame, 0 to 1, on the scale of `PartsHead.person_threshold`.

    By the weighed evidence, or by the whole frame's own score (with `frame_threshold`) where the map shows a place for
    it, or the frame is too small for one, or the score is high: the first finds who is small, the second who is near,
    or unlike the people of the training photos.
    """
    weighed, whole = head.person(evidence), float(evidence.persons[0])
    searched = len(evidence.boxes) > 1
    # Who fills the frame may lead nowhere on the map: then the score has to be as high as a crop's.
    if searched and evidence.person[2] < PLACE_MARGIN and whole < CROP_PERSON:
        return weighed
    return max(weighed, min(1.0, whole / frame_threshold * head.person_threshold))
