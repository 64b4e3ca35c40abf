"""Sends labelled photos through the tiers and notes every answer: `models.evaluation.metrics` makes figures of them.

Photos are answered by `models.answering.tier_chain`, which asks every tier about every photo, so that each tier's
figures are over all photos. With `apart_s` the photos of a folder are a fixed camera's frames, in the order of their
names: the motion gate runs over them as on a device, and where nothing moved the earlier answer stands::

    photo --TierChain(ask_all)--> ChainAnswer --> PhotoOutcome

Example::

    done = evaluate(read_photos(Path("photos")).photos)
    print(render(measure(done)))

Photos are read one at a time, in several processes where there are many; of each, only its outcome is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial

from models.answering.cascade import Situation
from models.answering.tier_chain import ChainAnswer, TierChain
from models.evaluation.photo_set import Photo
from models.evaluation.process_pool import in_turns, process_count, work_through
from models.labels.scores import Scores
from models.labels.taxonomy import RANKS
from models.vision.tier_models import deepest
from pipeline.clock import SystemClock
from pipeline.errors import Rejected, Stop
from pipeline.messages import Crop

TIERS = ("device", "edge", "cloud")
HOPS = ("device to edge", "edge to cloud")
OPEN_SHIPPED = partial(TierChain.open, ask_all=True)


@dataclass(frozen=True, slots=True)
class TierOutcome:
    """One tier's own answer about a photo (an empty path: unknown), and its likeliest label by rank.

    `likeliest` maps each rank that the tier knows to (label, probability).
    """

    path: tuple[str, ...]
    likeliest: Mapping[str, tuple[str, float]]


@dataclass(frozen=True, slots=True)
class PhotoOutcome:
    """The tiers' answers about one photo, and the situations that the cascade decides by at device and edge.

    `ms` and `sent` (bytes by hop) are empty where an earlier answer `stands`: no model was asked, nothing was sent.
    """

    name: str
    truth: tuple[str, ...]
    tiers: Mapping[str, TierOutcome]
    device: Situation
    edge: Situation
    ms: Mapping[str, float] = field(default_factory=dict)
    sent: Mapping[str, int] = field(default_factory=dict)

    @property
    def stands(self) -> bool:
        """Return whether nothing moved, so that an earlier answer stands."""
        return self.device.stands is not None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Outcomes in the order of the photos, the models by tier, and the photos left out, each with its reason.

    `apart_s`: the seconds between two frames of one camera, where photos were taken for frames.
    """

    outcomes: tuple[PhotoOutcome, ...]
    models: Mapping[str, str]
    left_out: tuple[str, ...] = ()
    apart_s: float | None = None


def evaluate(
    photos: Sequence[Photo],
    opener: Callable[[], TierChain] = OPEN_SHIPPED,
    *,
    apart_s: float | None = None,
    workers: int | None = None,
    skip_bad: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Send every photo through the three tiers.

    Parameters
    ----------
    opener
        Opens a chain that asks all tiers, in each process anew; has to be picklable. The default opens the shipped
        models.
    apart_s
        Take each folder's photos for frames of one fixed camera, so many seconds apart.
    workers
        Number of processes. With None, one for each core, fewer for few photos. They are spawned: a script calls this
        under ``if __name__ == "__main__":``.
    skip_bad
        Leave out photos that turn out to be damaged.
    progress
        Called with the number of photos that were answered since the last call.

    Raises
    ------
    Stop
        A photo is damaged, or a model is.
    """
    turns = in_turns(photos) if apart_s is None else _cameras(photos)
    count = process_count(workers, len(photos), len(turns))
    # Opened here also where other processes answer: a damaged model is reported before they start.
    chain = opener()
    names = chain.names
    answering = partial(_answering, (lambda: chain) if count <= 1 else opener, apart_s)
    outcomes: list[PhotoOutcome] = []
    left_out: list[str] = []
    # Closed at once when a photo ends it, so that no further turn begins.
    with closing(work_through(turns, answering, count)) as all_done:
        for done in all_done:
            bad = [each for each in done if isinstance(each, str)]
            if bad and not skip_bad:
                raise Stop(f"{bad[0]}; correct it, or: --skip-bad leaves out such photos")
            outcomes += [each for each in done if isinstance(each, PhotoOutcome)]
            left_out += bad
            progress(len(done))
    if not outcomes:
        raise Stop("not one of these photos can be decoded")
    return Evaluation(tuple(outcomes), names, tuple(left_out), apart_s)


def _cameras(photos: Sequence[Photo]) -> list[Sequence[Photo]]:
    """Return each camera's frames in their order."""
    cameras: dict[str, list[Photo]] = {}
    for photo in photos:
        cameras.setdefault(photo.camera, []).append(photo)
    return [sorted(frames, key=lambda photo: photo.name) for frames in cameras.values()]


def _answering(
    opener: Callable[[], TierChain], apart_s: float | None
) -> Callable[[Sequence[Photo]], list[PhotoOutcome | str]]:
    return partial(_outcomes, opener(), apart_s)


def _outcomes(chain: TierChain, apart_s: float | None, photos: Sequence[Photo]) -> list[PhotoOutcome | str]:
    """Return each photo's outcome, or the reason why it has none: single photos, or one camera's frames."""
    outcomes: list[PhotoOutcome | str] = []
    before: ChainAnswer | None = None
    outcome: PhotoOutcome | None = None
    start_s = float(int(SystemClock().now()))  # whole seconds: sums with `apart_s` stay exact
    for at, photo in enumerate(photos):
        try:
            if apart_s is None:
                answer = chain.answer(photo.read())
            else:
                answer = chain.answer(photo.read(), received_s=start_s + at * apart_s, before=before)
        except Rejected as error:
            outcomes.append(f"{photo.name}: {error}")
            continue
        before, outcome = answer, _outcome(photo, answer, outcome)
        outcomes.append(outcome)
    return outcomes


def _outcome(photo: Photo, answer: ChainAnswer, before: PhotoOutcome | None) -> PhotoOutcome:
    """Return a photo's outcome; where nothing moved, the tiers' answers are those of `before`."""
    device, edge, cloud = answer.device, answer.edge, answer.cloud
    if edge is None or cloud is None:
        assert before is not None, "every tier answers a first frame"
        return replace(before, name=photo.name, truth=photo.truth, device=device.situation, ms={}, sent={})
    assert answer.event is not None and isinstance(answer.event.body, Crop), "the settings send pixels"
    return PhotoOutcome(
        name=photo.name,
        truth=photo.truth,
        tiers={
            "device": TierOutcome(device.prediction.path, _likeliest(device.prediction.kingdom)),
            "edge": TierOutcome(deepest(edge.prediction).path, _likeliest(*edge.prediction.scores)),
            "cloud": TierOutcome(deepest(cloud.prediction).path, _likeliest(*cloud.prediction.scores)),
        },
        device=device.situation,
        edge=edge.situation,
        ms=answer.ms,
        sent=dict(zip(HOPS, (len(answer.event.body.jpeg), edge.prediction.vector.nbytes), strict=True)),
    )


def _likeliest(*scores: Scores) -> Mapping[str, tuple[str, float]]:
    return {of_rank.rank: of_rank.best for of_rank in sorted(scores, key=lambda each: RANKS.index(each.rank))}
