"""The learning demo's choices and figures, and a small run of the real thing where the photos are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sample_messages import event_id, result

from agents.demo.learning.demo import LearningDemo, LearningRequest
from agents.demo.learning.lessons import BEFORE, Amounts, LessonPhoto, chosen
from agents.demo.learning.worth import LAST, score, truth_path
from models.evaluation.photo_pack import Pack, data_root, open_pack
from models.labels.taxonomy import load_taxonomy
from models.shipped import load_zoo
from pipeline.errors import Stop
from pipeline.messages import Result

NEW = ("Caracal caracal", "Dahlia")


def pack(species: tuple[str, ...], of_each: int = 30) -> Pack:
    """Photos that are three bytes each; of every species some in each split."""
    tree = load_taxonomy()
    names = [row.names[0] for row in tree.rows if row.label in species]
    rows = [(name, split) for name in names for split in ("train", "val", "test") for _ in range(of_each)]
    jpeg = np.arange(3 * len(rows), dtype=np.uint64).astype(np.uint8)
    return Pack(
        name="small",
        jpeg=jpeg,
        offset=np.arange(0, 3 * len(rows) + 3, 3),
        species=tuple(name for name, _ in rows),
        split=tuple(split for _, split in rows),
        source=("here",) * len(rows),
        path=tuple(map(str, range(len(rows)))),
    )


def photo(species: str, family: str, kingdom: str, *, new: bool = False) -> LessonPhoto:
    return LessonPhoto(b"", species, family, kingdom, new)


def said(*path: str) -> Result:
    return result(event_id(1), path=path, label=path[-1])


def test_photos_to_label_and_photos_to_ask_about_are_of_different_splits() -> None:
    photos = chosen(pack((*NEW, "Vulpes vulpes")), load_zoo(BEFORE).tree, Amounts(labels=20, tests=5, known=7))
    assert set(photos.new_species) == set(NEW)
    assert not {its.jpeg for its in photos.to_label} & {its.jpeg for its in photos.tests if its.new}
    assert sum(its.new for its in photos.tests) == 2 * 5
    assert sum(not its.new for its in photos.tests) == 7
    assert {its.under for its in photos.to_label} == {"animal/Felidae", "plant/Asteraceae"}


def test_the_same_photos_are_drawn_each_time() -> None:
    tree, amounts = load_zoo(BEFORE).tree, Amounts(labels=20, tests=5, known=7)
    some = pack((*NEW, "Vulpes vulpes"))
    assert chosen(some, tree, amounts) == chosen(some, tree, amounts)


def test_a_pack_without_a_new_species_teaches_nothing() -> None:
    with pytest.raises(Stop, match="no species that the first model does not know"):
        chosen(pack(("Vulpes vulpes",)), load_zoo(BEFORE).tree, Amounts())


def test_too_few_photos_are_told() -> None:
    with pytest.raises(Stop, match="too few"):
        chosen(pack(NEW, of_each=5), load_zoo(BEFORE).tree, Amounts(labels=20))


def test_higher_up_the_tree_is_neither_right_nor_wrong() -> None:
    caracal = photo("Caracal caracal", "Felidae", "animal", new=True)
    answers = [
        said("animal", "Felidae", "Caracal caracal"),
        said("animal", "Felidae"),
        said("animal", "Felidae", "Panthera leo"),
        said("plant"),
        None,
    ]
    of = score([caracal] * 5, answers)
    assert (of.photos, of.species, of.family, of.wrong) == (5, 1, 3, 2)
    assert of.percent(of.species) == 20.0


def test_a_leaf_of_the_tree_is_one_step() -> None:
    assert truth_path(photo("person", "person", "person")) == ("person",)


@pytest.mark.e2e
def test_labels_over_mqtt_become_answers_of_edge_and_cloud_with_nothing_restarted(tmp_path: Path) -> None:
    if not (data_root() / "wild256").is_dir():
        pytest.skip("the photos of wild256 are not here: TIERWISE_DATASETS names the folder that holds them")
    amounts = Amounts(labels=20, tests=4, known=8, species=2)
    ended: list[str] = []
    run = LearningDemo(
        LearningRequest(tmp_path / "learning", amounts, canary_s=3),
        open_pack("wild256"),
        lambda news: ended.append(f"{news.part} {news.text}") if news.event.name == "DIED" else None,
        lambda _stage: None,
    )
    try:
        run.start()
        worth = run.run()
    finally:
        run.stop()
    assert not ended
    assert worth.models[0] == "lite0@1"
    assert worth.models[1] != "lite0@1"
    (cloud_before, cloud_after), (edge_before, edge_after) = worth.new["cloud"], worth.new["edge"]
    assert cloud_before.species == 0
    assert cloud_after.species > 0
    assert edge_after.family >= edge_before.family
    assert worth.known[1].species >= worth.known[0].species - 1
    assert worth.new[LAST][1].species >= cloud_after.species
