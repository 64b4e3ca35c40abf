"""docs/reference/asyncapi.yaml: channels and messages as an AsyncAPI 3 document (https://www.asyncapi.com)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any, Final

import msgspec

from pipeline import messages, topics
from tools.reference.channels import KAFKA, OUTSIDE, SITE, UPLINK, Channel
from tools.reference.examples import examples
from tools.reference.struct_docs import field_docs, meaning, summary

HEAD: Final = "# Generated from the code by `make reference`. It describes the same channels as docs/topics.md.\n"

PARAMETERS: Final[Mapping[str, str]] = {
    "site": "Name of the site.",
    "device": "Name of the device.",
    "stream": "Name of one of the device's streams.",
    "tier": "The tier that answers: device, edge or cloud.",
    "role": "Name of the role, as edge or device.",
    "file": "Name of a file of signed metadata, as timestamp.json.",
    "component": "Home Assistant's kind of entity, as sensor.",
    "node": "Home Assistant's name of the device.",
    "entity": "Home Assistant's name of the entity.",
}
_PARAMETER: Final = re.compile(r"{(\w+)}")
_SCHEMAS: Final = "#/components/schemas/"


def document() -> str:
    """Return the document as YAML."""
    return HEAD + "\n".join(_yaml(_document())) + "\n"


def _document() -> dict[str, Any]:
    everything = (*SITE, *UPLINK, *KAFKA)
    structs = list(dict.fromkeys(struct for each in everything for struct in each.messages))
    schemas = _schemas(structs)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tierwise",
            "version": version("tierwise"),
            "description": "Topics and messages of Tierwise, MQTT's and Kafka's.",
            "license": {"name": "Apache-2.0"},
        },
        "servers": {
            "site": {"host": "localhost:1883", "protocol": "mqtt", "description": "The site's MQTT broker."},
            "uplink": {
                "host": "localhost:1883",
                "protocol": "mqtt",
                "description": "The MQTT broker between sites and cloud; on one machine it is the site's.",
            },
            "kafka": {"host": "localhost:9092", "protocol": "kafka", "description": "The cloud's Kafka."},
        },
        "channels": {
            _id(channel): _channel(channel, server)
            for server, channels in (("site", SITE), ("uplink", UPLINK), ("kafka", KAFKA))
            for channel in channels
        },
        "operations": dict(_operations(everything)),
        "components": {
            "messages": {struct.__name__: _message(struct, everything) for struct in structs},
            "schemas": schemas,
            "parameters": {name: {"description": text} for name, text in PARAMETERS.items()},
        },
    }


def _id(channel: Channel) -> str:
    """Return a name for the channel: its topic's fixed words.

    >>> _id(SITE[0]), _id(KAFKA[0])
    ('frame', 'features-ingest')
    """
    topic = channel.topic.removeprefix(topics.ROOT + "/").removeprefix(topics.KAFKA_ROOT)
    words = [word for word in re.split(r"[/.]", topic) if not _PARAMETER.fullmatch(word)]
    return "-".join(words)


def _channel(channel: Channel, server: str) -> dict[str, Any]:
    parameters = {name: {"$ref": f"#/components/parameters/{name}"} for name in _PARAMETER.findall(channel.topic)}
    named = {struct.__name__: {"$ref": f"#/components/messages/{struct.__name__}"} for struct in channel.messages}
    raw = {"payload": {"contentType": channel.content, "description": channel.payload}}
    return {
        "address": channel.topic,
        "servers": [{"$ref": f"#/servers/{server}"}],
        "description": f"{channel.payload}. From {channel.sender} to {channel.receiver}.",
        **({"parameters": parameters} if parameters else {}),
        "messages": named or raw,
    }


def _operations(channels: tuple[Channel, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return what Tierwise as a whole does: it receives from outside, and sends everything else."""
    for channel in channels:
        action = "receive" if channel.sender in OUTSIDE else "send"
        yield (
            f"{action}-{_id(channel)}",
            {
                "action": action,
                "channel": {"$ref": f"#/channels/{_id(channel)}"},
                "summary": f"From {channel.sender} to {channel.receiver}.",
            },
        )


def _message(struct: type[msgspec.Struct], channels: tuple[Channel, ...]) -> dict[str, Any]:
    content = next(each.content for each in channels if struct in each.messages)
    shown = examples().get(struct.__name__, [])
    return {
        "name": struct.__name__,
        "contentType": content,
        "summary": summary(struct).partition("\n")[0],
        "payload": {"$ref": f"{_SCHEMAS}{struct.__name__}"},
        **(
            {
                "examples": [
                    {**({"summary": each.about} if each.about else {}), "payload": each.value}
                    for each in shown
                    if isinstance(each.value, dict)
                ]
            }
            if any(isinstance(each.value, dict) for each in shown)
            else {}
        ),
    }


def _schemas(structs: list[type[msgspec.Struct]]) -> dict[str, Any]:
    _, found = msgspec.json.schema_components(structs, ref_template=_SCHEMAS + "{name}")
    known = {struct.__name__: struct for struct in structs} | {
        name: thing
        for name, thing in vars(messages).items()
        if isinstance(thing, type) and issubclass(thing, msgspec.Struct)
    }
    for name, schema in found.items():
        if name in known and "description" in schema:
            schema["description"] = summary(known[name])  # Python 3.13 indents docstrings otherwise than 3.11
        docs = field_docs(known[name]) if name in known else {}
        for field, described in schema.get("properties", {}).items():
            if "$ref" not in described and (text := meaning(docs.get(field, ""), field)):
                described["description"] = text
    return {name: _draft_7(schema) for name, schema in sorted(found.items())}


def _draft_7(schema: Any) -> Any:
    """Return a schema in the dialect of AsyncAPI: tuples as lists of items, and no discriminator objects."""
    if isinstance(schema, list):
        return [_draft_7(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {key: _draft_7(value) for key, value in schema.items() if key != "discriminator"}
    if "prefixItems" in changed:
        changed["items"] = changed.pop("prefixItems")
    return changed


# --- YAML ------------------------------------------------------------------------------------------------------

_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9 _/-]*")
_WORDS: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def _yaml(value: Any, indent: int = 0) -> Iterator[str]:
    pad = " " * indent
    if isinstance(value, dict):
        for key, part in value.items():
            if isinstance(part, dict | list) and part:
                yield f"{pad}{_scalar(key)}:"
                yield from _yaml(part, indent + 2)
            else:
                yield f"{pad}{_scalar(key)}: {_scalar(part)}"
    else:
        for part in value:
            if isinstance(part, dict) and part:
                first, *rest = _yaml(part, indent + 2)
                yield f"{pad}- {first.strip()}"
                yield from rest
            else:
                yield f"{pad}- {_scalar(part)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value == value.strip():
        return json.dumps(value) if value.lower() in _WORDS else value
    return json.dumps(value, ensure_ascii=False)
