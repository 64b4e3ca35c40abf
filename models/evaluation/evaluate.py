"""Sends labelled photos through the tiers and notes what each says: what `models.evaluation.metrics` makes figures of.

Each photo goes the road of a first frame: the device's eye, its crop as JPEG, the edge's eye, its vector, the cloud's.
A tier that would not have been asked is asked all the same, so that its figures are over all photos. With `apart_s` the
photos of a folder are a fixed camera's frames, in the order of their names: the motion gate runs over them as on a
device, and where nothing moved the earlier answer stands::

    photo --DeviceEye--> Told --crop--> EdgeEye --> Told --vector--> CloudEye --> Told       = one Outcome

Example::

    done = evaluate(read_photos(Path("photos")).photos, open_eyes)
    print(render(measure(done)))

Photos are read one at a time, in several processes where there are many; of each, only its outcome is kept.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field, replace

import cv2

from models.answering.edge import FamilyEye
from models.answering.frame_gate import EYE_PX, Scene, Seen, look, part_to_send, seen_of
from models.evaluation.photo_set import Photo
from models.labels.calibration import DEFAULT_THRESHOLDS, answer
from models.labels.scores import Scores
from models.labels.taxonomy import RANKS, Taxonomy, load_taxonomy
from models.shipped import load_zoo
from models.vision import images
from models.vision.tier_models import CloudEye, DeviceEye
from pipeline.errors import Rejected, Stop
from pipeline.settings.keys import DeviceSettings

TIERS = ("device", "edge", "cloud")
HOPS = ("device to edge", "edge to cloud")
# A process more has to load all eyes (1.5 s, 130 MB): worth it from so many photos on.
PHOTOS_A_WORKER = 64
# So many photos are handed to a process at once, so that the progress moves.
PHOTOS_A_TURN = 16


@dataclass(frozen=True, slots=True)
class Told:
    """One tier's word about a photo: what it would answer (an empty path: unknown), and its likeliest label by rank.

    `likeliest` maps each rank that the tier knows to (label, probability); `margin` is at its deepest rank.
    """

    path: tuple[str, ...]
    probability: float
    margin: float
    likeliest: Mapping[str, tuple[str, float]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the tiers said of one photo.

    `ms` and `sent` (bytes by hop) are empty where an earlier answer `stands`: nothing was looked at, nothing sent.
    `person_ago_s` is None unless a person of this camera still counts (0: in this photo).
    """

    name: str
    truth: tuple[str, ...]
    told: Mapping[str, Told]
    person: float
    person_raised: bool
    edge_person_raised: bool
    ms: Mapping[str, float] = field(default_factory=dict)
    sent: Mapping[str, int] = field(default_factory=dict)
    stands: bool = False
    person_ago_s: float | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Outcomes in the order of the photos, the eyes that made them by tier, and what was left out and why.

    `apart_s`: the seconds between two frames of one camera, where photos were taken for frames. `person_miss_rate`: what
    the device's eye is known to miss of persons, beside what is accepted of it.
    """

    outcomes: tuple[Outcome, ...]
    models: Mapping[str, str]
    left_out: tuple[str, ...] = ()
    apart_s: float | None = None
    person_miss_rate: float = 0.0
    person_miss_rate_accepted: float = 0.0


@dataclass(frozen=True, slots=True)
class Eyes:
    """The eyes that are asked, and which share of missed persons lets pixels leave by the device's word."""

    device: DeviceEye
    edge: FamilyEye
    cloud: CloudEye
    person_miss_rate_accepted: float = DeviceSettings().person_miss_rate

    @property
    def names(self) -> Mapping[str, str]:
        """Which model answers at which tier."""
        return {"device": self.device.name, "edge": self.edge.name, "cloud": self.cloud.name}


def open_eyes() -> Eyes:
    """Those of the zoo. Raises `Stop` where a model is damaged."""
    zoo = load_zoo()
    return Eyes(zoo.device_eye(), zoo.edge_eye(), zoo.cloud_eye())


