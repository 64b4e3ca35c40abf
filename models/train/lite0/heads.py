"""Make lite0's heads from the features: ``python -m models.train.lite0.heads`` (after `lite0` and `features`).

Heads read one backbone:

* `frame.npz` (device): kingdom, and a person score with a threshold of its own, from the 1280-d feature;
* `tree.npz` (edge): kingdom and the whole label tree from the 1280-d feature;
* `projection.npz`, `vector.npz` (edge and cloud): the projection to 256 bytes, and kingdom and label tree from those;
* `sums.gz` (edge and cloud): integer sums over those bytes, from which the second head is solved
  (`models.heads.pooled`), and with which all later sums merge.

A tree head starts as ImageNet's own classifier, with one more column for each species that ImageNet lacks. It is tuned
on the packs by softmax regression on the sums over each species' classes, and pulled towards its start (L2-SP, Li et
al. 2018, arXiv:1802.01483). Species without a training picture then get their original columns back, since tuning can
only lower them. With 15 species left out, this keeps 0.39 of their families right on upsampled 64-pixel pictures,
where tuning alone left 0.21 (zero-shot: 0.42).

The projection is the best rank-256 approximation of all logits under the features' covariance (reduced-rank regression,
Izenman 1975), so that it keeps what the heads read and little else.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.photo_pack import Pack, open_pack
from models.heads.linear import INPUT_WEIGHT, ImageNetEvidence
from models.heads.pooled import Temperatures, pooled, tempered
from models.heads.solve import LinearHead, discriminants
from models.labels.calibration import fit_temperature
from models.labels.scores import softmax
from models.labels.taxonomy import IMAGENET_CLASSES, KINGDOMS, Taxonomy, load_taxonomy
from models.manifest import Manifest, Threshold, digest, digest_of_labels, read_manifest
from models.train.lite0.events import TIMES, add_views, imagined
from models.train.lite0.features import FEATURES, SIZE_PX
from models.train.lite0.linear import (
    VECTOR_BYTES,
    FittedProjection,
    Floats,
    Linear,
    flat,
    make_projection,
    tune,
)
from models.train.lite0.measure import families, fit_temperatures, right, threshold
from models.train.zoo_folder import write_manifest
from pipeline.sums.sums import Sums

BUILD = Path(__file__).parents[3] / "build" / "train" / "lite0"
ZOO = Path(__file__).parents[2] / "zoo" / "lite0"

VERSION = 2
FILES = ("backbone.onnx", "frame.npz", "tree.npz", "projection.npz", "vector.npz", "sums.gz")
TERMS = "Apache-2.0; backbone weights by the EfficientNet-Lite authors, heads learned from the packs (CARD.md)"
# The share of each set in training: natural photos lead, the small ones add breadth.
SHARES = {"wild256-whole": 3.0, "wild256-augmented": 1.0, "wild256-in-scene": 1.0, "wild64": 0.5}
# A frame head sees small animals and people; a tree head gets crops.
TREE_SHARES = SHARES | {"wild256-in-scene": 0.3, "wild256-in-trap": 0.6}
GROUP_OF = {"animal": 0, "plant": 1, "Fungi": 2, "person": 3, "other": 4}
# A species that ImageNet lacks starts with a low probability.
NEW_CLASS_BIAS = -3.0
# People are a fifth of the pictures, and missing one costs more than a false alarm.
PERSON_SHARE = 3.0
# A person raises the level at a threshold that raises this share of validation frames without a person. The model card
# promises at most 10%.
PERSON_FALSE_ALARMS = 0.095

# ImageNet's classes of what people wear, hold or sit in: it names the suit, not who is in it.
PEOPLE = (
    399, 400, 402, 411, 424, 430, 433, 439, 443, 445, 450, 451, 452, 457, 459, 461, 465, 474, 501, 515, 518, 524, 529,
    546, 552, 560, 568, 570, 578, 584, 593, 601, 602, 608, 610, 614, 615, 617, 629, 638, 639, 643, 650, 652, 655, 667,
    678, 689, 691, 697, 702, 735, 747, 752, 768, 775, 776, 785, 793, 795, 796, 801, 808, 823, 824, 834, 836, 837, 841,
    842, 869, 887, 890, 903, 906, 981, 982, 983,
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class LabelledFeatures:
    """Labelled views: feature (n, 1280), species (n,) by position in the tree, weight (n,), row in the pack (n,)."""

    feature: Floats
    species: NDArray[np.intp]
    weight: Floats
    row: NDArray[np.int32]

    def first_views(self, count: int) -> LabelledFeatures:
        """Return the first `count` views of each photo. The views of a photo stand together in a set."""
        starts = np.flatnonzero(np.diff(self.row, prepend=-1))
        return self.chosen(np.arange(len(self.row)) - np.repeat(starts, np.diff([*starts, len(self.row)])) < count)

    def chosen(self, kept: NDArray[np.bool_]) -> LabelledFeatures:
        """Return the views that a mask (n,) keeps."""
        return LabelledFeatures(self.feature[kept], self.species[kept], self.weight[kept], self.row[kept])


def load(
    tree: Taxonomy,
    packs: Mapping[str, Pack],
    kind: str,
    split: str,
    weight: float = 1.0,
    served: str = str(SIZE_PX),
) -> LabelledFeatures:
    """One feature set's rows of one split. `kind` is the set's name without the size, `served` that."""
    with np.load(FEATURES / f"{kind}-{served}.npz") as file:
        feature, row = file["feature"], file["row"]
    pack = packs[kind.split("-")[0]]
    chosen = np.array([pack.split[at] == split for at in row.tolist()])
    species = np.array([tree.species.index(tree.find(pack.species[at])) for at in row[chosen].tolist()], np.intp)
    return LabelledFeatures(
        feature[chosen].astype(np.float32), species, np.full(len(species), weight, np.float32), row[chosen]
    )


def together(parts: list[LabelledFeatures]) -> LabelledFeatures:
    """Several sets as one."""
    return LabelledFeatures(
        np.concatenate([part.feature for part in parts]),
        np.concatenate([part.species for part in parts]),
        np.concatenate([part.weight for part in parts]),
        np.concatenate([part.row for part in parts]),
    )


def tree_start(tree: Taxonomy, weights: Floats, bias: Floats) -> Linear:
    """ImageNet's classifier with a column for each species that it lacks."""
    to = tree.imagenet_to_species()
    missing = np.array(sorted(set(range(len(tree.species))) - set(to.tolist())), np.intp)
    return Linear(
        np.hstack([weights, np.zeros((len(weights), len(missing)), np.float32)]),
        np.concatenate([bias, np.full(len(missing), NEW_CLASS_BIAS, np.float32)]).astype(np.float32),
        np.concatenate([to, missing]),
    )


