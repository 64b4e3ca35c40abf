"""Replays a fixed camera's frames: learns from the visits that have labels, and answers the others.

Models predict every frame once (in several processes). Labelled visits become lessons in the order of their time, each
behind the gate of `models.site_learning.site_model`, and the last head answers the visits without labels::

    FrameSequence --grey_frame, PlaceModel--> FrameViews --SiteModel.learn--> SiteModel --> ReplayedFrames

Where every frame has a label, the first share of the visits is learned from and the others are answered as if they had
none, so that the gain can be measured (`Replay.truths`).

Example::

    done = replay(read_sequence(Path("frames"), Path("labels.csv")), stream="garden")
    done.answers[0].path        # ("animal", "Felidae")
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import msgspec
import numpy as np

from models.answering.frame_gate import DECODE_PX
from models.evaluation.frame_sequence import CameraVisit, Frame, FrameSequence
from models.evaluation.place_model import FrameView, PlaceModel
from models.evaluation.process_pool import in_turns, process_count, work_through
from models.heads.linear import Floats
from models.labels.calibration import answer
from models.labels.taxonomy import Taxonomy
from models.shipped import load_zoo
from models.site_learning.site_head import Lesson, extended
from models.site_learning.site_model import STANDS_FROM, LessonVerdict, SiteModel
from models.vision import images, motion
from models.vision.boxes import Box
from models.vision.night_background import GreyFrame, background, grey_frame
from models.vision.tier_models import deepest, rolled
from pipeline.errors import Rejected, Stop

TRAIN_SHARE = 0.2
LABELS_LEAST = 2

Rule = Literal["nothing-moved", "site-head", "general-head"]


class ReplayedFrame(msgspec.Struct, frozen=True):
    """One frame's line of ``--json``.

    `path` is the answer: labels from the kingdom down as far as they are likelier than not; `probability` is the last
    label's. `likeliest` continues down to the species, or to the label that was learned. `before` is the answer without
    any label of this camera.
    """

    file: str
    event: str
    path: tuple[str, ...]
    probability: float
    likeliest: tuple[str, ...]
    likeliest_probability: float
    before: tuple[str, ...]
    model: str
    rule: Rule


@dataclass(frozen=True, slots=True, eq=False)
class SpeciesByMethod:
    """Species (s,) of one frame over the sequence's tree, by three methods.

    The general head on the `whole` frame, the general head on the part that `moved`, and the `learned` head.
    """

    whole: Floats
    moved: Floats
    learned: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """Answers in time order and verdicts on the lessons. `truths` and `ways` are set if all frames had labels."""

    answers: tuple[ReplayedFrame, ...]
    local: SiteModel
    verdicts: tuple[LessonVerdict, ...]
    ms: tuple[float, ...]
    left_out: tuple[str, ...]
    truths: tuple[str, ...] = ()
    ways: tuple[SpeciesByMethod, ...] = ()


def replay(
    sequence: FrameSequence,
    *,
    stream: str,
    train_share: float = TRAIN_SHARE,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Replay:
    """Predict, learn, answer. `progress` is called with the number of frames predicted since the last call.

    Raises `Stop` where the labelled visits show fewer than two labels, no visit is left to be answered, no frame
    decodes, or a model is damaged.
    """
    taught, asked, measured = _dealt(sequence.events, train_share)
    views, left_out = predict_frames(sequence, workers, progress)
    manifest = load_zoo().manifest("lite0")
    some = next(iter(views.values()))
    local = SiteModel.start(
        sequence.tree,
        general=manifest.title,
        site=stream,
        space=str(manifest.space),
        dimension=len(some.vector),
    )
    verdicts, ms = [], []
    for event in taught:
        for lesson in _lessons(event, views):
            start = time.perf_counter()
            local, verdict = local.learn(lesson)
            ms.append((time.perf_counter() - start) * 1e3)
            verdicts.append(verdict)
    local = local.calibrated()
    answering = _Answering(sequence.tree, local)
    answers = [each for event in asked for each in answering.event(event, views, everything=measured)]
    return Replay(
        tuple(answered for _, answered, _ in answers),
        local,
        tuple(verdicts),
        tuple(ms),
        left_out,
        tuple(str(frame.label) for frame, _, _ in answers) if measured else (),
        tuple(ways for _, _, ways in answers) if measured else (),
    )


def _dealt(events: Sequence[CameraVisit], train_share: float) -> tuple[list[CameraVisit], list[CameraVisit], bool]:
    """Return the visits to learn from, the visits to answer, and whether the labels of the latter are known."""
    measured = all(frame.label for event in events for frame in event.frames)
    if measured:
        first = max(1, round(train_share * len(events)))
        taught, asked = list(events[:first]), list(events[first:])
    else:
        taught = [event for event in events if any(frame.label for frame in event.frames)]
        asked = [event for event in events if not all(frame.label for frame in event.frames)]
    labels = {frame.label for event in taught for frame in event.frames if frame.label}
    if len(labels) < LABELS_LEAST:
        has = f"are all {min(labels)}" if labels else "have no label"
        raise Stop(f"a head needs visits of at least two labels; the {len(taught):,} visits to learn from {has}")
    if not asked:
        raise Stop(
            f"all {len(events):,} visits are to be learned from and none is left to be answered; lower --train-share"
        )
    return taught, asked, measured


def _lessons(event: CameraVisit, views: Mapping[str, FrameView]) -> Iterator[Lesson]:
    """Yield a lesson for each label of a visit: after the animal has left, its last frames are `other`."""
    by_label: dict[str, list[FrameView]] = {}
    for frame in event.frames:
        if frame.label and frame.name in views:
            by_label.setdefault(frame.label, []).append(views[frame.name])
    for label, labelled in by_label.items():
        yield Lesson(label, np.stack([view.vector for view in labelled]), generals(labelled))


def generals(views: Sequence[FrameView]) -> Floats:
    """Return the general head's species of some views, (n, species)."""
    return np.stack([view.general.species.probabilities for view in views])


