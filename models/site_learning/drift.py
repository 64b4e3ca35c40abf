"""Notice drift: a stream no longer looks as it did when its models were last known to do well. Pure.

Each sighting is one observation of its stream and tier, since the frames of a sighting are one picture several times.
It gives several signals, and a Page-Hinkley test compares each with its own past::

    Observation --+-- confidence, of all and of each class --+
                  +-- unknown (0 or 1)                       |
                  +-- mix: how surprising the class is       |   (value - mean) / spread          an Alarm,
                  +-- far: distance from the usual vector    +--> of that quarter --> Page- -----> and a new
                  +-- along: direction of the last vectors   |    of the day          Hinkley      past begins
    a label ------+-- disagreement (0 or 1) -----------------+

    watch = start("lite0@3")
    seen = Observation("lite0@3", sighting, quarter_of(13), ("animal", "Felidae"), 0.93, vector, space)
    watch, alarms = observe(watch, seen)
    watch, alarms = labelled(watch, quarter_of(13), agrees=False)

A camera's nights are not its days, and dusk is no drift: each quarter of the day has a past of its own, and raises no
alarm before that is learned. Of feature vectors only the mean, the spread and the recent deviation of each component
are kept (3 KB). Deviations are uncorrelated while nothing changes, and all point one way after a change: `along`
measures this, and notices a change of the mean far sooner than distances do. Another model starts a new past, since
its confidences differ without any drift. docs/explanation/drift.md lists the delays and false alarms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from models.site_learning.page_hinkley import Change, PageHinkley
from pipeline.messages import UNKNOWN

QUARTERS: Final = 4

LEARNED: Final = 40
"""Sightings that make the past of a quarter of the day; before, that quarter raises no alarm."""

LEARNS_UNTIL: Final = 400
"""The past is refined up to so many sightings: a mean of 40 is off by a sixth of the spread."""

USUAL: Final = 80
"""Sightings that define the usual mix of classes and the usual vector."""

ALLOWANCE: Final = 0.25
THRESHOLD: Final = 18.0
"""Threshold of the Page-Hinkley tests, in spreads. A lower threshold alarms earlier, but falsely more often: see
docs/explanation/drift.md."""

OUTLIER: Final = 4.0
"""An odd sighting counts at most so many spreads."""

LEAST_SPREAD: Final = 0.1
"""Least spread of a signal. Otherwise a camera that has seen a single kind would raise an alarm at the next kind."""

RECENT: Final = 0.1
"""Weight of the newest value in an alarm's `now`."""

LATELY: Final = 0.05
"""Weight of the newest vector in the fading mean of deviations."""

CLASSES_MAX: Final = 24
"""Classes with a signal of their own; the rest share one."""

OTHERS: Final = "the rest"


