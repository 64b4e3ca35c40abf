"""The tables of docs/settings.md: a row a key, with what `pipeline.settings.keys` says of it."""

from __future__ import annotations

import functools
import json
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from pipeline import states, units
from pipeline.foreign import formats
from pipeline.settings.deployment_keys import DeploymentSettings
from pipeline.settings.keys import Keys, RuleSettings, StreamSettings
from tools.reference.struct_docs import fields, table

_TOP: Final = "site"
_LISTED: Final[Mapping[str, tuple[str, type[msgspec.Struct]]]] = {
    "streams": ("streams.*.", StreamSettings),
    "rules": ("rules.", RuleSettings),
    "deployments": ("deployments.", DeploymentSettings),
}
"""Sections of which a file holds several: the prefix of their keys in a table, and their struct."""


def sections() -> Iterator[tuple[str, str, type[msgspec.Struct]]]:
    """Return each section's name, the prefix of its keys, and its struct."""
    yield from ((name, *listed) for name, listed in _LISTED.items())
    yield from _within(Keys, "")


def _within(struct: type[msgspec.Struct], before: str) -> Iterator[tuple[str, str, type[msgspec.Struct]]]:
    hints = typing.get_type_hints(struct)
    for field in msgspec.structs.fields(struct):
        hint = hints[field.name]
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            yield before + field.name, f"{before}{field.name}.", hint
            yield from _within(hint, f"{before}{field.name}.")


def rows(prefix: str, struct: type[msgspec.Struct]) -> Iterator[tuple[str, str, str]]:
    """Return key, default and meaning of each key; sections within the struct are left out."""
    for field in fields(struct):
        if not isinstance(field.default, msgspec.Struct) and field.name not in _LISTED:
            yield f"`{prefix}{field.name}`", _default(prefix + field.name, field.default), field.doc


def _default(key: str, default: Any) -> str:
    if key == "streams.*.wants":
        return "deepest rank"  # of the stream's task: the struct alone cannot know it
    if default is msgspec.NODEFAULT:
        return "required"
    if default is None:
        return "none"
    return f"`{json.dumps(default)}`"


def section(prefix: str, struct: type[msgspec.Struct]) -> str:
    """Return the table of one section."""
    return table(("key", "default", "meaning"), *rows(prefix, struct))


def known_states() -> str:
    """Return the table of the words that are states without settings, with their other spellings."""
    others: dict[str, list[str]] = {}
    for spelling, word in states.SPELLINGS.items():
        others.setdefault(word, []).append(spelling)
    rows = [
        " | ".join(", ".join(f"`{each}`" for each in (word, *others.get(word, ()))) for word in pair)
        for pair in states.PAIRS
    ]
    return "\n".join(["| state 0 | state 1 |", "| --- | --- |", *(f"| {row} |" for row in rows)])


def known_units() -> str:
    """Return the table of units: name, other spellings, the unit that related ones are converted through."""
    rows = []
    for name in dict.fromkeys(unit.name for unit in units.UNITS.values()):
        unit = units.UNITS[name]
        others = ", ".join(f"`{word}`" for word in units.spellings(name))
        rows.append((f"`{name}`", others, f"`{unit.base}`"))
    return table(("unit", "other spellings", "converts to and from"), *rows)


def presets() -> str:
    """Return the table of message formats: what to write, and a topic of each."""
    rows = [(f"`{name}`", preset.title, f"`{preset.example}`") for name, preset in formats.FORMATS.items()]
    return table(("format", "for", "topic, for example"), *rows)


BLOCKS: Final[Mapping[str, Callable[[], str]]] = {
    "formats": presets,
    "units": known_units,
    "states": known_states,
    f"settings {_TOP}": functools.partial(section, "", Keys),
    **{f"settings {name}": functools.partial(section, prefix, struct) for name, prefix, struct in sections()},
}
