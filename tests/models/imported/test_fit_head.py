"""A backbone gets a head from labelled photos: by the sums, calibrated and tested on photos that it did not see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sample_onnx import BLUE, GREEN, RED, coloured, colours, features, png, save

from models.evaluation.photo_set import Photo
from models.heads.solve import solve
from models.imported.family_model import edge_model_opener
from models.imported.fit_head import PARTS, Fitted, backbone_of, fit, next_version
from models.imported.imported_model import SUMS, ByteRange, open_model
from models.imported.importing import Wanted, prepare
from models.imported.registry import ModelEntry, Registry
from models.labels.taxonomy import load_taxonomy
from models.shipped import load_zoo
from pipeline.errors import Stop
from pipeline.sums.sums import Sums

TREE = load_taxonomy()
LABELS = {"tiger": RED, "wolf": GREEN, "other": BLUE}


def photos(count: int, labels: dict[str, np.ndarray] = LABELS, start: int = 0) -> list[Photo]:
    return [
        Photo(f"{label}/{seed}.png", TREE.path(TREE.find(label)), label, png(coloured(colour, seed)))
        for label, colour in labels.items()
        for seed in range(start, start + count)
    ]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


@pytest.fixture
def backbone(registry: Registry, tmp_path: Path) -> ModelEntry:
    file = save(features(), tmp_path / "mine.onnx")
    draft, _ = prepare(Wanted(file, "backbone"), TREE, lite0=lambda its: its, who="ada", when="today")
    return registry.add("mine", draft)


@pytest.fixture
def fitted(backbone: ModelEntry) -> Fitted:
    return fit("mine", backbone_of(backbone), photos(10), TREE)


def test_a_backbone_names_nothing_before_it_was_fitted(registry: Registry, backbone: ModelEntry) -> None:
    with pytest.raises(Stop, match=r"mine@1 is a backbone without a head.*tierwise models fit mine"):
        edge_model_opener(load_zoo(), registry, backbone.title)(None)


def test_a_fitted_backbone_is_a_new_version_that_names_families_at_the_edge(
    registry: Registry, backbone: ModelEntry, fitted: Fitted
) -> None:
    made = registry.add("mine", next_version(backbone, fitted, who="ada", when="today"))
    assert made.title == "mine@2"
    assert made.manifest.space == fitted.sums.space
    eye = edge_model_opener(load_zoo(), registry, "mine@2")(None)
    for colour, family in ((RED, "Felidae"), (GREEN, "Canidae"), (BLUE, "other")):
        sight = eye.predict(coloured(colour, seed=99))
        assert (sight.family.best[0], sight.model) == (family, "mine@2")
    # The version before is as it was.
    assert not registry.entry("mine@1").has("head.npz")


def test_its_figures_are_of_photos_kept_aside(fitted: Fitted) -> None:
    figures = fitted.figures
    assert (figures.learned_from, figures.calibrated_on, figures.photos) == (18, 6, 6)
    assert figures.likeliest.share == 1.0
    assert figures.labels == 3


def test_its_sums_are_kept_and_give_the_same_head_again(
    registry: Registry, backbone: ModelEntry, fitted: Fitted
) -> None:
    made = registry.add("mine", next_version(backbone, fitted, who="ada", when="today"))
    sums = Sums.restore(made.read(SUMS))
    assert sums.events == 18
    assert np.array_equal(solve(sums, rank="species").weights, fitted.head.weights)


def test_neither_order_nor_names_nor_copies_of_the_photos_change_the_head(backbone: ModelEntry, fitted: Fitted) -> None:
    shuffled = [Photo(f"x{at}", its.truth, "y", its.source) for at, its in enumerate(reversed(photos(10) + photos(4)))]
    again = fit("mine", backbone_of(backbone), shuffled, TREE)
    assert again.sums.snapshot() == fitted.sums.snapshot()
    assert np.array_equal(again.head.weights, fitted.head.weights)


def test_a_second_fit_is_told_alone_on_its_card(registry: Registry, backbone: ModelEntry, fitted: Fitted) -> None:
    second = registry.add("mine", next_version(backbone, fitted, who="ada", when="today"))
    third = registry.add("mine", next_version(second, fitted, who="bob", when="tomorrow"))
    assert third.card.startswith("# mine, version 3\n")
    assert third.card.count("made from") == 1
    assert "mine@2 by bob, tomorrow" in third.card
    assert "`mine.onnx`" in third.card


@pytest.mark.parametrize(
    ("few", "complaint"),
    [
        (photos(10, {"tiger": RED}), "at least two; these are all Panthera tigris"),
        (photos(10) + photos(len(PARTS) - 1, {"cat": RED}, 50), r"fewer have: Felis catus \(4\)"),
    ],
)
def test_too_little_to_learn_from_is_refused(backbone: ModelEntry, few: list[Photo], complaint: str) -> None:
    with pytest.raises(Stop, match=complaint):
        fit("mine", backbone_of(backbone), few, TREE)


def test_a_classifier_is_not_fitted(registry: Registry, tmp_path: Path) -> None:
    listed = tmp_path / "labels.txt"
    listed.write_text("tiger\nwolf\nother\n")
    file = save(colours(), tmp_path / "c.onnx")
    wanted = Wanted(file, "classifier", labels=listed)
    draft, _ = prepare(wanted, TREE, lite0=lambda its: its, who="ada", when="today")
    with pytest.raises(Stop, match="is a classifier and answers already"):
        backbone_of(registry.add("c", draft))


def test_a_damaged_model_never_answers(registry: Registry, backbone: ModelEntry, fitted: Fitted) -> None:
    made = registry.add("mine", next_version(backbone, fitted, who="ada", when="today"))
    head = made.manifest.folder / "head.npz"
    head.write_bytes(head.read_bytes()[:-1] + b"!")
    with pytest.raises(Stop, match=r"head\.npz is damaged or was changed"):
        open_model(registry.entry("mine@2"), TREE)


def test_a_component_that_never_varies_stays_within_a_byte() -> None:
    steady = np.ones((10, 3), np.float32)
    levels = ByteRange.of(steady).bytes(np.array([0.0, 1.0, 2.0], np.float32))
    assert levels.dtype == np.uint8
    assert levels[0] == 0 and levels[2] == 255