def evaluate(
    photos: Sequence[Photo],
    opener: Callable[[], Eyes] = open_eyes,
    *,
    apart_s: float | None = None,
    workers: int | None = None,
    skip_bad: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Sends every photo through the three eyes.

    Parameters
    ----------
    opener
        Opens the eyes, in each process anew; has to be picklable.
    apart_s
        Take each folder's photos for frames of one fixed camera, so many seconds apart.
    workers
        Processes; None: as many as there are cores, fewer where there are few photos. They are spawned: a script calls
        this under ``if __name__ == "__main__":``.
    skip_bad
        Leave out photos that turn out to be damaged.
    progress
        Is told how many photos more are done.

    Raises
    ------
    Stop
        A photo is damaged, or a model is.
    """
    turns = list(_turns(photos, frames=apart_s is not None))
    worth = min(os.cpu_count() or 1, max(1, len(photos) // PHOTOS_A_WORKER))
    count = min(workers or worth, len(turns))
    eyes = opener()  # here, too, where others look: what is wrong with a model is said before they start
    names, road = eyes.names, Road(eyes, apart_s) if count <= 1 else None
    misses, accepted = eyes.device.person_miss_rate or 0.0, eyes.person_miss_rate_accepted
    del eyes
    outcomes: list[Outcome] = []
    left_out: list[str] = []
    # Closed at once when a photo ends it: what is not begun is not waited for.
    with closing(_in_turn(turns, road, opener, apart_s, count)) as all_done:
        for done in all_done:
            bad = [each for each in done if isinstance(each, str)]
            if bad and not skip_bad:
                raise Stop(f"{bad[0]}; correct it, or: --skip-bad leaves out such photos")
            outcomes += [each for each in done if isinstance(each, Outcome)]
            left_out += bad
            progress(len(done))
    if not outcomes:
        raise Stop("not one of these photos can be decoded")
    return Evaluation(tuple(outcomes), names, tuple(left_out), apart_s, misses, accepted)


def _turns(photos: Sequence[Photo], *, frames: bool) -> Iterator[list[Photo]]:
    """What is handed to a process at once: a camera's frames in their order, or some photos."""
    if not frames:
        yield from (list(photos[at : at + PHOTOS_A_TURN]) for at in range(0, len(photos), PHOTOS_A_TURN))
        return
    cameras: dict[str, list[Photo]] = {}
    for photo in photos:
        cameras.setdefault(photo.camera, []).append(photo)
    yield from (sorted(its, key=lambda photo: photo.name) for its in cameras.values())


def _in_turn(
    turns: Sequence[list[Photo]],
    road: Road | None,
    opener: Callable[[], Eyes],
    apart_s: float | None,
    count: int,
) -> Generator[list[Outcome | str], None, None]:
    """Along the road that is given, or in `count` processes with a road each."""
    if road is not None:
        yield from map(road.walk, turns)
        return
    # Spawned, not forked: ONNX Runtime's and OpenCV's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(count, context, _open_road, (opener, apart_s)) as pool:
            yield from pool.map(_walk, turns)
    except BrokenProcessPool as error:
        raise Stop(f"one of {count} processes was killed, perhaps for memory: try --workers 1") from error


_road: list[Road] = []
"""Of a process of the pool: its one road."""


def _open_road(opener: Callable[[], Eyes], apart_s: float | None) -> None:
    cv2.setNumThreads(0)
    _road.append(Road(opener(), apart_s))


def _walk(photos: list[Photo]) -> list[Outcome | str]:
    return _road[0].walk(photos)


class Road:
    """From the device to the cloud, for photos of one camera or for single ones."""

    def __init__(self, eyes: Eyes, apart_s: float | None) -> None:
        self._eyes = eyes
        self._apart_s = apart_s
        self._tree = load_taxonomy()
        self._device = DeviceSettings()

    def walk(self, photos: Sequence[Photo]) -> list[Outcome | str]:
        """Each photo's outcome, or why it has none."""
        outcomes: list[Outcome | str] = []
        scene, answered = Scene(), dict[str, Outcome]()
        for at, photo in enumerate(photos):
            try:
                if self._apart_s is None:
                    outcomes.append(self._first_frame(photo))
                else:
                    scene, outcome = self._next_frame(photo, scene, at * self._apart_s, answered)
                    outcomes.append(outcome)
            except Rejected as error:
                outcomes.append(f"{photo.name}: {error}")
        return outcomes

    def _first_frame(self, photo: Photo) -> Outcome:
        data, start = photo.read(), time.perf_counter()
        frame = images.decode(data, at_least_px=EYE_PX)
        seen = seen_of(self._eyes.device.see(frame), self._tree)
        return self._onward(photo, frame, data, seen, start)

    def _next_frame(
        self, photo: Photo, scene: Scene, at_s: float, answered: dict[str, Outcome]
    ) -> tuple[Scene, Outcome]:
        data, start = photo.read(), time.perf_counter()
        frame = images.decode(data, at_least_px=EYE_PX)
        scene, seen = look(
            scene,
            frame,
            self._eyes.device,
            self._tree,
            event=photo.name,
            at_s=at_s,
            still_s=self._device.still_s,
        )
        ago_s = scene.person_ago_s(at_s, self._device.person_hold_s)
        if seen.stands is not None:
            earlier = answered[seen.stands]
            outcome = replace(earlier, name=photo.name, truth=photo.truth, ms={}, sent={}, stands=True)
            return scene, replace(outcome, person_ago_s=ago_s)
        outcome = replace(self._onward(photo, frame, data, seen, start), person_ago_s=ago_s)
        answered.clear()  # only the last answer can stand
        answered[photo.name] = outcome
        return scene, outcome

    def _onward(self, photo: Photo, frame: images.Picture, data: bytes, seen: Seen, start: float) -> Outcome:
        """The device's view, and what the others make of what it sends; `start` is when its work began."""
        sent = images.encode_jpeg(part_to_send(frame, data, seen.box))
        device_ms, start = _ms(start), time.perf_counter()
        edge = self._eyes.edge.see(images.decode(sent), seen.box)
        edge_ms, start = _ms(start), time.perf_counter()
        cloud = self._eyes.cloud.see(edge.vector)
        return Outcome(
            name=photo.name,
            truth=photo.truth,
            told={
                "device": _told(self._tree, DEFAULT_THRESHOLDS, seen.sight.kingdom),
                "edge": _told(self._tree, edge.thresholds, edge.family, edge.kingdom),
                "cloud": _told(self._tree, cloud.thresholds, cloud.species, cloud.family, cloud.kingdom),
            },
            person=seen.person,
            person_raised=seen.person_raised,
            edge_person_raised=edge.person_raised,
            ms={"device": device_ms, "edge": edge_ms, "cloud": _ms(start)},
            sent=dict(zip(HOPS, (len(sent), edge.vector.nbytes), strict=True)),
        )


def _ms(start: float) -> float:
    return (time.perf_counter() - start) * 1e3


def _told(tree: Taxonomy, thresholds: Mapping[str, float], *scores: Scores) -> Told:
    """Scores of a tier's ranks, the deepest first, as its word."""
    found = answer(tree, scores, thresholds)
    return Told(
        tuple(found.path),
        found.probability,
        scores[0].margin,
        {its.rank: its.best for its in sorted(scores, key=lambda each: RANKS.index(each.rank))},
    )
