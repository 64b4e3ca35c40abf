"""A model that never met two families and five species ships, answers, and can be taught them."""

from __future__ import annotations

import numpy as np
import pytest
from sample_release import sample_release

from models.evaluation.photo_pack import Pack, data_root, open_pack
from models.heads.release import HeadRelease
from models.labels.taxonomy import TABLE, load_taxonomy, read_taxonomy
from models.shipped import load_zoo
from models.train.studies.learning import LABELS, LabelledPhoto, lessons, rows_of
from models.train.studies.without import BEFORE, FAMILIES, SPECIES, left_out, rows_left_out, shortened
from pipeline.errors import Rejected, Stop

ZOO = load_zoo(BEFORE)
FULL = load_taxonomy()
GONE = {row.label for row in FULL.rows if row.family in FAMILIES or row.label in SPECIES}


def test_its_tree_lacks_what_was_held_out_and_nothing_else() -> None:
    assert set(FULL.species) - set(ZOO.tree.species) == GONE
    assert not set(FAMILIES) & set(ZOO.tree.families)
    assert len(SPECIES) == 5 and not any(row.imagenet for row in FULL.rows if row.label in GONE)


def test_the_shipped_table_is_what_the_recipe_makes() -> None:
    assert (BEFORE / "taxonomy.tsv").read_text("utf-8") == rows_left_out(TABLE.read_text("utf-8"))
    assert read_taxonomy(BEFORE / "taxonomy.tsv").species == ZOO.tree.species


def test_it_answers_on_its_own_and_the_backbone_is_the_released_one() -> None:
    eye = ZOO.cloud_model()
    assert eye.name == "lite0@1"
    assert eye.space != load_zoo().cloud_model().space
    seen = ZOO.edge_model().predict(np.full((64, 64, 3), 90, np.uint8))
    assert eye.predict(seen.vector).species.labels == ZOO.tree.species
    assert not (BEFORE / "lite0" / "backbone.onnx").exists()


def test_a_release_of_the_shipped_model_is_none_of_it() -> None:
    with pytest.raises(Rejected, match="installed is lite0@1"):
        ZOO.cloud_model(sample_release())


def test_shortened_weights_are_near_and_end_in_zeros() -> None:
    values = np.random.default_rng(0).normal(size=1000).astype(np.float16)
    kept = shortened(values, 5)
    assert np.abs(kept.astype(float) / values.astype(float) - 1).max() <= 2**-6
    assert not (kept.view(np.uint16) & 0b11111).any()


def pack(name: str, species: list[str]) -> Pack:
    nothing = np.zeros(0, np.uint8)
    names = tuple(species)
    splits = tuple("train" for _ in species)
    return Pack(name, nothing, np.zeros(len(names) + 1, np.int64), names, splits, names, names)


def test_photos_of_held_out_species_are_in_no_split() -> None:
    its = left_out(pack("wild64", ["caracal", "lion", "passion_flower", "scene_forest"]), ZOO.tree)
    assert its.split == ("", "train", "", "train")


def test_lessons_say_where_each_new_label_belongs() -> None:
    packs = {name: pack(name, ["caracal", "lion", "passion_flower", "anthurium"]) for name in LABELS}
    found = lessons(packs, ZOO.tree)
    assert {(its.label, its.under) for its in found} == {
        ("Caracal caracal", "Felidae"),
        ("Passiflora", "plant/Passifloraceae"),
        ("Anthurium", "plant/Araceae"),
    }
    assert LabelledPhoto("wild64", 0, "Caracal caracal", "Felidae", "caracal").event in {its.event for its in found}
    assert [row.label for row in rows_of(ZOO.tree, found)] == ["Caracal caracal", "Anthurium", "Passiflora"]


def test_twenty_labels_of_each_teach_what_was_never_seen() -> None:
    from models.train.lite0.features import FEATURES
    from models.train.studies.learning import KINDS, answered, photographed, taught
    from models.training.report import figures

    try:
        packs = {name: open_pack(name) for name in KINDS}
    except Stop:
        pytest.skip(f"the packs are not in {data_root()}")
    if not (FEATURES / "wild64-224.npz").is_file():
        pytest.skip("no features: python -m models.train.lite0.features")
    base = ZOO.base()
    photos = {name: photographed(its, base) for name, its in packs.items()}
    outcome = taught(base, photos, {"home": lessons(packs, base.tree)})
    assert outcome.release is not None, outcome.report.refused
    release = HeadRelease.of(outcome.release.files())
    whole = photos["wild256"]
    for labels, least in ((GONE, 0.55), (set(base.tree.species), 0.92)):
        test = whole.chosen((whole.split == "test") & np.isin(whole.labels, sorted(labels)))
        tree, species = answered(base, release, test, "cloud")
        assert figures(tree, species, test.labels.tolist(), FULL).labels.rate >= least
