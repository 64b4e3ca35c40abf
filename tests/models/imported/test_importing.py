"""A model that is imported was looked into, loaded, tried and measured; whatever is wrong with it is one clear line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from sample_onnx import BLUE, GREEN, RED, coloured, colours, features, save

from models.imported.family_model import ImportedFamilyModel, edge_model_opener
from models.imported.imported_model import PRESETS, ImportedNetwork, open_model, read_spec
from models.imported.importing import OPSETS, Wanted, prepare, read_labels
from models.imported.registry import Draft, Registry
from models.imported.trial_run import ImportFigures
from models.labels.taxonomy import load_taxonomy
from models.shipped import load_zoo
from models.vision import images
from pipeline.errors import Stop

TREE = load_taxonomy()
THREE = "tiger\nbig_dog\tCanidae\nrock\t-\n"


def bring(folder: Path, model: onnx.ModelProto, labels: str | None = THREE, **wanted: Any) -> Draft:
    return brought(folder, model, labels, **wanted)[0]


def brought(
    folder: Path, model: onnx.ModelProto, labels: str | None = THREE, **wanted: Any
) -> tuple[Draft, ImportFigures]:
    file, listed = save(model, folder / "mine.onnx"), folder / "labels.txt"
    if labels is not None:
        listed.write_text(labels, "utf-8")
    smoke = wanted.pop("smoke", ())
    asked = Wanted(
        file=file,
        kind=wanted.pop("kind", "classifier"),
        labels=wanted.pop("labels", listed if labels is not None else None),
        intake=wanted.pop("intake", PRESETS["unit"]),
        **wanted,
    )
    return prepare(asked, TREE, lite0=lambda picture: picture, smoke=smoke, who="ada", when="today")


# --- the good way ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_a_classifier_names_families_by_summing_its_labels_up_the_tree(tmp_path: Path, opset: int) -> None:
    registry = Registry(tmp_path / "models")
    entry = registry.add("mine", bring(tmp_path, colours(opset=opset)))
    family, kingdom = open_model(entry, TREE).predict(coloured(RED))
    assert family.labels == ("Felidae", "Canidae", "other")
    assert family.best[0] == "Felidae"
    assert kingdom.best[0] == "animal"
    assert kingdom.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert read_spec(entry).outputs == "probabilities"


@pytest.mark.parametrize(
    ("shape", "element", "layout", "size"),
    [
        ((1, 3, 32, 48), TensorProto.FLOAT, "nchw", (32, 48)),
        (("n", "h", "w", 3), TensorProto.FLOAT, "nhwc", (64, 64)),
        ((1, 40, 40, 3), TensorProto.UINT8, "nhwc", (40, 40)),
    ],
)
def test_both_layouts_free_sides_and_bytes_are_taken(
    tmp_path: Path, shape: tuple[Any, ...], element: int, layout: str, size: tuple[int, int]
) -> None:
    free = "h" in shape
    made = colours(np.eye(3) * (8 if element == 1 else 0.05), shape=shape, element=element)
    intake = PRESETS["unit"] if element == 1 else PRESETS["raw"]
    draft = bring(tmp_path, made, size_px=64 if free else None, intake=intake)
    entry = Registry(tmp_path / "models").add("mine", draft)
    spec = read_spec(entry)
    assert (spec.layout, spec.size) == (layout, size)
    assert open_model(entry, TREE).predict(coloured(GREEN))[0].best[0] == "Canidae"


def test_logits_are_found_out_and_become_probabilities(tmp_path: Path) -> None:
    entry = Registry(tmp_path / "models").add("mine", bring(tmp_path, colours(softmax=False)))
    assert read_spec(entry).outputs == "logits"
    family, _ = open_model(entry, TREE).predict(coloured(BLUE))
    assert family.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert family.best[0] == "other"


def test_pictures_of_ones_own_are_tried_as_well(tmp_path: Path) -> None:
    picture = tmp_path / "cat.png"
    cv2.imwrite(str(picture), coloured(RED))
    _, figures = brought(tmp_path, colours(), smoke=[picture])
    _, without = brought(tmp_path, colours())
    assert figures.pictures == without.pictures + 1
    assert figures.ms > 0 and figures.ratio > 0


def test_photos_are_decoded_one_at_a_time_and_no_larger_than_the_model_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = tmp_path / "large.jpg"
    cv2.imwrite(str(photo), coloured(RED, side=1024))
    seen: list[tuple[str, tuple[int, ...]]] = []

    def decode(data: bytes, at_least_px: int | None = None) -> images.Picture:
        picture = whole(data, at_least_px)
        seen.append(("decoded", picture.shape))
        return picture

    def raw(own: ImportedNetwork, picture: images.Picture) -> np.ndarray:
        seen.append(("tried", picture.shape))
        return run(own, picture)

    whole, run = images.decode, ImportedNetwork.raw
    monkeypatch.setattr(images, "decode", decode)
    monkeypatch.setattr(ImportedNetwork, "raw", raw)
    bring(tmp_path, colours(shape=(1, 3, 100, 100)), smoke=[photo, photo])
    small = (128, 128, 3)  # an eighth of 1024
    mine = [step for step in seen if step[1] == small]
    assert mine == [("decoded", small), ("tried", small), ("tried", small)] * 2


def test_the_card_tells_source_terms_and_who(tmp_path: Path) -> None:
    entry = Registry(tmp_path / "models").add("mine", bring(tmp_path, colours(), terms="CC BY 4.0"))
    spec = read_spec(entry)
    for told in ("# mine, version 1", "`mine.onnx`", spec.sha256, "CC BY 4.0", "by ada, today", "opset 17"):
        assert told in entry.card


def test_the_channels_reach_the_network_in_the_order_it_was_trained_with(tmp_path: Path) -> None:
    entry = Registry(tmp_path / "models").add(
        "mine", bring(tmp_path, colours(np.eye(3) * 0.05), intake=PRESETS["caffe"])
    )
    # Caffe's first channel is blue.
    assert open_model(entry, TREE).predict(coloured(BLUE))[0].best[0] == "Felidae"


def test_the_edge_answers_with_it_and_keeps_the_released_vector(tmp_path: Path) -> None:
    zoo, registry = load_zoo(), Registry(tmp_path / "models")
    entry = registry.add("mine", bring(tmp_path, colours()))
    eye, released = edge_model_opener(zoo, registry, entry.title)(None), zoo.edge_model()
    assert isinstance(eye, ImportedFamilyModel)
    sight, before = eye.predict(coloured(RED)), released.predict(coloured(RED))
    assert (sight.model, sight.family.best[0]) == ("mine@1", "Felidae")
    assert np.array_equal(sight.vector, before.vector)
    assert eye.space == released.space
    by_vector = eye.predict_vector(before.vector)
    assert by_vector.model == released.name
    assert sight.person_raised == before.person_raised


def test_a_person_that_the_own_model_sees_raises_the_level(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "models")
    entry = registry.add("mine", bring(tmp_path, colours(), "person\ntiger\nother\n"))
    assert edge_model_opener(load_zoo(), registry, entry.title)(None).predict(coloured(RED)).person_raised


def test_without_a_title_or_with_the_released_backbones_the_released_eye_answers(tmp_path: Path) -> None:
    zoo = load_zoo()
    for title in ("", zoo.manifest("lite0").title):
        assert not isinstance(edge_model_opener(zoo, Registry(tmp_path / "models"), title)(None), ImportedFamilyModel)


@pytest.mark.parametrize("name", ["glimpse", "occupancy"])
def test_a_released_model_that_names_no_families_never_passes_for_the_edges(name: str, tmp_path: Path) -> None:
    zoo = load_zoo()
    with pytest.raises(Stop, match=rf"{name}@1 answers no families: name lite0@"):
        edge_model_opener(zoo, Registry(tmp_path / "models"), zoo.manifest(name).title)(None)


# --- labels ----------------------------------------------------------------------------------------------------


def test_labels_map_by_a_tab_and_what_has_no_place_is_other() -> None:
    assert read_labels(THREE, TREE, "labels.txt") == ("Panthera tigris", "Canidae", "other")


def test_every_label_that_is_not_in_the_tree_is_named_with_the_nearest() -> None:
    with pytest.raises(Stop) as stopped:
        read_labels("tigr\n\nxyzzy\n", TREE, "labels.txt")
    told = str(stopped.value)
    assert "line 1: the label tree has no 'tigr'; did you mean" in told
    assert "line 2 is empty" in told
    assert "line 3: the label tree has no 'xyzzy'" in told
    assert "name<TAB>label of the tree" in told


# --- what is refused -----------------------------------------------------------------------------------------------


def node(*arguments: Any, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(*arguments, **attributes)


def without_input() -> onnx.ModelProto:
    value = helper.make_tensor("v", TensorProto.FLOAT, (1, 3), [0.2, 0.3, 0.5])
    out = helper.make_tensor_value_info("p", TensorProto.FLOAT, (1, 3))
    graph = helper.make_graph([node("Constant", [], ["p"], value=value)], "none", [], [out])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def looping(*, within_branches: int = 0) -> onnx.ModelProto:
    """Hands the answer on 2^62 times; within so many `If`s, each in the one before."""
    cond = helper.make_tensor_value_info("cond", TensorProto.BOOL, ())
    body = helper.make_graph(
        [node("Identity", ["cond"], ["on"]), node("Identity", ["v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, ()),
            cond,
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, None),
        ],
    )
    times = helper.make_tensor("times", TensorProto.INT64, (), [2**62])
    true = helper.make_tensor("true", TensorProto.BOOL, (), [True])
    nodes = [
        node("Constant", [], ["n"], value=times),
        node("Loop", ["n", "", "p"], ["q"], body=body),
    ]
    for depth in range(within_branches):
        branch = helper.make_graph(
            nodes, f"branch{depth}", [], [helper.make_tensor_value_info("q", TensorProto.FLOAT, None)]
        )
        nodes = [
            node("Constant", [], ["c"], value=true),
            node("If", ["c"], ["q"], then_branch=branch, else_branch=branch),
        ]
    return colours(more=nodes, last="q")


def scanning() -> onnx.ModelProto:
    """Takes the answer row by row."""
    row, same = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("row", "same"))
    body = helper.make_graph([node("Identity", ["row"], ["same"])], "body", [row], [same])
    return colours(more=[node("Scan", ["p"], ["q"], body=body, num_scan_inputs=1)], last="q")


BAD: dict[str, tuple[Callable[[], onnx.ModelProto], dict[str, Any], str]] = {
    "an opset before ours": (lambda: colours(opset=OPSETS[0] - 1), {}, r"opset 6; Tierwise runs 7 to 21"),
    "an opset after ours": (lambda: colours(opset=OPSETS[-1] + 1), {}, r"opset 22; Tierwise runs 7 to 21"),
    "an operator of somebody's own": (
        lambda: colours(more=[node("Magic", ["p"], ["q"], domain="mine")], last="q"),
        {},
        r"operators that ONNX Runtime does not have: mine:Magic",
    ),
    "an operator that does not exist": (
        lambda: colours(more=[node("Magik", ["p"], ["q"])], last="q"),
        {},
        r"mine\.onnx: does not load in ONNX Runtime .*Magik",
    ),
    "a loop": (looping, {}, r"mine\.onnx has operators that may never end \(Loop\); export it"),
    "a loop in branches of branches": (
        lambda: looping(within_branches=2),
        {},
        r"operators that may never end \(Loop\)",
    ),
    "a scan": (scanning, {}, r"operators that may never end \(Scan\)"),
    "no input at all": (
        without_input,
        {},
        r"has 0 inputs \(none\); it needs exactly one",
    ),
    "a sequence as output": (
        lambda: colours(more=[node("SequenceConstruct", ["p"], ["q"])], last="q"),
        {},
        r"does not load|its output q is a seq",
    ),
    "two outputs": (lambda: colours(outputs=2), {}, r"has 2 outputs \(p, mean\); it needs exactly one"),
    "one channel": (
        lambda: colours(np.ones((3, 32)), shape=(1, 1, 32, 32)),
        {},
        r"is 1x1x32x32; a picture is 1x3xHxW",
    ),
    "no picture": (lambda: colours(shape=(1, 3)), {}, r"is 1x3; a picture is 1x3xHxW"),
    "a batch": (lambda: colours(shape=(8, 3, 32, 32)), {}, r"a batch of 8; it has to take one picture"),
    "another size": (colours, {"size_px": 64}, r"which --input-size 64 does not fit"),
    "a tiny input": (
        lambda: colours(shape=(1, 3, 8, 8)),
        {},
        r"pictures of 8x8; each side may have 32 to 1024",
    ),
    "a huge input": (
        lambda: colours(shape=(1, 3, "h", "w")),
        {"size_px": 4096},
        r"pictures of 4096x4096; each side",
    ),
    "double precision": (
        lambda: colours(element=TensorProto.DOUBLE),
        {},
        r"its input x is a tensor\(double\); it has to be float32 or uint8",
    ),
    "fewer labels than outputs": (colours, {"text": "tiger\nwolf\n"}, r"has 3 outputs, .* 2 lines"),
    "no labels": (colours, {"text": None}, r"a classifier needs --labels"),
    "labels for a backbone": (features, {"kind": "backbone"}, r"a backbone has no labels"),
    "a feature too short": (
        lambda: features(8),
        {"kind": "backbone", "text": None},
        r"gives 8 numbers; a feature has 16 to 4,096",
    ),
    "a map instead of a vector": (
        lambda: colours(more=[node("Identity", ["x"], ["q"])], last="q"),
        {"kind": "backbone", "text": None},
        r"an output of 1x3x32x32; it has to be one flat vector",
    ),
    "numbers that are not finite": (
        lambda: colours(np.eye(3) * 1e38, softmax=False, more=[node("Exp", ["logits"], ["q"])], last="q"),
        {},
        r"numbers that are not finite",
    ),
    "an answer of its own mood": (
        lambda: colours(
            more=[
                node("RandomUniformLike", ["p"], ["noise"]),
                node("Add", ["p", "noise"], ["q"]),
            ],
            last="q",
        ),
        {},
        r"gives two different outputs for one picture",
    ),
    "the same answer for all": (
        lambda: colours(np.zeros((3, 3))),
        {},
        r"gives the same output for every picture",
    ),
    "integers as output": (
        lambda: colours(more=[node("ArgMax", ["p"], ["q"], axis=1)], last="q"),
        {},
        r"does not load|its output q is a tensor\(int64\)",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_serve_is_refused_in_one_line(what: str, tmp_path: Path) -> None:
    make, wanted, complaint = BAD[what]
    wanted = dict(wanted)
    with pytest.raises(Stop, match=complaint):
        bring(tmp_path, make(), wanted.pop("text", THREE), **wanted)


def test_weights_in_other_files_are_refused_before_anything_reads_them(tmp_path: Path) -> None:
    model = colours()
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    entry = model.graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    with pytest.raises(Stop, match="keeps its weights in other files"):
        bring(tmp_path, model)


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x08\x08"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "mine.onnx"
    file.write_bytes(content)
    with pytest.raises(Stop, match="it is no ONNX model"):
        prepare(Wanted(file, "backbone"), TREE, lite0=lambda its: its, who="ada", when="today")


def test_a_missing_or_too_large_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Stop, match="cannot be read"):
        prepare(Wanted(tmp_path / "no.onnx", "backbone"), TREE, lite0=lambda its: its, who="", when="")
    monkeypatch.setattr("models.imported.importing.MAX_BYTES", 100)
    with pytest.raises(Stop, match="the limit is"):
        bring(tmp_path, colours())


def test_a_smoke_picture_that_is_none_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    with pytest.raises(Stop, match=r"--smoke: .*bad\.jpg"):
        bring(tmp_path, colours(), smoke=[bad])
