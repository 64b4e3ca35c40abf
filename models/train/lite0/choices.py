"""The choices behind lite0, measured on validation photos: ``python -m models.train.lite0.choices``.

Served size, int8 against float32, and the vector's length, each with heads fitted for it by the release's recipe. To be
affordable the heads see wild256's train split alone (every photo and two augmented views of it), so the figures compare
with one another and not with the card's. The test split plays no part.

Needs ``models.train.lite0.features --choices``. Prints three Markdown tables.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.evaluation.photo_pack import Pack, open_pack
from models.labels.taxonomy import Taxonomy, load_taxonomy
from models.onnx_session import Backbone, Network, serve
from models.train.lite0.features import CHOICE_SIZES_PX, FLOAT, SIZE_PX, ZOO
from models.train.lite0.heads import (
    BUILD,
    SHARES,
    LabelledFeatures,
    TreeHeads,
    load,
    make_tree_heads,
    own_kingdom,
    through,
    together,
    tree_start,
)
from models.train.lite0.linear import Linear, make_projection
from models.train.lite0.lite0 import as_floats
from models.train.lite0.measure import RankAccuracy, right
from models.train.pictures.views import Picture

VECTOR_BYTES = (128, 192, 256, 384, 512)
# The release's sets hold five augmented views a photo; the other sizes have two.
VIEWS_KEPT = 2
# On a seventh of the release's pictures, half of its steps.
ROUNDS = 3
REPEATS = 60


@dataclass(frozen=True, slots=True, eq=False)
class FittedChoice:
    """What was fitted on one network's features: train rows, validation rows, heads."""

    data: LabelledFeatures
    held: LabelledFeatures
    heads: TreeHeads


def fitted(tree: Taxonomy, packs: dict[str, Pack], imagenet: Linear, served: str) -> FittedChoice:
    """Heads on the features of one size and network (`224`, `160`, `224-float`)."""
    parts = [
        load(tree, packs, "wild256-whole", "train", SHARES["wild256-whole"], served),
        load(tree, packs, "wild256-augmented", "train", 1.0, served).first_views(VIEWS_KEPT),
    ]
    held = [load(tree, packs, kind, "val", 1.0, served) for kind in ("wild256-whole", "wild256-augmented-held")]
    data, val = together(parts), together(held)
    return FittedChoice(data, val, make_tree_heads(tree, imagenet, data, val, ROUNDS))


def median_ms(feature_of: Callable[[Picture], object], picture: Picture) -> float:
    """Median milliseconds of processor time a call, which neighbours on the machine disturb least."""
    spans = []
    for _ in range(REPEATS):
        start = time.process_time()
        feature_of(picture)
        spans.append((time.process_time() - start) * 1e3)
    return float(np.median(spans))


def row(name: str, accuracy: RankAccuracy, *more: str) -> str:
    """One line of a table."""
    shares = (
        accuracy.kingdom,
        accuracy.family_of_animals,
        accuracy.species_of_animals,
        accuracy.species_of_plants,
    )
    return " | ".join(["| " + name, *(f"{share:.1%}" for share in shares), f"{accuracy.loss:.3f}", *more]) + " |\n"


def head_of(*more: str) -> str:
    """Return a table's head."""
    columns = ("kingdom", "family of animals", "species of animals", "species of plants", "loss", *more)
    return f"\n| | {' | '.join(columns)} |\n| --- |{' ---: |' * len(columns)}\n"


def main() -> None:
    """Run this recipe."""
    tree, say = load_taxonomy(), sys.stdout.write
    packs = {"wild256": open_pack("wild256")}
    with np.load(BUILD / "classifier.npz") as file:
        imagenet = tree_start(tree, file["weights"], file["bias"])
    photo = packs["wild256"].picture(packs["wild256"].rows("val")[0])
    network = Network(FLOAT)
    ms = {str(size): median_ms(Backbone(ZOO, size).feature, photo) for size in (*CHOICE_SIZES_PX, SIZE_PX)}
    ms[f"{SIZE_PX}-float"] = median_ms(lambda picture: network.run(as_floats(serve(picture, SIZE_PX))), photo)
    chosen = fitted(tree, packs, imagenet, str(SIZE_PX))
    say(f"{len(chosen.data.species)} training and {len(chosen.held.species)} validation views\n")
    say(head_of("ms"))
    for served in sorted(ms):
        found = chosen if served == str(SIZE_PX) else fitted(tree, packs, imagenet, served)
        accuracy = right(tree, found.heads.species(tree, found.held.feature), found.held.species)
        say(
            row(
                f"{served.replace('-', ', ')}{'' if 'float' in served else ', int8'}",
                accuracy,
                f"{ms[served]:.1f}",
            )
        )
    say(head_of())
    say(row("1280 numbers", right(tree, chosen.heads.species(tree, chosen.held.feature), chosen.held.species)))
    for count in VECTOR_BYTES:
        projection = make_projection(
            chosen.data.feature,
            chosen.data.weight,
            [imagenet, chosen.heads.tree, own_kingdom(chosen.heads)],
            count,
        )
        vector = through(projection, tree, imagenet, chosen.heads, chosen.held)
        species = vector.species(tree, projection.components(chosen.held.feature))
        say(row(f"{count} bytes", right(tree, species, chosen.held.species)))


if __name__ == "__main__":
    main()