class Past(msgspec.Struct, frozen=True, array_like=True):
    """Mean and spread of the earlier values."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def take(self, value: float) -> Past:
        """Return the past with one more value (Welford 1962)."""
        count, off = self.count + 1, value - self.mean
        mean = self.mean + off / count
        return Past(count, mean, self.squares + off * (value - mean))

    @property
    def spread(self) -> float:
        """The standard deviation, at least `LEAST_SPREAD`."""
        return max(LEAST_SPREAD, math.sqrt(self.squares / max(1, self.count - 1)))


class Signal(msgspec.Struct, frozen=True, array_like=True):
    """One number of a stream: its past by quarter of the day, and the test of the values since."""

    past: tuple[Past, Past, Past, Past] = (Past(), Past(), Past(), Past())
    test: PageHinkley = PageHinkley()
    recent: float | None = None

    def take(self, value: float, quarter: int) -> tuple[Signal, Change | None]:
        """Return the signal with one more value, and a change that the test found; a change starts a new past."""
        past, test = self.past[quarter], self.test
        if past.count >= LEARNED:
            off = (value - past.mean) / past.spread
            test = test.take(max(-OUTLIER, min(OUTLIER, off)), allowance=ALLOWANCE)
        change = test.change(threshold=THRESHOLD)
        recent = value if self.recent is None else self.recent + RECENT * (value - self.recent)
        if change is not None:
            return Signal(recent=recent), change
        if past.count < LEARNS_UNTIL:
            past = past.take(value)
        learned = (*self.past[:quarter], past, *self.past[quarter + 1 :])
        return Signal(learned, test, recent), None  # type: ignore[arg-type]  # four, as before

    def mean(self) -> float:
        """Return the mean over all quarters."""
        count = sum(past.count for past in self.past)
        return sum(past.count * past.mean for past in self.past) / count if count else 0.0


class Usual(msgspec.Struct, frozen=True, array_like=True):
    """The usual vector of a space: mean and summed squares of each component, float32 as bytes."""

    space: str
    count: int
    mean: bytes
    squares: bytes
    lately: bytes = b""
    """Fading mean of the newest vectors' deviations."""

    def take(self, vector: NDArray[np.uint8]) -> Usual:
        """Return the usual vector with one more (d,)."""
        mean, squares = self._arrays()
        count, off = self.count + 1, vector - mean
        moved = (mean + off / count).astype(np.float32)
        summed = (squares + off * (vector - moved)).astype(np.float32)
        return Usual(self.space, count, moved.tobytes(), summed.tobytes())

    def look(self, vector: NDArray[np.uint8]) -> tuple[Usual, float, float]:
        """Compare one vector; return also its distance and its deviation along the newest ones.

        The distance is the root mean square of the components' deviations, in their own spreads: about 1 for a usual
        vector. The deviation along the newest ones is about 0 for a usual vector.
        """
        mean, squares = self._arrays()
        off = (vector - mean) / np.sqrt(squares / max(1, self.count - 1) + 1.0)
        lately = np.frombuffer(self.lately, np.float32) if self.lately else np.zeros_like(mean)
        along = float(off @ lately) / math.sqrt(len(off))
        lately = (lately + LATELY * (off - lately)).astype(np.float32)
        return replace(self, lately=lately.tobytes()), float(np.sqrt(np.square(off).mean())), along

    def _arrays(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return np.frombuffer(self.mean, np.float32), np.frombuffer(self.squares, np.float32)


class Watch(msgspec.Struct, frozen=True, array_like=True):
    """The memory of one stream at one tier: some 3 KB, and 3 KB more with vectors."""

    model: str
    sighting: str = ""
    confidence: Signal = Signal()
    unknown: Signal = Signal()
    mix: Signal = Signal()
    far: Signal = Signal()
    along: Signal = Signal()
    disagreement: Signal = Signal()
    classes: dict[str, Signal] = {}
    seen: dict[str, int] = {}
    usual: Usual | None = None


class Observation(NamedTuple):
    """One tier's answer about a sighting."""

    model: str
    sighting: str
    quarter: int
    path: tuple[str, ...]
    probability: float
    vector: NDArray[np.uint8] | None = None
    space: str = ""


class Alarm(NamedTuple):
    """A signal that left its past."""

    rule: str
    signal: str
    before: float
    now: float

    @property
    def reason(self) -> str:
        """The alarm in words."""
        return f"{RULES[self.rule]}: {self.signal} went from {self.before:.2f} to {self.now:.2f}"


RULES: Final[Mapping[str, str]] = {
    "confidence-fell": "answers are less sure than they were",
    "unknown-rose": "more sightings than before stay without a name",
    "mix-changed": "other kinds appear than before, or the same kinds in other shares",
    "feature-moved": "sightings look different than before",
    "feature-shifted": "sightings deviate from before, always in the same way",
    "labels-disagree": "people contradict the answers more often than before",
}
"""The meaning of each rule."""

_TELLS: Final[Mapping[str, Sequence[Change]]] = {
    "confidence-fell": ("fell",),
    "unknown-rose": ("rose",),
    "mix-changed": ("rose", "fell"),
    "feature-moved": ("rose", "fell"),
    "feature-shifted": ("rose",),
    "labels-disagree": ("rose",),
}
"""The changes of a signal that raise an alarm; any change starts a new past."""


def start(model: str) -> Watch:
    """Return an empty memory for this model. A site's own increment (``+home.17``) does not make it another model."""
    return Watch(model=_base(model))


def quarter_of(hour: int) -> int:
    """Return the quarter of the day (night, morning, afternoon, evening) of an hour by the site's own time."""
    return hour * QUARTERS // 24


def class_of(path: tuple[str, ...]) -> str:
    """Return the family, or the kingdom of a path without one: species are too rare to be watched one by one."""
    return path[min(len(path), 2) - 1] if path else UNKNOWN


def observe(watch: Watch, seen: Observation) -> tuple[Watch, tuple[Alarm, ...]]:
    """Return the memory with one more answer, and the alarms. Only a sighting's first answer counts."""
    if watch.model != _base(seen.model):
        watch = start(seen.model)
    if seen.sighting == watch.sighting:
        return watch, ()
    alarms: list[Alarm] = []

    def taken(signal: Signal, value: float, rule: str, name: str) -> Signal:
        after, change = signal.take(value, seen.quarter)
        if change in _TELLS[rule]:
            alarms.append(Alarm(rule, name, round(signal.mean(), 4), round(after.recent or 0.0, 4)))
        return after

    label = class_of(seen.path)
    watch = replace(
        watch,
        sighting=seen.sighting,
        unknown=taken(watch.unknown, float(not seen.path), "unknown-rose", "the share of unknown"),
        confidence=taken(watch.confidence, seen.probability, "confidence-fell", "the probability"),
    )
    known = label if label in watch.classes or len(watch.classes) < CLASSES_MAX else OTHERS
    of_class = taken(
        watch.classes.get(known, Signal()),
        seen.probability,
        "confidence-fell",
        f"the probability of {known}",
    )
    watch = replace(watch, classes=watch.classes | {known: of_class})
    if sum(watch.seen.values()) < USUAL:
        watch = replace(watch, seen=watch.seen | {known: watch.seen.get(known, 0) + 1})
    else:
        mix = taken(watch.mix, surprise(watch.seen, known), "mix-changed", "the surprise at the class (nats)")
        # A mix that changed is learned anew; so is the usual vector.
        watch = replace(watch, mix=mix, seen={} if mix.test.count < watch.mix.test.count else watch.seen)
    if seen.vector is not None:
        watch = _look(watch, seen.vector, seen.space, taken)
    return watch, tuple(alarms)


def labelled(watch: Watch, quarter: int, *, agrees: bool) -> tuple[Watch, tuple[Alarm, ...]]:
    """Return the memory with one more label that the tier's answer agrees with or not, and the alarms."""
    after, change = watch.disagreement.take(float(not agrees), quarter)
    alarms: tuple[Alarm, ...] = ()
    if change in _TELLS["labels-disagree"]:
        before, now = round(watch.disagreement.mean(), 4), round(after.recent or 0.0, 4)
        alarms = (Alarm("labels-disagree", "the share of labels that contradict", before, now),)
    return replace(watch, disagreement=after), alarms


def surprise(seen: Mapping[str, int], label: str) -> float:
    """Return the nats of a class under the usual mix, by the estimator of Krichevsky and Trofimov (1981)."""
    return -math.log((seen.get(label, 0) + 0.5) / (sum(seen.values()) + 0.5 * (len(seen) + 1)))


def _look(
    watch: Watch, vector: NDArray[np.uint8], space: str, taken: Callable[[Signal, float, str, str], Signal]
) -> Watch:
    """Add one vector to the usual one, or compare it."""
    usual = watch.usual
    if usual is None or usual.space != space or len(usual.mean) != 4 * len(vector):
        nothing = np.zeros(len(vector), np.float32).tobytes()
        usual, watch = Usual(space, 0, nothing, nothing), replace(watch, far=Signal(), along=Signal())
    if usual.count < USUAL:
        return replace(watch, usual=usual.take(vector))
    usual, far, along = usual.look(vector)
    after = replace(
        watch,
        far=taken(watch.far, far, "feature-moved", "the distance of a vector from what is usual (spreads)"),
        along=taken(watch.along, along, "feature-shifted", "the common deviation of the vectors (spreads)"),
    )
    moved = after.far.test.count < watch.far.test.count or after.along.test.count < watch.along.test.count
    return replace(after, usual=None if moved else usual)


def _base(model: str) -> str:
    return model.partition("+")[0]
