"""What the code says of a struct: its docstring, and the string below each of its fields."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

_CODE: Final = re.compile(r"``(.+?)``")


class Field(NamedTuple):
    """One field as a page shows it."""

    name: str
    """Its name on the wire or in the settings file."""
    type: Any
    default: Any
    """`msgspec.NODEFAULT` if the field is required."""
    doc: str


COMMON: Final = {
    "event": "Id of the event.",
    "time": "Time of the event.",
    "site": "Name of the site.",
    "device": "Name of the device.",
    "stream": "Name of the stream.",
    "rank": "Depth of the answer.",
    "label": "The answer.",
    "path": "The answer from the kingdom down.",
    "probability": "Probability of the answer.",
    "privacy": "How far this record may travel in the clear.",
    "rule": "Name of the rule that decided.",
    "reason": "The same decision in words.",
    "model": "Name and version of the model that answered.",
    "room": "Room of the sensor.",
    "v": "Version of the message.",
}
"""Meanings of fields that several messages share, where a struct says nothing else."""


def plain(text: str) -> str:
    """Return a docstring's text as one line of Markdown."""
    return _CODE.sub(r"`\1`", " ".join(text.split()))


def summary(struct: type) -> str:
    """Return a class's docstring as Markdown, its paragraphs kept."""
    paragraphs = inspect.cleandoc(struct.__doc__ or "").split("\n\n")
    return "\n\n".join(plain(paragraph) for paragraph in paragraphs)


def meaning(doc: str, name: str) -> str:
    """Return what a message's field means, for a reader of JSON."""
    return re.sub(r"\bNone\b", "`null`", doc or COMMON.get(name, ""))


def fields(struct: type[msgspec.Struct]) -> Iterator[Field]:
    """Return the fields of a struct in their order, with what the code says of each."""
    hints = typing.get_type_hints(struct, include_extras=True)
    docs = field_docs(struct)
    for each in msgspec.structs.fields(struct):
        default = each.default
        if default is msgspec.NODEFAULT and each.default_factory is not msgspec.NODEFAULT:
            default = each.default_factory()
        yield Field(each.encode_name, hints[each.name], default, docs.get(each.name, ""))


@functools.cache
def field_docs(struct: type) -> dict[str, str]:
    """Return the string literal below each field, those of base classes included."""
    found: dict[str, str] = {}
    for base in reversed(struct.__mro__):
        if not issubclass(base, msgspec.Struct) or base is msgspec.Struct:
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = plain(text)
    return found


def type_name(hint: Any) -> str:
    """Return a type as a reader of JSON would name it.

    >>> type_name(tuple[str, ...]), type_name(int | None), type_name(dict[str, float])
    ('list of texts', 'integer or null', 'table of numbers')
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return type_name(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(each) for each in arguments)
    if origin is Literal:
        return " or ".join(f"`{each}`" for each in arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"list of {_plural(type_name(arguments[0]))}"
        return f"[{', '.join(type_name(each) for each in arguments)}]"
    if origin is dict:
        return f"table of {_plural(type_name(arguments[1]))}"
    simple = {str: "text", int: "integer", float: "number", bool: "true or false", bytes: "bytes"}
    if hint in simple:
        return simple[hint]
    if hint is type(None):
        return "null"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return f"one of {', '.join(f'`{each.value}`' for each in hint)}"
    return f"[{hint.__name__}](#{hint.__name__.lower()})"


def _plural(name: str) -> str:
    return f"{name}s" if name.isalpha() and not name.endswith("s") else name


def table(*rows: tuple[str, ...]) -> str:
    """Return a Markdown table; the first row is its head."""
    head, *body = rows
    lines = [head, ("---",) * len(head), *body]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)
