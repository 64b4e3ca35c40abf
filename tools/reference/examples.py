"""Examples of messages, from docs/reference/examples.json; a test decodes each of them."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, Final, NamedTuple

FILE: Final = Path(__file__).parents[2] / "docs/reference/examples.json"
WIDTH: Final = 112


class Example(NamedTuple):
    """One message as JSON, bytes in Base64."""

    about: str
    """What this example shows; empty if it is the only one."""
    value: Any


@functools.cache
def examples() -> dict[str, list[Example]]:
    """Return all examples by the name of their message."""
    found = json.loads(FILE.read_text("utf-8"))
    return {
        name: [Example(each.get("about", ""), each["example"]) for each in several] for name, several in found.items()
    }


def pretty(value: Any, indent: int = 0) -> str:
    """Return JSON in which whatever fits stands on one line.

    >>> pretty({"ids": ["0193"], "v": 1})
    '{"ids": ["0193"], "v": 1}'
    """
    flat = json.dumps(value, ensure_ascii=False)
    if len(flat) + indent <= WIDTH or not isinstance(value, dict | list):
        return flat
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {pretty(part, indent + 2)}" for key, part in value.items()]
    else:
        parts = [pretty(part, indent + 2) for part in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    inner = ",\n".join(" " * (indent + 2) + part for part in parts)
    return f"{opening}\n{inner}\n{' ' * indent}{closing}"