class _Answering:
    """Answers visits by the last head."""

    def __init__(self, tree: Taxonomy, local: SiteModel) -> None:
        self._tree = tree
        self._head = local.head()
        self._name = local.name

    def event(
        self, event: CameraVisit, views: Mapping[str, FrameView], *, everything: bool
    ) -> Iterator[tuple[Frame, ReplayedFrame, SpeciesByMethod]]:
        """Answer each frame without a label: `other` if it shows nothing, otherwise by all frames of its visit."""
        frames = [frame for frame in event.frames if frame.name in views]
        shown = [views[frame.name] for frame in frames if not _nothing(views[frame.name])]
        together = self._head.consensus(np.stack([v.vector for v in shown]), generals(shown)) if shown else None
        for frame in frames:
            if frame.label and not everything:
                continue
            view = views[frame.name]
            species = self._empty() if _nothing(view) or together is None else together
            yield frame, self._answered(frame, event, view, species), self._ways(view, species)

    def _ways(self, view: FrameView, species: Floats) -> SpeciesByMethod:
        whole, moved = (
            extended(self._tree, general.species.probabilities[None])[0].astype(np.float32)
            for general in (view.whole, view.general)
        )
        return SpeciesByMethod(whole, moved, species)

    def _answered(self, frame: Frame, event: CameraVisit, view: FrameView, species: Floats) -> ReplayedFrame:
        found = answer(self._tree, rolled(self._tree, species), STANDS_FROM)
        likeliest, sure = self._likeliest(species)
        rule: Rule = "site-head" if self._head.solved is not None else "general-head"
        return ReplayedFrame(
            file=frame.name,
            event=event.name,
            path=found.path,
            probability=round(found.probability, 4),
            likeliest=likeliest,
            likeliest_probability=round(sure, 4),
            before=deepest(view.general).path,
            model=self._name,
            rule="nothing-moved" if _nothing(view) else rule,
        )

    def _likeliest(self, species: Floats) -> tuple[tuple[str, ...], float]:
        """Descend from the likeliest kingdom to the likeliest child each time, down to a learned label or a species."""
        _, _, kingdoms = rolled(self._tree, species)
        path: tuple[str, ...] = (kingdoms.best[0],)
        probability = kingdoms.best[1]
        learned = self._head.labels
        while path[-1] not in learned:
            children: dict[str, float] = {}
            for name, p in zip(self._tree.species, species.tolist(), strict=True):
                full = self._tree.path(name)
                if len(full) > len(path) and full[: len(path)] == path:
                    children[full[len(path)]] = children.get(full[len(path)], 0.0) + p
            if not children or path[0] == "other":
                break
            child = max(children, key=lambda label: children[label])
            path, probability = (*path, child), children[child]
        return path, probability

    def _empty(self) -> Floats:
        species = np.zeros(len(self._tree.species), np.float32)
        species[self._tree.species.index("other")] = 1
        return species


def _nothing(view: FrameView) -> bool:
    return not view.moved and not view.seen


# --- predicting ----------------------------------------------------------------------------------------------------


def predict_frames(
    sequence: FrameSequence, workers: int | None, progress: Callable[[int], None]
) -> tuple[dict[str, FrameView], tuple[str, ...]]:
    """Return the view of each frame by name, and a complaint about each that does not decode."""
    frames = [(frame, event.name) for event in sequence.events for frame in event.frames]
    glimpses: list[GreyFrame] = []
    kept: list[tuple[Frame, str]] = []
    left_out = []
    for frame, event in frames:
        try:
            glimpses.append(grey_frame(decoded(frame)))
            kept.append((frame, event))
        except Rejected as error:
            left_out.append(f"{frame.name}: {error}")
            progress(1)
    if not kept:
        raise Stop(f"not one of these {len(frames):,} frames can be decoded; the first: {left_out[0]}")
    events = [event for _, event in kept]
    asked = [(frame, _moving(glimpses, events, at), glimpses[at].night) for at, (frame, _) in enumerate(kept)]
    turns = in_turns(asked)
    views: dict[str, FrameView] = {}
    for done in work_through(turns, _open_viewer, process_count(workers, len(asked), len(turns))):
        views |= done
        progress(len(done))
    return views, tuple(left_out)


def decoded(frame: Frame) -> images.Picture:
    """Decode a frame. Raises `Rejected` where it is unreadable or no picture."""
    try:
        data = frame.file.read_bytes()
    except OSError as error:
        raise Rejected("unreadable", f"it cannot be read: {error.strerror}") from error
    return images.decode(data, at_least_px=DECODE_PX)


def _moving(glimpses: Sequence[GreyFrame], events: Sequence[str], at: int) -> tuple[Box, ...]:
    """Return the regions that moved, the whole frame where there is no background to compare with."""
    place = background(glimpses, events, at)
    return (Box.WHOLE,) if place is None else motion.parts(place, glimpses[at].grey)


Turn = Sequence[tuple[Frame, tuple[Box, ...], bool]]


def _open_viewer() -> Callable[[Turn], dict[str, FrameView]]:
    return partial(_views, PlaceModel.open(load_zoo()))


def _views(model: PlaceModel, turn: Turn) -> dict[str, FrameView]:
    return {frame.name: model.predict(decoded(frame), moving, night) for frame, moving, night in turn}
