"""An edge's learning without its eye: labelled events straight into the store, and a general model that knows nothing.

As a program it learns in a process that is killed again and again, and prints what each start found:
`test_edge_learning_killed` reads that. It forks, so it loads nothing that has threads.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import sys
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from agents.edge.label_rules import LabelledEvent, PersonVote
from agents.edge.label_store import labelled_event
from agents.edge.learning import EdgeLearning
from agents.edge.store import EdgeStore
from agents.role.telemetry import Metrics
from models.answering.kept_feature import KeptFeature
from models.heads.linear import Floats
from models.labels.taxonomy import load_taxonomy
from models.site_learning.lesson_log import General
from models.site_learning.site_answers import ServedHead
from pipeline import messages
from pipeline.clock import HandClock
from pipeline.messages import Feature, Levels, Privacy, Rank
from pipeline.spool import Spool

NOW_S = 1_700_000_000.0
TREE = load_taxonomy()
SPACE, DIMENSION = "space", 24
PATHS = (("animal", "Felidae"), ("animal", "Canidae", "Vulpes vulpes"), ("other",))
PRIVATE = Levels(
    Privacy.USER_PRIVATE,
    Privacy.EDGE_PRIVATE,
    Privacy.EDGE_PRIVATE,
    Privacy.USER_PRIVATE,
    Privacy.USER_PRIVATE,
)


def general(name: str = "lite0@2", space: str = SPACE, dimension: int = DIMENSION) -> General:
    """All species alike, of any vector."""

    def says(vectors: NDArray[np.uint8]) -> Floats:
        return np.full((len(vectors), len(TREE.species)), 1 / len(TREE.species), np.float32)

    return General(name, space, TREE, dimension, says)


def vector(at: int, seed: int, dimension: int = DIMENSION) -> NDArray[np.uint8]:
    centre = np.full(dimension, 128.0)
    centre[at * 4 :][:4] += 60
    noise = np.random.default_rng(seed).normal(0, 12, dimension)
    return np.clip(centre + noise, 0, 255).astype(np.uint8)


def feature(event: str, data: bytes, levels: Levels = PRIVATE, sighting: str = "", space: str = SPACE) -> KeptFeature:
    payload = messages.encode(Feature(data, "", Rank.SPECIES, 1, ("animal",), 0.5, 1.0))
    return KeptFeature(
        event,
        sighting or event,
        "home/cam1/garden",
        "2026-05-01T12:00:00.000Z",
        space,
        payload,
        data,
        levels,
    )


def said(event: str, path: tuple[str, ...], revision: int = 1) -> PersonVote:
    return PersonVote(event, "ann", path[-1] if path else None, path, "", "", NOW_S, revision)


class SampleLearning:
    """Labels and learning over one spool."""

    def __init__(self, folder: Path, of: General | None = None) -> None:
        self.clock = HandClock(NOW_S)
        self.metrics = Metrics()
        self.spool = Spool.open(folder / "spool.db", limit_bytes=1 << 26)
        self.store = EdgeStore("home", self.spool, self.clock)
        self.store.open()
        self.served: ServedHead | None = None
        self.learning = EdgeLearning("home", self.store, self._serve, of or general(), None, self.metrics)

    @property
    def model(self) -> str:
        return self.served.name if self.served else self.learning.general.name

    def _serve(self, served: ServedHead | None) -> None:
        self.served = served

    def label(self, kept: KeptFeature, path: tuple[str, ...], revision: int = 1) -> LabelledEvent:
        """As the labels do: committed, then told. An empty path takes the label back."""
        with self.spool.transaction() as tx:
            self.store.labels.keep_feature(kept, tx)
            self.store.labels.put(said(kept.event, path, revision), tx)
        event = self.store.labels.labelled(kept.event) or labelled_event((), kept)
        self.learning.on_label(event)
        return event


# --- killed ----------------------------------------------------------------------------------------------------

VISITS, STATEMENTS_MOST = 15, 150


def script(seed: int) -> list[tuple[int, tuple[str, ...]]]:
    """Labels of some events, some of them changed or taken back, in an order of their own."""
    rng = random.Random(seed)
    first = [(number, PATHS[number % len(PATHS)]) for number in range(VISITS)]
    later = [
        (rng.randrange(VISITS), rng.choice((*PATHS, ()))) for _ in range(VISITS // 3)
    ]  # fmt: skip
    rng.shuffle(first)
    return [*first, *later]


def killed_round(folder: Path, seed: int) -> dict[str, object]:
    """Learn in a process that kills itself at some SQL statement, then start again here and see what stands."""
    child = os.fork()
    if child == 0:
        _learn_until_killed(folder, seed)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    sample = SampleLearning(folder)
    sample.learning.open()
    found = {
        "seed": seed,
        "killed": os.WIFSIGNALED(status),
        "name": sample.model,
        "whole": _is_whole(sample),
        "taken": _taken(sample),
    }
    # What was committed and not learned is learned now, and the rest of the script with it.
    sample.learning.work()
    for revision, (number, path) in enumerate(script(seed), start=2):
        sample.label(feature(f"e{number}", vector(number % 3, number).tobytes()), path, revision)
        sample.learning.work()
    found |= {"at_last": _is_whole(sample), "labels": _labels(sample)}
    sample.spool.close()
    return found


def _learn_until_killed(folder: Path, seed: int) -> None:
    sample = SampleLearning(folder)
    sample.learning.open()
    left = random.Random(seed).randrange(STATEMENTS_MOST)

    def count(_sql: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sample.spool._writer.set_trace_callback(count)
    for revision, (number, path) in enumerate(script(seed), start=1):
        sample.label(feature(f"e{number}", vector(number % 3, number).tobytes()), path, revision)
        sample.learning.work()


def _is_whole(sample: SampleLearning) -> bool:
    """The head in memory is the one of the rows on the disk, and its sums are of exactly those events."""
    learning = sample.learning._learning
    rows = [lesson for lesson in sample.store.learning.lessons(SPACE) if lesson.rule != "refused"]
    sums = learning.local.everything
    by_label = {label: int(count) for label, count in zip(sums.labels, sums.counts, strict=True) if count}
    expected: dict[str, int] = {}
    for row in rows:
        expected[row.path[-1]] = expected.get(row.path[-1], 0) + 1
    total = np.zeros((DIMENSION + 1, DIMENSION + 1), np.int64)
    for row in rows:
        x = np.append(row.vector, 1).astype(np.int64)
        total += np.outer(x, x)
    served = learning.served
    if served is not None:
        species = served.head.consensus(rows[0].vector[None], learning.general.predict(rows[0].vector[None]))
        if not np.isfinite(species).all():
            return False
    named = served.name if served is not None else "lite0@2"
    return by_label == expected and bool((total == sums.gram).all()) and sample.model == named


def _taken(sample: SampleLearning) -> int:
    standing = sample.store.learning.standing()
    return standing.taken if standing is not None else 0


def _labels(sample: SampleLearning) -> dict[str, str]:
    return {lesson.event: "/".join(lesson.path) for lesson in sample.store.learning.lessons(SPACE)}


def main(folder: str, seeds: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    for seed in range(int(seeds)):
        at = Path(folder) / str(seed)
        at.mkdir()
        try:
            found = killed_round(at, seed)
        except (sqlite3.Error, AssertionError) as error:
            found = {"seed": seed, "error": repr(error)}
        sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
