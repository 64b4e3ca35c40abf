"""docs/reference/messages.md: every message with its fields, its topics and examples."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from pipeline import messages
from pipeline.records import HourlySummary
from pipeline.stream.counts import Count
from tools.reference.channels import KAFKA, SITE, UPLINK
from tools.reference.examples import examples, pretty
from tools.reference.struct_docs import fields, meaning, summary, table, type_name

HEAD: Final = """\
# Messages

<!-- Generated from the code by `make reference`. Edit the docstrings of pipeline/messages.py instead. -->

Every message of Tierwise with its fields. [Topics](../topics.md) lists where each travels. The same facts are machine
readable in the [AsyncAPI document](asyncapi.yaml).

Messages that people read are UTF-8 JSON. Messages between roles are msgpack. They carry a version `v`, and a reader
refuses any version but its own. The examples show all messages as JSON, with bytes in Base64.

A field without a default is required. Times are RFC 3339 in UTC.
"""


def structs() -> Iterator[type[msgspec.Struct]]:
    """Return every message and every part of one, in the order of the code."""
    for thing in (*vars(messages).values(), HourlySummary, Count):
        if inspect.isclass(thing) and issubclass(thing, msgspec.Struct) and thing.__struct_fields__:
            yield thing


def page() -> str:
    """Return the page."""
    return "\n".join([HEAD, *(_message(each) for each in structs())])


def _message(struct: type[msgspec.Struct]) -> str:
    rows = [
        (f"`{field.name}`", type_name(field.type), _default(field.default), meaning(field.doc, field.name))
        for field in fields(struct)
    ]
    parts = [f"## {struct.__name__}", summary(struct), _topics(struct)]
    if struct.__struct_config__.array_like:
        parts.append("Sent as a list of its fields' values, in this order.")
    parts.append(table(("field", "type", "default", "meaning"), *rows))
    for example in examples().get(struct.__name__, []):
        parts += [f"{example.about}:" if example.about else "", f"```json\n{pretty(example.value)}\n```"]
    return "\n\n".join(filter(None, parts)) + "\n"


def _topics(struct: type[msgspec.Struct]) -> str:
    names = [f"`{each.topic}`" for each in (*SITE, *UPLINK, *KAFKA) if struct in each.messages]
    return f"Travels on {', '.join(names)}." if names else ""


def _default(default: Any) -> str:
    if default is msgspec.NODEFAULT:
        return ""
    return f"`{json.dumps(msgspec.to_builtins(default), ensure_ascii=False)}`"
