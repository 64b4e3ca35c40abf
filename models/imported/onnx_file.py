"""Read from an ONNX file what ONNX Runtime does not report: opsets, operators' domains, external files.

A user's model is inspected before it is loaded: ONNX Runtime would read any other file that the model names as
external data, and it reports only the first missing operator. Reading protobuf's wire format is enough here, so that a
device or an edge does not need the package `onnx` (17 MB).

Example::

    facts = inspect_onnx(Path("model.onnx").read_bytes())
    facts.opsets           # {"": 17}
    facts.operators        # {("", "Conv"), ("", "Relu"), ...}, with those in loops, branches and functions

Source: onnx.proto3 of ONNX 1.17 (field numbers), the protobuf encoding guide (wire types).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.errors import Rejected

# Wire types; ONNX does not use 3 and 4 (groups).
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
# The fields to descend into: {message: {field number: message}}.
_CHILDREN = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "function": {7: "node", 11: "attribute"},
}
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_NODE_OPERATOR, _NODE_DOMAIN = 4, 7
_FUNCTION_NAME, _FUNCTION_DOMAIN = 1, 10
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14
# No real network is nested deeper.
_DEEPEST = 24


@dataclass(slots=True)
class OnnxFacts:
    """`opsets` by domain (the default is ""), `operators` as (domain, name), and whether data is in other files."""

    opsets: dict[str, int] = field(default_factory=dict)
    operators: set[tuple[str, str]] = field(default_factory=set)
    functions: set[tuple[str, str]] = field(default_factory=set)
    external_data: bool = False
    has_graph: bool = False


class NoOnnx(Rejected):
    """The bytes are not an ONNX model."""

    def __init__(self, message: str) -> None:
        super().__init__("no-onnx", message)


def inspect_onnx(data: bytes) -> OnnxFacts:
    """Inspect a model. Raises `NoOnnx` for other bytes, or a truncated model."""
    facts = OnnxFacts()
    _walk(memoryview(data), "model", facts, 0)
    if not facts.has_graph or not facts.opsets:
        raise NoOnnx("it is no ONNX model: it has no graph or no opset")
    return facts


def _walk(message: memoryview, kind: str, facts: OnnxFacts, depth: int) -> None:
    if depth > _DEEPEST:
        raise NoOnnx(f"it is no ONNX model: its messages are nested more than {_DEEPEST} deep")
    children = _CHILDREN.get(kind, {})
    texts: dict[int, str] = {}
    numbers: dict[int, int] = {}
    for number, value in _fields(message):
        if isinstance(value, int):
            numbers[number] = value
        elif number in children:
            _walk(value, children[number], facts, depth + 1)
        elif kind in ("node", "opset", "function"):
            texts[number] = _text(value)
        elif kind == "tensor" and number == _TENSOR_EXTERNAL:
            facts.external_data = True
    if kind == "graph":
        facts.has_graph = True
    elif kind == "opset":
        facts.opsets[_domain(texts.get(_OPSET_DOMAIN, ""))] = numbers.get(_OPSET_VERSION, 0)
    elif kind == "node":
        facts.operators.add((_domain(texts.get(_NODE_DOMAIN, "")), texts.get(_NODE_OPERATOR, "")))
    elif kind == "function":
        facts.functions.add((_domain(texts.get(_FUNCTION_DOMAIN, "")), texts.get(_FUNCTION_NAME, "")))
    elif kind == "tensor" and numbers.get(_TENSOR_LOCATION):
        facts.external_data = True


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _text(value: memoryview) -> str:
    return bytes(value).decode("utf-8", "replace")


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (field number, number or bytes) of a message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = _varint(message, at)
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if wire == _EIGHT_BYTES else 4
        else:
            raise NoOnnx(f"it is no ONNX model: wire type {wire} at byte {at}")
        if at + length > len(message):
            raise NoOnnx("it is no ONNX model, or was cut short: a field is longer than the file")
        if wire == _BYTES:
            yield number, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return a number of at most 64 bits, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise NoOnnx("it is no ONNX model, or was cut short: it ends within a number")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value & (2**64 - 1), at
    raise NoOnnx(f"it is no ONNX model: a number of more than 64 bits at byte {at}")