def imagenet_evidence(tree: Taxonomy, start: Linear) -> ImageNetEvidence:
    """ImageNet's own classes, read from a tree head that was not tuned, in five groups."""
    rows = [tree.rows[species] for species in start.to[:IMAGENET_CLASSES].tolist()]
    group = np.array([GROUP_OF["Fungi" if row.family == "Fungi" else row.kingdom] for row in rows], np.intp)
    group[list(PEOPLE)] = GROUP_OF["person"]
    return ImageNetEvidence(start.weights[:, :IMAGENET_CLASSES], start.bias[:IMAGENET_CLASSES], group)


def restored(tuned: Linear, start: Linear, seen: NDArray[np.intp]) -> Linear:
    """Return the tuned head with the original classes of species that had no picture."""
    mine = np.isin(tuned.to, seen)
    return Linear(np.where(mine, tuned.weights, start.weights), np.where(mine, tuned.bias, start.bias), tuned.to)


@dataclass(frozen=True, slots=True, eq=False)
class TreeHeads:
    """Kingdom and tree over one input, with their temperatures."""

    evidence: ImageNetEvidence
    kingdom: Linear
    tree: Linear
    kingdom_temperature: float
    tree_temperature: float

    def species(self, tree: Taxonomy, x: Floats) -> Floats:
        """P(kingdom) times P(species | kingdom), (n, species)."""
        kingdom_of = tree.kingdom_of[tree.family_of]
        kingdoms = softmax(self.kingdom.logits(self.evidence.beside(x)) / self.kingdom_temperature)
        species = softmax(self.tree.label_logits(x) / self.tree_temperature)
        within = species / by_kingdom(species, kingdom_of)[:, kingdom_of]
        return np.asarray(within * kingdoms[:, kingdom_of], np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class FittedFrameHead:
    """Kingdom, and a person's log-odds, from the feature of a frame or a part of one."""

    evidence: ImageNetEvidence
    kingdom: Linear
    temperature: float
    person: Linear
    threshold: float


def make_frame_head(tree: Taxonomy, packs: dict[str, Pack], evidence: ImageNetEvidence) -> FittedFrameHead:
    """Kingdom and person on frames; the person threshold by the false alarms on validation frames."""
    kingdom_of = tree.kingdom_of[tree.family_of]
    person = KINGDOMS.index("person")
    data = together([load(tree, packs, kind, "train", share) for kind, share in SHARES.items()])
    x, kingdoms = evidence.beside(data.feature), kingdom_of[data.species]
    none = flat(x.shape[1], len(KINGDOMS))
    kingdom = tune(none, x, kingdoms, data.weight, hold=1e-4, rate=3e-3, epochs=6)
    is_person = (kingdoms == person).astype(np.intp)
    weighed = data.weight * np.where(is_person == 1, PERSON_SHARE, 1.0).astype(np.float32)
    people = tune(flat(x.shape[1], 2), x, is_person, weighed, hold=1e-4, rate=3e-3, epochs=6)

    def scores(held: LabelledFeatures) -> Floats:
        return softmax(people.logits(evidence.beside(held.feature)))[:, 1]

    whole = load(tree, packs, "wild256-whole", "val")
    no_person = kingdom_of[whole.species] != person
    head = FittedFrameHead(
        evidence,
        kingdom,
        fit_temperature(kingdom.logits(evidence.beside(whole.feature)), kingdom_of[whole.species]),
        people,
        float(np.quantile(scores(whole)[no_person], 1 - PERSON_FALSE_ALARMS)),
    )
    for kind in ("wild256-whole", "wild256-augmented-held", "wild256-in-scene-held", "wild64"):
        test = load(tree, packs, kind, "test")
        raised, truth = scores(test) >= head.threshold, kingdom_of[test.species] == person
        right = (kingdom.logits(evidence.beside(test.feature)).argmax(1) == kingdom_of[test.species]).mean()
        sys.stdout.write(
            f"{kind} test, frame: kingdom {right:.3f}  persons at {head.threshold:.3f}: "
            f"recall {raised[truth].mean():.3f}, false alarms {raised[~truth].mean():.3f}\n"
        )
    return head


def by_kingdom(species: Floats, kingdom_of: NDArray[np.intp]) -> Floats:
    """Sum over each kingdom's species, (n, 4)."""
    sums = np.stack([species[:, kingdom_of == at].sum(1) for at in range(len(KINGDOMS))], axis=1)
    return np.asarray(sums + 1e-12, np.float32)


def make_tree_heads(
    tree: Taxonomy, start: Linear, data: LabelledFeatures, held: LabelledFeatures, rounds: int = 1
) -> TreeHeads:
    """Tune kingdom and tree on the feature and calibrate both on held-out rows; use more `rounds` for little data."""
    kingdom_of = tree.kingdom_of[tree.family_of]
    evidence = imagenet_evidence(tree, start)
    beside, held_beside = evidence.beside(data.feature), evidence.beside(held.feature)
    none = flat(beside.shape[1], len(KINGDOMS))
    kingdom = tune(none, beside, kingdom_of[data.species], data.weight, hold=1e-4, rate=3e-3, epochs=6 * rounds)
    tuned = tune(start, data.feature, data.species, data.weight, hold=1e-3, rate=3e-3, epochs=4 * rounds)
    species = restored(tuned, start, np.unique(data.species))
    animals = kingdom_of[held.species] == KINGDOMS.index("animal")
    return TreeHeads(
        evidence,
        kingdom,
        species,
        fit_temperature(kingdom.logits(held_beside), kingdom_of[held.species]),
        fit_temperature(species.label_logits(held.feature[animals]), held.species[animals]),
    )


def own_kingdom(heads: TreeHeads) -> Linear:
    """Return the part of the kingdom head that reads the feature, without ImageNet's evidence."""
    return replace(heads.kingdom, weights=INPUT_WEIGHT * heads.kingdom.weights[: len(heads.tree.weights)])


def through(
    projection: FittedProjection, tree: Taxonomy, imagenet: Linear, full: TreeHeads, held: LabelledFeatures
) -> TreeHeads:
    """Rewrite the heads on the feature for its 256 bytes, and calibrate them again; nothing is learned here.

    Tuning heads on the bytes themselves was tried: equal on the packs, worse on photos from elsewhere.
    """
    x = projection.components(held.feature)
    evidence = imagenet_evidence(tree, projection.seen_through(imagenet))
    inputs = full.tree.weights.shape[0]
    own, of_evidence = full.kingdom.weights[:inputs], full.kingdom.weights[inputs:]
    kingdom = Linear(
        np.vstack([projection.back @ own, of_evidence]),
        (full.kingdom.bias + INPUT_WEIGHT * (projection.mean @ own)).astype(np.float32),
        full.kingdom.to,
    )
    species = projection.seen_through(full.tree)
    kingdom_of = tree.kingdom_of[tree.family_of]
    animals = kingdom_of[held.species] == KINGDOMS.index("animal")
    return TreeHeads(
        evidence,
        kingdom,
        species,
        fit_temperature(kingdom.logits(evidence.beside(x)), kingdom_of[held.species]),
        fit_temperature(species.label_logits(x[animals]), held.species[animals]),
    )


def shipped_sums(
    tree: Taxonomy, packs: dict[str, Pack], space: str, projection: FittedProjection, imagenet: Linear
) -> Sums:
    """Sum the packs' training views and ImageNet's events of other species over vectors."""
    sums = Sums.empty(space, VECTOR_BYTES, tree.species)
    for kind in TREE_SHARES:
        views = load(tree, packs, kind, "train")
        sums = add_views(sums, projection.bytes(views.feature), views.species, TIMES.get(kind, 1))
    return sums.merge(imagined(sums, tree, projection.seen_through(imagenet).weights[:, :IMAGENET_CLASSES]))


UNCALIBRATED = Temperatures()


@dataclass(frozen=True, slots=True, eq=False)
class Judges:
    """Edge and cloud as they will answer: both heads each, a temperature for each rank."""

    tree: Taxonomy
    projection: FittedProjection
    feature: TreeHeads
    vector: TreeHeads
    solved: LinearHead
    edge: Temperatures
    cloud: Temperatures

    def species(self, feature: Floats) -> tuple[Floats, Floats]:
        """Return the species of features (n, 1280) as edge and cloud answer them, (n, species) each."""
        vector = self.projection.bytes(feature)
        solved = softmax(self.solved.logits(vector))
        edge = pooled(self.tree, self.feature.species(self.tree, feature), solved)
        cloud = pooled(self.tree, self.vector.species(self.tree, self.projection.components(feature)), solved)
        return tempered(self.tree, edge, self.edge), tempered(self.tree, cloud, self.cloud)

    def calibrated(self, held: LabelledFeatures) -> Judges:
        """Fit the temperatures of both tiers on held-out rows."""
        edge, cloud = self.species(held.feature)
        return replace(
            self,
            edge=fit_temperatures(self.tree, edge, held.species),
            cloud=fit_temperatures(self.tree, cloud, held.species),
        )


def measured_thresholds(judges: Judges, frame: FittedFrameHead, held: LabelledFeatures) -> dict[str, Threshold]:
    """Measure each rank's threshold on the tier that answers it."""
    tree = judges.tree
    edge, cloud = judges.species(held.feature)
    kingdom_logits = frame.kingdom.logits(frame.evidence.beside(held.feature)) / frame.temperature
    family, kingdom = tree.family_of[held.species], tree.kingdom_of[tree.family_of[held.species]]
    leaves = {
        labels: np.array([at for at, label in enumerate(labels) if label in KINGDOMS], np.intp)
        for labels in (tree.families, tree.species)
    }
    return {
        "kingdom": threshold("kingdom", softmax(kingdom_logits), kingdom, np.empty(0, np.intp)),
        "family": threshold("family", families(tree, edge), family, leaves[tree.families]),
        "species": threshold("species", cloud, held.species, leaves[tree.species]),
    }


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """Everything that a model's files are written from."""

    frame: FittedFrameHead
    judges: Judges
    sums: Sums
    thresholds: dict[str, Threshold]


def main() -> None:
    """Run this recipe."""
    tree = load_taxonomy()
    made = make(tree, {name: open_pack(name) for name in ("wild256", "wild64")}, ZOO)
    save(made, ZOO)
    write_manifest(
        Manifest(
            folder=ZOO,
            name="lite0",
            version=VERSION,
            task="wildlife",
            files={},
            labels=digest_of_labels(tree.species),
            terms=TERMS,
            size_px=SIZE_PX,
            space=made.sums.space,
            thresholds=made.thresholds,
        ),
        # Files that another recipe adds (`models.train.lite0.frames`) stay until that recipe runs again.
        tuple({*read_manifest(ZOO).files, *FILES}),
    )


def in_half(matrix: Floats) -> NDArray[np.float16]:
    """Convert the projection's matrix as the released model stores it."""
    return matrix.astype(np.float16)


def make(
    tree: Taxonomy,
    packs: dict[str, Pack],
    folder: Path,
    stored: Callable[[Floats], NDArray[np.float16]] = in_half,
) -> Made:
    """Learn all heads from the packs' photos; write the projection into `folder`, since it names the space.

    `stored` converts the projection's matrix to its stored form.
    """
    with np.load(BUILD / "classifier.npz") as file:
        imagenet = tree_start(tree, file["weights"], file["bias"])
    data = {kind: load(tree, packs, kind, "train", share) for kind, share in TREE_SHARES.items()}
    everything = together(list(data.values()))
    held = together([load(tree, packs, kind, "val") for kind in ("wild256-whole", "wild256-augmented-held")])

    full = make_tree_heads(tree, imagenet, everything, held)
    projection = make_projection(everything.feature, everything.weight, [imagenet, full.tree, own_kingdom(full)])
    matrix = stored(projection.matrix)
    space = save_projection(projection.mean, matrix, folder)
    # The heads and the sums must belong to the bytes of the stored projection.
    projection = replace(projection, matrix=matrix.astype(np.float32))
    vector = through(projection, tree, imagenet, full, held)
    sums = shipped_sums(tree, packs, space, projection, imagenet)
    # Photos from elsewhere are harder than the packs': the temperatures also see crops of camera traps.
    harder = together([held, load(tree, packs, "wild256-in-trap-held", "val")])
    judges = Judges(tree, projection, full, vector, discriminants(sums), UNCALIBRATED, UNCALIBRATED).calibrated(harder)
    frame = make_frame_head(tree, packs, full.evidence)
    for split in ("val", "test"):
        for kind in ("wild256-whole", "wild256-augmented-held", "wild256-in-trap-held", "wild64"):
            photos = load(tree, packs, kind, split)
            for tier, species in zip(("edge", "cloud"), judges.species(photos.feature), strict=True):
                measured = right(tree, species, photos.species)
                sys.stdout.write(f"{f'{kind} {split}, {tier}':40s} {measured}\n")
    thresholds = measured_thresholds(judges, frame, held)
    for rank, chosen in thresholds.items():
        sys.stdout.write(f"{rank}: {chosen}\n")
    return Made(frame, judges, sums, thresholds)


def save_projection(mean: Floats, matrix: NDArray[np.float16], folder: Path) -> str:
    """Write the projection and return the name of the space, which depends on backbone and projection only."""
    np.savez(folder / "projection.npz", mean=mean, matrix=matrix)
    meaning = (ZOO / "backbone.onnx").read_bytes() + (folder / "projection.npz").read_bytes()
    return f"lite0-{digest(meaning)[:16]}"


def save(made: Made, folder: Path) -> None:
    """Write the heads; large matrices as float16, which changes no answer of the test split."""
    frame, judges = made.frame, made.judges
    np.savez(
        folder / "frame.npz",
        **_evidence(frame.evidence),
        kingdom_weights=frame.kingdom.weights,
        kingdom_bias=frame.kingdom.bias,
        kingdom_temperature=np.float32(frame.temperature),
        # Two logits of a softmax are one of a sigmoid: their difference.
        person_weights=frame.person.weights[:, 1] - frame.person.weights[:, 0],
        person_bias=np.float32(frame.person.bias[1] - frame.person.bias[0]),
        person_threshold=np.float32(frame.threshold),
    )
    np.savez(folder / "tree.npz", **_heads(judges.feature, judges.edge))
    np.savez(folder / "vector.npz", **_heads(judges.vector, judges.cloud), **_evidence(judges.vector.evidence))
    # Without a time in the file, equal sums make equal files.
    (folder / "sums.gz").write_bytes(gzip.compress(made.sums.snapshot(), mtime=0))


def _evidence(evidence: ImageNetEvidence) -> dict[str, Any]:
    return {
        "imagenet_weights": evidence.weights.astype(np.float16),
        "imagenet_bias": evidence.bias,
        "imagenet_group": evidence.group.astype(np.int8),
    }


def _heads(heads: TreeHeads, temperatures: Temperatures) -> dict[str, Any]:
    return {
        "kingdom_weights": heads.kingdom.weights,
        "kingdom_bias": heads.kingdom.bias,
        "kingdom_temperature": np.float32(heads.kingdom_temperature),
        "tree_weights": heads.tree.weights.astype(np.float16),
        "tree_bias": heads.tree.bias,
        "tree_to": heads.tree.to.astype(np.int16),
        "tree_temperature": np.float32(heads.tree_temperature),
        "rank_temperatures": np.array([temperatures.kingdom, temperatures.family, temperatures.species], np.float32),
    }


if __name__ == "__main__":
    main()
