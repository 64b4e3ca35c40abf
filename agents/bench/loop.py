"""The cost of learning: a million features to a head, a federated round's bytes, an edge's increment.

* **Head**: `features` labelled events are summed and solved, beside reading them once: as the trainer reads them
  (each a `Labelled` record, decoded) and as bare bytes of a file. Processor time of one thread.
* **Round**: the golden set, dealt to ten sites by species, so that no two sites see the same ones. Ours is one round:
  each site sends its packed sums. FedAvg (softmax regression, one pass a round) sends weights up and down every
  round, until it is as accurate, for `ROUNDS` rounds at most.
* **Increment**: `models.site_learning.site_model` learns a label behind its gate, with twenty visits held back.

Source: McMahan et al. 2017 (FedAvg, arXiv:1602.05629).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.heads.golden_set import GoldenSet
from models.heads.linear import LEVELS_PER_SIGMA, ZERO_LEVEL, Floats
from models.heads.solve import discriminants
from models.labels.scores import softmax
from models.labels.taxonomy import load_taxonomy
from models.shipped import load_zoo
from models.site_learning.site_head import Lesson
from models.site_learning.site_model import SiteModel
from pipeline.messages import Labelled, Vote
from pipeline.sums.packing import pack
from pipeline.sums.sums import Sums

FEATURES: Final = 1_000_000
SAMPLE: Final = 20_000
"""Different features; the million repeats them."""

SITES, ROUNDS, RATE, BATCH = 10, 30, 32.0, 16
"""The rate is the best of 0.5, 2, 8 and 32 for FedAvg, on the photos that judge both."""

GOALS: Final = {"head": 1.2, "round": 0.1, "increment_ms": 5.0}
LESSONS, MEASURED = 100, 30
SITE_LABELS: Final = ("Vulpes vulpes", "Canis lupus", "Puma concolor", "person", "other")


def run(features: int = FEATURES) -> dict[str, Any]:
    """Measure all three in a process with one BLAS thread, as roles have it (`agents.role.memory_limits`)."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", __name__, str(features)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = msgspec.json.decode(done.stdout)
    return found


def measured(features: int) -> dict[str, Any]:
    """Measure all three in this process."""
    return {"head": head(features), "round": federated(), "increment": increment(), "goals": GOALS}


# --- a million features ---------------------------------------------------------------------------------------


