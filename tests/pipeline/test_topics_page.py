"""docs/topics.md, the messages page and the code agree: every example decodes, every topic is listed."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline import messages, readings, records, topics
from pipeline.clock import seconds
from pipeline.stream.counts import Count
from tools.reference.channels import KAFKA, SITE, UPLINK
from tools.reference.examples import examples

PAGE = (Path(__file__).parents[2] / "docs/topics.md").read_text("utf-8")
EXAMPLES = [(name, example.value) for name, several in examples().items() for example in several]
READINGS = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
OTHERS = {"HourlySummary": records.HourlySummary, "Count": Count}


def kind(name: str) -> type[msgspec.Struct]:
    found: type[msgspec.Struct] = OTHERS.get(name) or getattr(messages, name)
    return found


@pytest.mark.parametrize(("name", "value"), EXAMPLES)
def test_each_example_is_a_message_with_no_field_too_many_and_survives_its_wire_form(name: str, value: Any) -> None:
    message = msgspec.json.decode(json.dumps(value), type=kind(name))
    if isinstance(value, dict):
        assert set(value) <= {field.name for field in msgspec.structs.fields(kind(name))}
    assert messages.decode(kind(name), messages.encode(message)) == message


@pytest.mark.parametrize("text", READINGS)
def test_each_example_of_a_reading_is_one(text: str) -> None:
    now_s = seconds(json.loads(text)["time"]) if text.startswith("{") else json.loads(text)[0]["bt"]
    reading = readings.parse(text.encode(), received_s=now_s)[0]
    assert (reading.value, reading.unit, reading.time_s, reading.flags) == (21.5, "Cel", now_s, ())


def test_every_message_that_travels_has_an_example() -> None:
    travelling = {struct.__name__ for channel in (*SITE, *UPLINK, *KAFKA) for struct in channel.messages}
    payloads_only = {"Feature", "Summary"}  # packed numbers: an example would show nothing
    assert travelling - payloads_only <= {name for name, _ in EXAMPLES}


def test_every_kafka_topic_is_listed() -> None:
    assert {channel.topic for channel in KAFKA} == set(topics.KAFKA_TOPICS)


def builders() -> dict[str, str]:
    """Every function that returns an MQTT topic, with the topic's form: a `+` for each name in it."""
    found = {}
    for name, function in inspect.getmembers(topics, inspect.isfunction):
        signature = inspect.signature(function)
        kinds = {parameter.annotation for parameter in signature.parameters.values()}
        takes_names = kinds == {"str"} and "topic" not in signature.parameters
        if signature.return_annotation == "str" and takes_names:
            found[name] = function(*["+"] * len(signature.parameters))
    return found


def test_every_mqtt_topic_is_listed() -> None:
    listed = {re.sub(r"{\w+}", "+", channel.topic) for channel in (*SITE, *UPLINK)}
    assert set(builders().values()) <= listed
    assert len(builders()) >= 18
