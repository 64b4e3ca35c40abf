"""Reads a settings table strictly: an unknown key is refused, and the message names the nearest known key.

msgspec checks types, but its errors name neither the table of a value nor the key that was probably meant. `check`
compares a table with the struct that it will become, and `overridden` puts values of the environment into it::

    >>> class Mqtt(msgspec.Struct):
    ...     address: str = ""
    >>> check({"adress": "host"}, Mqtt, "tierwise.toml")
    Traceback (most recent call last):
    ...
    pipeline.errors.Stop: tierwise.toml: there is no key "adress"; the nearest known one is "address"
"""

from __future__ import annotations

import copy
import difflib
import enum
import typing
from collections.abc import Iterable, Iterator, Mapping
from types import UnionType
from typing import Any, Final

import msgspec

from pipeline.errors import Stop

VARIABLE: Final = "TIERWISE_"
NESTING: Final = "__"
"""Stands between section and key in the name of a variable, since keys contain single underscores."""


def check(value: object, kind: Any, file: str, where: str = "") -> None:
    """Refuse a value that does not fit `kind` (a struct, a container of structs, a plain type).

    Raises
    ------
    Stop
        The message names the file, the key with its path, the problem and the nearest known key.
    """
    kind = _without_none(kind)
    if _is_struct(kind):
        fields = _fields(kind)
        table = _plain(value, dict[str, Any], file, where)
        for key, inner in table.items():
            if key not in fields:
                place = f"{where} has" if where else "there is"
                raise Stop(f'{file}: {place} no key "{key}"; the nearest known one is "{nearest(key, fields)}"')
            check(inner, fields[key].type, file, _join(where, key))
        for key, field in fields.items():
            if field.required and key not in table:
                raise Stop(f'{file}: {where} needs the key "{key}"')
    elif typing.get_origin(kind) is dict:
        key_kind, inner_kind = typing.get_args(kind)
        for key, inner in _plain(value, dict[str, Any], file, where).items():
            _plain(key, key_kind, file, where)
            check(inner, inner_kind, file, f'{where}."{key}"')
    elif typing.get_origin(kind) is tuple:
        for number, inner in enumerate(_plain(value, list[Any], file, where)):
            check(inner, typing.get_args(kind)[0], file, f"{where}[{number}]")
    else:
        _plain(value, kind, file, where)


def overridden(raw: Mapping[str, Any], kind: Any, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the table with the values of ``TIERWISE_KEY`` and ``TIERWISE_SECTION__KEY`` in place of its own.

    A list is comma-separated text. The environment cannot set tables of tables (streams, rules). An unknown variable
    without a section is ignored (container platforms set ``TIERWISE_EDGE_PORT`` by themselves); an unknown one with a
    section is an error.

    Raises
    ------
    Stop
        The message names the variable and the problem.
    """
    merged = copy.deepcopy(dict(raw))
    top = _fields(kind)
    for variable in sorted(environ):
        section, nested, key = variable.removeprefix(VARIABLE).lower().rpartition(NESTING)
        if not nested:
            section, key = key, ""
        if not variable.startswith(VARIABLE) or (not nested and (section not in top or _is_table(top[section].type))):
            continue
        if not nested:
            merged[section] = _from_text(environ[variable], top[section].type, variable)
            continue
        sections = dict(_sections(kind))
        if section not in sections:
            raise Stop(
                f'{variable}: there is no section "{section}"; the nearest known one is "{nearest(section, sections)}"'
            )
        fields = sections[section]
        if key not in fields:
            raise Stop(f'{variable}: {section} has no key "{key}"; the nearest known one is "{nearest(key, fields)}"')
        table = merged
        for name in section.split(NESTING):
            table = table.setdefault(name, {})
        table[key] = _from_text(environ[variable], fields[key].type, variable)
    return merged


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word with the most similar spelling."""
    return difflib.get_close_matches(word, list(known), n=1, cutoff=0.0)[0]


# --- types -----------------------------------------------------------------------------------------------------


def _fields(kind: Any) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


def _sections(kind: Any, before: str = "") -> Iterator[tuple[str, dict[str, msgspec.structs.FieldInfo]]]:
    """Yield each section as a variable spells it, with its keys that are no sections."""
    for name, field in _fields(kind).items():
        if _is_struct(field.type):
            inner = _fields(field.type)
            yield before + name, {key: value for key, value in inner.items() if not _is_struct(value.type)}
            yield from _sections(field.type, before + name + NESTING)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _is_table(kind: Any) -> bool:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    return _is_struct(kind) or origin is dict or (origin is tuple and _is_struct(args[0]))


def _without_none(kind: Any) -> Any:
    """Return `T` for ``T | None``: TOML has no null, so a key in the file has a value."""
    if typing.get_origin(kind) in (typing.Union, UnionType):
        return next(part for part in typing.get_args(kind) if part is not type(None))
    return kind


def _choices(kind: Any) -> list[str]:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return [str(member.value) for member in kind]
    return [str(word) for word in typing.get_args(kind)] if typing.get_origin(kind) is typing.Literal else []


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _plain(value: object, kind: Any, file: str, where: str) -> Any:
    choices = _choices(kind)
    if choices and isinstance(value, str) and value not in choices:
        raise Stop(
            f'{file}: {where}: "{value}" is none of {", ".join(choices)}; the nearest is "{nearest(value, choices)}"'
        )
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise Stop(f"{file}: {where}: {_reason(error)}") from None


def _from_text(text: str, kind: Any, variable: str) -> Any:
    kind = _without_none(kind)
    if typing.get_origin(kind) is tuple:
        value: Any = [part.strip() for part in text.split(",") if part.strip()]
        check(value, kind, "the environment", variable)
        return value
    if _choices(kind):
        _plain(text, kind, "the environment", variable)
        return text
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Stop(f"the environment: {variable}: {_reason(error)}") from None


def _reason(error: msgspec.ValidationError) -> str:
    """Return msgspec's text without its path, which does not name the keys."""
    return str(error).partition(" - at ")[0].replace("`", "").lower()