def head(features: int) -> dict[str, Any]:
    """Measure the processor time, in seconds, to read features, and to sum and solve them."""
    base = load_zoo().base()
    rng = np.random.default_rng(0)
    vectors = rng.integers(0, 256, (min(SAMPLE, features), base.sums.dimension), np.uint8)
    classes = rng.integers(0, len(base.tree.species), len(vectors))
    times = max(1, features // len(vectors))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "features.npy"
        np.save(file, vectors)
        records = [_record(at, vectors[at].tobytes(), base.sums.space) for at in range(len(vectors))]
        bare_s = records_s = sum_s = 0.0
        decoder = msgspec.msgpack.Decoder(Labelled)
        sums = Sums.empty(base.sums.space, base.sums.dimension, base.tree.species)
        for _ in range(times):
            start_s = time.process_time()
            np.load(file)
            bare_s += time.process_time() - start_s
            start_s = time.process_time()
            read = np.frombuffer(b"".join(decoder.decode(record).data for record in records), np.uint8)
            read = read.reshape(vectors.shape)
            records_s += time.process_time() - start_s
            start_s = time.process_time()
            sums = sums.add(read, classes)
            sum_s += time.process_time() - start_s
        start_s = time.process_time()
        discriminants(sums)
        solve_s = time.process_time() - start_s
    learn_s = sum_s + solve_s
    return {
        "features": times * len(vectors),
        "seconds": {
            "read, bare bytes": round(bare_s, 3),
            "read, records": round(records_s, 3),
            "sum": round(sum_s, 3),
            "solve": round(solve_s, 4),
        },
        "ratio": {
            "records": round((records_s + learn_s) / records_s, 2),
            "bare bytes": round((bare_s + learn_s) / bare_s, 1),
        },
    }


def _record(at: int, data: bytes, space: str) -> bytes:
    vote = Vote("Vulpes vulpes", "ann", time="2026-01-31T06:30:12Z")
    path = ("animal", "Canidae")
    record = Labelled(f"e{at:026d}", "home/cam1/garden", "2026-01-31T06:30:12Z", space, data, (vote,), 1, path)
    return msgspec.msgpack.encode(record)


# --- a federated round ----------------------------------------------------------------------------------------


def federated() -> dict[str, Any]:
    """Measure bytes and accuracy of both ways; a third of the photos is held out."""
    golden = load_zoo().golden()
    test = np.arange(len(golden.vectors)) % 3 == 2
    labels = golden.labels
    # By species, so that each site knows some that no other does.
    site = golden.species % SITES
    parts = [(golden.vectors[rows], golden.species[rows]) for rows in ((site == at) & ~test for at in range(SITES))]
    empty = Sums.empty(golden.space, golden.vectors.shape[1], labels)
    by_site = [empty.add(vectors, species) for vectors, species in parts]
    total = by_site[0]
    for sums in by_site[1:]:
        total = total.merge(sums)
    ours = (discriminants(total).logits(golden.vectors[test]).argmax(1) == golden.species[test]).mean()
    # A site sends columns for its own labels alone, and receives the sums of all sites.
    up = sum(len(pack(_own_columns(sums))) for sums in by_site)
    down = SITES * len(pack(total))
    theirs, by_round = _averaged(golden, parts, test)
    weights = 4 * (golden.vectors.shape[1] + 1) * len(labels)
    reached = next((at for at, accuracy in enumerate(by_round, 1) if accuracy >= ours), None)
    averaged = 2 * SITES * weights * (reached or ROUNDS)
    return {
        "accuracy": {"sums": round(float(ours), 4), "FedAvg": round(theirs, 4)},
        "rounds": {"sums": 1, "FedAvg": reached or ROUNDS},
        "reached": reached is not None,
        "bytes": {"sums": up + down, "sums, up": up, "FedAvg": averaged},
        "ratio": round((up + down) / averaged, 3),
    }


def _own_columns(sums: Sums) -> Sums:
    return sums.with_labels([label for label, n in zip(sums.labels, sums.counts, strict=True) if n])


def _averaged(
    golden: GoldenSet, parts: list[tuple[NDArray[np.uint8], NDArray[np.intp]]], test: NDArray[np.bool_]
) -> tuple[float, list[float]]:
    """Return FedAvg's best accuracy, and that of each round: softmax regression, one local pass a round."""
    rng = np.random.default_rng(0)
    weights = np.zeros((golden.vectors.shape[1] + 1, len(golden.labels)), np.float32)
    x_test, truths = _inputs(golden.vectors[test]), golden.species[test]
    reached = []
    for _ in range(ROUNDS):
        mean = np.zeros_like(weights)
        for vectors, species in parts:
            local, x = weights.copy(), _inputs(vectors)
            for rows in np.array_split(rng.permutation(len(x)), max(1, len(x) // BATCH)):
                wrong = softmax(x[rows] @ local)
                wrong[np.arange(len(rows)), species[rows]] -= 1
                local -= RATE / len(rows) * (x[rows].T @ wrong)
            mean += local * (len(x) / sum(len(labels) for _, labels in parts))
        weights = mean
        reached.append(float(((x_test @ weights).argmax(1) == truths).mean()))
    return max(reached), reached


def _inputs(vectors: NDArray[np.uint8]) -> Floats:
    x = (vectors.astype(np.float32) - ZERO_LEVEL) / np.float32(LEVELS_PER_SIGMA * np.sqrt(vectors.shape[1]))
    return np.hstack([x, np.ones((len(x), 1), np.float32)])


# --- an edge's increment --------------------------------------------------------------------------------------


def increment() -> dict[str, Any]:
    """Measure the processor time of a label, in milliseconds, after `LESSONS` of five labels."""
    tree, rng = load_taxonomy(), np.random.default_rng(0)
    centres = {label: rng.normal(128, 25, 256) for label in SITE_LABELS}
    site = SiteModel.start(tree, general="lite0@2", site="home", space="lite0-bench", dimension=256)
    taken_ms = []
    for at in range(LESSONS + MEASURED):
        label, frames = SITE_LABELS[at % len(SITE_LABELS)], int(rng.integers(1, 7))
        noisy = centres[label] + rng.normal(0, 30, (frames, 256))
        general = rng.dirichlet(np.full(len(tree.species), 0.05), frames).astype(np.float32)
        lesson = Lesson(label, np.clip(noisy, 0, 255).astype(np.uint8), general)
        start_s = time.process_time()
        site, _ = site.learn(lesson)
        taken_ms.append((time.process_time() - start_s) * 1e3)
    measured = taken_ms[LESSONS:]
    return {
        "held back": len(site.held),
        "ms": {"median": round(statistics.median(measured), 2), "most": round(max(measured), 2)},
    }


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(measured(int(sys.argv[1]))))
