"""Measure accuracy against forwarding: ``python -m models.train.studies.curve``, on held-out features.

A stream that wants a family asks the cloud only in doubt. This study draws its cost and gain
(`models.train.studies.forwarding`): for every miner the share of right families against the share of events that reach
the cloud, and the point of the cascade's own rule. It does so twice: as released, where edge and cloud know the same
and the cloud reads 256 bytes instead of 1280 numbers; and with an older edge that lacks a quarter of the families,
which is the case that asking is for.

Printed: a Markdown table for each split. Written: ``docs/pictures/forwarding.svg`` (needs matplotlib).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.answering.cascade import RISK_MARGIN, decide
from models.answering.edge import situation_of
from models.evaluation.photo_pack import Pack, open_pack
from models.heads.linear import Floats, components
from models.heads.pooled import pooled, tempered
from models.heads.solve import discriminants
from models.labels.scores import softmax
from models.labels.taxonomy import KINGDOMS, Taxonomy, load_taxonomy
from models.shipped import BACKBONE, Zoo, feature_head, frame_head, load_zoo, projection, shipped_sums
from models.train.lite0.events import TIMES, add_views, imagined
from models.train.lite0.heads import (
    BUILD,
    TREE_SHARES,
    LabelledFeatures,
    load,
    make_tree_heads,
    together,
    tree_start,
)
from models.train.lite0.measure import families, fit_temperatures
from models.train.studies.forwarding import MINERS, Curve, cheapest, curve, draw, right
from models.vision.tier_models import EdgePrediction, rolled
from pipeline.messages import Rank
from pipeline.sums.sums import Sums

PICTURE = Path(__file__).parents[3] / "docs" / "pictures" / "forwarding.svg"
KINDS = {"wild256-whole": "wild256, photos", "wild64": "wild64, 64x64 pictures"}
# The accepted loss against the cloud alone.
WITHIN = 0.005
# The older edge knows three quarters of the families.
UNLEARNED_SHARE = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Held-out events answered by both tiers: species (n, s) each, true families, and whether a person raised (n,)."""

    edge: Floats
    cloud: Floats
    truths: NDArray[np.intp]
    person: NDArray[np.bool_]


def as_released(tree: Taxonomy, zoo: Zoo, photos: LabelledFeatures) -> Events:
    """Answer photos by the shipped heads."""
    manifest, grown, far = zoo.manifest("lite0"), zoo.base().grown(), zoo.base().head()
    frame = frame_head(manifest)
    near = grown.pooled_heads(feature_head(manifest, tree, frame.evidence), grown.calibration.edge)
    vectors = projection(manifest).bytes(photos.feature)
    return Events(
        np.stack([near.species(x, vector) for x, vector in zip(photos.feature, vectors, strict=True)]),
        np.stack([far.species(components(vector, far.dimension), vector) for vector in vectors]),
        tree.family_of[photos.species],
        frame.judge(photos.feature)[1] >= frame.person_threshold,
    )


class OlderEdge:
    """The release's recipe on three quarters of the families, like an edge before the newest release."""

    def __init__(self, tree: Taxonomy, zoo: Zoo, packs: Mapping[str, Pack]) -> None:
        with np.load(BUILD / "classifier.npz") as file:
            imagenet = tree_start(tree, file["weights"], file["bias"])
        sets = {kind: load(tree, packs, kind, "train", share) for kind, share in TREE_SHARES.items()}
        known = _known_families(tree, sets)
        data = {kind: views.chosen(known[tree.family_of[views.species]]) for kind, views in sets.items()}
        held = load(tree, packs, "wild256-whole", "val")
        held = held.chosen(known[tree.family_of[held.species]])
        manifest = zoo.manifest("lite0")
        self._tree, self._projection = tree, projection(manifest)
        self._heads = make_tree_heads(tree, imagenet, together(list(data.values())), held)
        sums = shipped_sums(manifest)
        seen = Sums.empty(sums.space, sums.dimension, sums.labels)
        for kind, views in data.items():
            vectors = self._projection.bytes(views.feature)
            seen = add_views(seen, vectors, views.species, TIMES.get(kind, 1))
        of_vectors = zoo.base().tuned.evidence.weights
        self._solved = discriminants(seen.merge(imagined(seen, tree, of_vectors)))
        self._temperatures = fit_temperatures(tree, self._pooled(held.feature), held.species)

    def species(self, feature: Floats) -> Floats:
        """Return species (n, s) of features (n, 1280)."""
        return tempered(self._tree, self._pooled(feature), self._temperatures)

    def _pooled(self, feature: Floats) -> Floats:
        solved = softmax(self._solved.logits(self._projection.bytes(feature)))
        return pooled(self._tree, self._heads.species(self._tree, feature), solved)


