"""What ships as sums: views as events, and a few imagined ones of species that no photo showed."""

from __future__ import annotations

import numpy as np

from models.heads.solve import discriminants
from models.labels.taxonomy import IMAGENET_CLASSES, load_taxonomy
from models.train.lite0.events import IMAGINED_EVENTS, REACH, add_views, imagined
from pipeline.sums.sums import Sums

TREE = load_taxonomy()
D = 24
TIGER, LION, KOALA = (TREE.species.index(TREE.find(name)) for name in ("tiger", "lion", "koala"))


def seen() -> Sums:
    rng = np.random.default_rng(0)
    vectors = np.clip(rng.normal(128, 32, (80, D)), 0, 255).astype(np.uint8)
    return Sums.empty("s", D, TREE.species).add(vectors, np.repeat([TIGER, LION], 40))


def imagenet() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.5, (D, IMAGENET_CLASSES)).astype(np.float32)


def test_views_that_count_three_times_are_three_events_each() -> None:
    vectors = np.full((2, D), 9, np.uint8)
    empty = Sums.empty("s", D, TREE.species)
    thrice = add_views(empty, vectors, np.array([TIGER, LION]), times=3)
    once = empty.add(vectors, [TIGER, LION])
    assert thrice.snapshot() == once.merge(once).merge(once).snapshot()


def test_species_without_photos_are_imagined_and_no_others() -> None:
    more = imagined(seen(), TREE, imagenet())
    assert more.counts[KOALA] == IMAGINED_EVENTS
    assert more.counts[TIGER] == more.counts[LION] == 0
    unnamed = [at for at, row in enumerate(TREE.rows) if not row.imagenet]
    assert more.counts[unnamed].sum() == 0
    assert more.space == "s" and more.labels == TREE.species


def test_the_same_events_are_imagined_every_time() -> None:
    assert imagined(seen(), TREE, imagenet()).snapshot() == imagined(seen(), TREE, imagenet()).snapshot()


def test_a_vector_where_imagenet_s_class_points_is_named_so() -> None:
    weights, sums = imagenet(), seen()
    head = discriminants(sums.merge(imagined(sums, TREE, weights)))
    koala = TREE.rows[KOALA].imagenet[0]
    centre = sums.gram[-1, :-1] / sums.events
    there = centre + 32 * REACH * (weights - weights.mean(1, keepdims=True))[:, koala]
    assert int(head.logits(np.clip(np.rint(there), 0, 255).astype(np.uint8)).argmax()) == KOALA
