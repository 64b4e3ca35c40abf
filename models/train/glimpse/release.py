"""Write the trained network into the zoo: ``python -m models.train.glimpse.release`` (after `glimpse`; needs `onnx`).

Static int8 by pictures of the training set, a temperature and the person threshold by held-out ones, the figures of
the card by the test split, and ``models/zoo/glimpse`` with its manifest. The last layer stays float: it is a hundredth
of the weights, and the temperature goes into it.

Example::

    TIERWISE_DATASETS=~/data python -m models.train.glimpse.release
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from models.imported.compress import INPUT_SCALE, INPUT_ZERO_POINT, Batch, quantise
from models.labels.calibration import expected_calibration_error, fit_temperature
from models.labels.scores import softmax
from models.labels.taxonomy import KINGDOMS
from models.manifest import Manifest, digest_of_labels
from models.onnx_session import Network
from models.train.lite0.heads import PERSON_FALSE_ALARMS
from models.train.zoo_folder import write_manifest
from models.vision.glimpse import INPUT_PX, read, served

Floats = NDArray[np.float32]

BUILD = Path(__file__).parents[3] / "build" / "train" / "glimpse"
ZOO = Path(__file__).parents[2] / "zoo" / "glimpse"

VERSION = 1
TERMS = "Apache-2.0; learned from the packs, taught by lite0 (CARD.md)"
MODEL, LOG = "model.onnx", "training.jsonl"
CALIBRATION_PICTURES, BATCH = 512, 64
# What a frame looks like to a device: the whole photo, a part of it, a small subject in a scene.
FRAMES = ("wild256-whole", "wild256-augmented-held", "wild256-in-scene-held")
# The photos by which the manifest tells how many persons are missed, as lite0's card does.
STATED = "wild256-whole"
PERSON = KINGDOMS.index("person")
# What the card tells beside the threshold that is used: an owner can see what fewer misses would cost.
OTHER_FALSE_ALARMS = (0.05, 0.2, 0.4)


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Pictures of `glimpse_data` with what is in them: RGB (n, 64, 64, 3), kingdom (n,), kind (n,)."""

    pixels: NDArray[np.uint8]
    kingdom: NDArray[np.intp]
    kind: NDArray[np.str_]

    @classmethod
    def load(cls, folder: Path, name: str) -> Split:
        """Read a split that `models.train.glimpse.data` wrote."""
        with np.load(folder / f"{name}.npz") as file:
            return cls(file["pixels"], file["kingdom"].astype(np.intp), file["kind"])

    def of(self, *kinds: str) -> Split:
        """Return the pictures of some kinds."""
        rows = np.isin(self.kind, kinds)
        return Split(self.pixels[rows], self.kingdom[rows], self.kind[rows])


@dataclass(frozen=True, slots=True)
class PersonFigures:
    """On one kind of picture: shares of 1. `persons` of the frames with one raise, `false_alarms` of those without."""

    kind: str
    count: int
    kingdom: float
    calibration_error: float
    persons: float
    false_alarms: float


def centred(pixels: NDArray[np.uint8]) -> Floats:
    """RGB (n, 64, 64, 3) -> what the float network takes."""
    return ((served(pixels) - np.float32(INPUT_ZERO_POINT)) * np.float32(INPUT_SCALE)).astype(np.float32)


def outputs_of(network: Network, pixels: NDArray[np.uint8], *, takes_bytes: bool) -> Floats:
    """Return the network's outputs (n, 5)."""
    prepare = served if takes_bytes else centred
    return np.concatenate([network.run(prepare(pixels[at : at + BATCH])) for at in range(0, len(pixels), BATCH)])


def shown(pixels: NDArray[np.uint8]) -> Iterator[Batch]:
    """Pictures spread over the training set, by which int8 finds its ranges."""
    rows = np.random.default_rng(0).permutation(len(pixels))[:CALIBRATION_PICTURES]
    for at in range(0, len(rows), BATCH):
        yield {"x": centred(pixels[np.sort(rows[at : at + BATCH])])}


def tempered(file: Path, temperature: float) -> None:
    """Divides the kingdoms' logits by a temperature within the last layer; the person's log-odds stay."""
    model = onnx.load(str(file))
    (last,) = [node for node in model.graph.node if node.op_type == "Gemm"]
    names = set(last.input[1:3])
    by = np.ones(len(KINGDOMS) + 1, np.float32)
    by[: len(KINGDOMS)] = temperature
    for constant in model.graph.initializer:
        if constant.name in names:
            values: Any = numpy_helper.to_array(constant)
            # Weights are (outputs, inputs), as PyTorch writes them; the bias is (outputs,).
            scaled = (values.T / by).T.astype(np.float32)
            constant.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(scaled), constant.name))
    onnx.save(model, str(file))