def _known_families(tree: Taxonomy, sets: Mapping[str, LabelledFeatures]) -> NDArray[np.bool_]:
    """Return which families the older edge knows, (families,): it lacks a quarter of those with photos, but no leaf."""
    shown = np.unique(np.concatenate([tree.family_of[views.species] for views in sets.values()]))
    shown = shown[[tree.families[at] not in KINGDOMS for at in shown.tolist()]]
    known = np.ones(len(tree.families), np.bool_)
    known[np.random.default_rng(0).permutation(shown)[: round(UNLEARNED_SHARE * len(shown))]] = False
    return known


def by_the_rule(tree: Taxonomy, thresholds: Mapping[str, float], events: Events) -> NDArray[np.bool_]:
    """Return which events the cascade forwards if a family is wanted, (n,)."""
    forwarded = []
    for species, person in zip(events.edge, events.person.tolist(), strict=True):
        scores, family, kingdom = rolled(tree, species)
        prediction = EdgePrediction(
            family=family,
            kingdom=kingdom,
            person=0.0,
            person_raised=person,
            vector=np.empty(0, np.uint8),
            ms=0.0,
            model=BACKBONE,
            thresholds=thresholds,
            tree=tree,
            species=scores,
        )
        forwarded.append(decide(situation_of(prediction, wants=Rank.FAMILY)).forward)
    return np.array(forwarded, np.bool_)


def report(tree: Taxonomy, zoo: Zoo, events: Events) -> tuple[Mapping[str, Curve], tuple[float, float], str]:
    """Return curves by miner, the rule's point (share, accuracy), and both as a Markdown table."""
    edge, cloud = families(tree, events.edge), families(tree, events.cloud)
    near, far = right(edge, events.truths), right(cloud, events.truths)
    lines = {name: curve(miner(edge), near, far) for name, miner in MINERS.items()}
    forwarded = by_the_rule(tree, zoo.thresholds(), events)
    point = float(forwarded.mean()), float(np.where(forwarded, far, near).mean())
    shares = (0.0, 0.1, 0.25, 0.5, 1.0)
    text = (
        f"| forwarded by | {' | '.join(f'{share:.0%}' for share in shares)} | within {WITHIN:.1%} of the cloud at |\n"
    )
    text += "| --- |" + " ---: |" * (len(shares) + 1) + "\n"
    for name, line in lines.items():
        at = [line.accuracy[round(share * len(near))] for share in shares]
        least = line.share[cheapest(line, WITHIN)]
        text += f"| {name} | {' | '.join(f'{accuracy:.1%}' for accuracy in at)} | {least:.1%} |\n"
    text += f"\nThe cascade's rule (margin below {RISK_MARGIN}): {point[0]:.1%} forwarded, {point[1]:.1%} right.\n"
    return lines, point, text


def main() -> None:
    """Run this study."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--split", choices=("val", "test"), default="test", help="val to choose by, test to report")
    given = options.parse_args()
    tree, zoo = load_taxonomy(), load_zoo()
    packs = {name: open_pack(name) for name in ("wild256", "wild64")}
    before = OlderEdge(tree, zoo, packs)
    panels = {}
    for kind, name in KINDS.items():
        photos = load(tree, packs, kind, given.split)
        released = as_released(tree, zoo, photos)
        behind = replace(released, edge=before.species(photos.feature))
        for title, events in ((f"{name}: as released", released), (f"{name}: an older edge", behind)):
            lines, point, text = report(tree, zoo, events)
            sys.stdout.write(f"\n**{title}** ({len(events.truths)} events of the {given.split} split)\n\n{text}")
            panels[title] = lines, point
    if given.split == "test":
        draw(panels, PICTURE)


if __name__ == "__main__":
    main()
