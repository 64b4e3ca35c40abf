"""The reader of ONNX files says what the package `onnx` says, and meets no bytes that it chokes on."""

from __future__ import annotations

import contextlib

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from sample_onnx import colours

from models.imported.onnx_file import NoOnnx, inspect_onnx
from models.shipped import ZOO

SAMPLE = colours().SerializeToString()


def by_onnx(model: onnx.ModelProto) -> tuple[dict[str, int], set[tuple[str, str]]]:
    return (
        {its.domain: its.version for its in model.opset_import},
        {(node.domain, node.op_type) for node in model.graph.node},
    )


@pytest.mark.parametrize("file", ["lite0/backbone.onnx", "occupancy/model.onnx"])
def test_it_says_of_the_zoos_models_what_onnx_says(file: str) -> None:
    data = (ZOO / file).read_bytes()
    facts = inspect_onnx(data)
    assert (facts.opsets, facts.operators) == by_onnx(onnx.load_from_string(data))
    assert not facts.external_data


@given(
    opset=st.integers(1, 2**40),
    nodes=st.lists(st.tuples(st.text(max_size=9), st.text(min_size=1, max_size=9)), max_size=5),
)
def test_it_says_of_any_graph_what_onnx_says(opset: int, nodes: list[tuple[str, str]]) -> None:
    model = helper.make_model(
        helper.make_graph([helper.make_node(name, ["x"], ["y"], domain=domain) for domain, name in nodes], "g", [], []),
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("mine", 1)],
    )
    facts = inspect_onnx(model.SerializeToString())
    opsets, operators = by_onnx(model)
    assert facts.opsets == opsets
    assert facts.operators == {("" if domain == "ai.onnx" else domain, name) for domain, name in operators}


def test_operators_within_branches_are_found() -> None:
    inner = helper.make_graph([helper.make_node("Magic", [], ["y"], domain="mine")], "inner", [], [])
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    graph = helper.make_graph([node], "outer", [], [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    assert inspect_onnx(model.SerializeToString()).operators == {("", "If"), ("mine", "Magic")}


def test_a_models_own_functions_are_known_and_looked_into() -> None:
    function = helper.make_function(
        "mine",
        "Twice",
        ["x"],
        ["y"],
        [helper.make_node("Add", ["x", "x"], ["y"])],
        [helper.make_opsetid("", 17)],
    )
    graph = helper.make_graph([helper.make_node("Twice", ["x"], ["y"], domain="mine")], "g", [], [])
    model = helper.make_model(graph, functions=[function], opset_imports=[helper.make_opsetid("", 17)])
    facts = inspect_onnx(model.SerializeToString())
    assert facts.functions == {("mine", "Twice")}
    assert ("", "Add") in facts.operators


@pytest.mark.parametrize("how", ["location", "data"])
def test_data_in_other_files_is_found(how: str) -> None:
    model = onnx.load_from_string(SAMPLE)
    tensor = model.graph.initializer[0]
    if how == "location":
        tensor.data_location = TensorProto.EXTERNAL
    else:
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "weights.bin"
    assert inspect_onnx(model.SerializeToString()).external_data


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(NoOnnx):
        inspect_onnx(data)


@given(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255))
def test_a_damaged_model_is_read_or_refused(at: int, byte: int) -> None:
    with contextlib.suppress(NoOnnx):
        inspect_onnx(SAMPLE[:at] + bytes([byte]) + SAMPLE[at + 1 :])


@pytest.mark.parametrize("cut", [1, 5, len(SAMPLE) // 2])
def test_a_model_that_was_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(NoOnnx):
        inspect_onnx(SAMPLE[:-cut])


def test_messages_nested_without_end_are_refused() -> None:
    inner = helper.make_graph([], "g", [], [])
    for _ in range(30):
        node = helper.make_node("If", ["c"], ["y"], then_branch=inner)
        inner = helper.make_graph([node], "g", [], [])
    model = helper.make_model(inner, opset_imports=[helper.make_opsetid("", 17)])
    with pytest.raises(NoOnnx, match="nested more than"):
        inspect_onnx(model.SerializeToString())