def person_threshold(scores: Floats, held: Split, false_alarms: float = PERSON_FALSE_ALARMS) -> float:
    """Return the score that this share of the whole photos without a person reaches."""
    nobody = (held.kind == STATED) & (held.kingdom != PERSON)
    return float(np.quantile(scores[nobody], 1 - false_alarms))


def figures(outputs: Floats, split: Split, threshold: float) -> Iterator[PersonFigures]:
    """For each kind of picture of a split, in the order in which they come."""
    logits, persons = read(outputs)
    probabilities = softmax(logits)
    for kind in dict.fromkeys(split.kind.tolist()):
        rows = split.kind == kind
        truth, raised = split.kingdom[rows], persons[rows] >= threshold
        right = probabilities[rows].argmax(1) == truth
        yield PersonFigures(
            kind=kind,
            count=int(rows.sum()),
            kingdom=float(right.mean()),
            calibration_error=expected_calibration_error(probabilities[rows].max(1), right),
            persons=float(raised[truth == PERSON].mean()),
            false_alarms=float(raised[truth != PERSON].mean()),
        )


def render(rows: Sequence[PersonFigures]) -> str:
    """Return a Markdown table."""
    lines = [
        "| pictures | kingdom | calibration error | persons raised | false alarms |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row.kind}, {row.count:,} | {row.kingdom:.1%} | {row.calibration_error:.3f} | {row.persons:.1%} "
        f"| {row.false_alarms:.1%} |"
        for row in rows
    ]
    return "\n".join(lines)


def compressed(float_file: Path, target: Path, train: Split, held: Split) -> float:
    """Make a calibrated int8 network from a float network, and return its person threshold.

    Both are fitted on `held`: the temperature on all kinds of frames, the threshold on whole photos, as for lite0.
    """
    quantise(float_file, target, shown(train.pixels), leave_float=("Gemm",), bytes_input=True)
    outputs = outputs_of(Network(target), held.pixels, takes_bytes=True)
    tempered(target, fit_temperature(read(outputs)[0], held.kingdom))
    return person_threshold(read(outputs)[1], held)


def report(network: Network, held: Split, test: Split, *, takes_bytes: bool) -> str:
    """Return the figures of one network, and what persons cost at other thresholds."""
    scores = read(outputs_of(network, held.pixels, takes_bytes=takes_bytes))[1]
    outputs = outputs_of(network, test.pixels, takes_bytes=takes_bytes)
    text = render(list(figures(outputs, test, person_threshold(scores, held))))
    for share in OTHER_FALSE_ALARMS:
        rows = list(figures(outputs, test, person_threshold(scores, held, share)))
        raised = ", ".join(f"{row.kind} {row.persons:.1%} ({row.false_alarms:.1%})" for row in rows)
        text += f"\nat {share:.0%} false alarms on held-out photos: persons (false alarms) {raised}"
    return text


def main() -> None:
    """Run this recipe."""
    train, held, test = (Split.load(BUILD, name) for name in ("train", "val", "test"))
    held = held.of(*FRAMES)
    ZOO.mkdir(parents=True, exist_ok=True)
    threshold = compressed(BUILD / "float.onnx", ZOO / MODEL, train, held)
    shutil.copyfile(BUILD / "log.jsonl", ZOO / LOG)
    network, before = Network(ZOO / MODEL), Network(BUILD / "float.onnx")
    sys.stdout.write(f"int8, at {threshold:.4f}\n{report(network, held, test, takes_bytes=True)}\n\n")
    sys.stdout.write(f"float, not calibrated\n{report(before, held, test, takes_bytes=False)}\n\n")
    (stated,) = figures(outputs_of(network, test.of(STATED).pixels, takes_bytes=True), test.of(STATED), threshold)
    write_manifest(
        Manifest(
            folder=ZOO,
            name="glimpse",
            version=VERSION,
            task="wildlife",
            files={},
            labels=digest_of_labels(KINGDOMS),
            terms=TERMS,
            size_px=INPUT_PX,
            person_threshold=threshold,
            person_miss_rate=round(1 - stated.persons, 4),
        ),
        (MODEL,),
    )
    sys.stdout.write(f"{ZOO / MODEL}: {(ZOO / MODEL).stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
