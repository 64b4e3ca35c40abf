"""docs/topics.md and the code say the same: every example decodes, every topic is told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from pipeline import messages, readings, records, topics
from pipeline.clock import seconds
from pipeline.messages import Privacy, Tier
from pipeline.stream.counts import Count

PAGE = (Path(__file__).parents[2] / "docs/topics.md").read_text()
EXAMPLES = re.findall(r"^```json ?(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
OTHERS = {"HourlySummary": records.HourlySummary, "Count": Count}


def kind(name: str) -> type[msgspec.Struct]:
    found: type[msgspec.Struct] = OTHERS.get(name) or getattr(messages, name)
    return found


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, text in EXAMPLES if name])
def test_each_example_is_a_message_with_no_field_too_many_and_survives_its_wire_form(
    name: str, text: str
) -> None:
    message = msgspec.json.decode(text, type=kind(name))
    content = json.loads(text)
    if isinstance(content, dict):
        assert set(content) <= {field.name for field in msgspec.structs.fields(kind(name))}
    assert messages.decode(kind(name), messages.encode(message)) == message


@pytest.mark.parametrize("text", [text for name, text in EXAMPLES if not name])
def test_each_example_of_a_reading_is_one(text: str) -> None:
    now_s = seconds(json.loads(text)["time"]) if text.startswith("{") else json.loads(text)[0]["bt"]
    (reading,) = readings.parse(text.encode(), received_s=now_s)
    assert (reading.value, reading.unit, reading.time_s, reading.flags) == (21.5, "Cel", now_s, ())


def test_every_message_that_travels_has_an_example() -> None:
    parts = {
        "JsonMessage",
        "MsgpackMessage",
        "Levels",
        "Crop",
        "Vector",
        "Report",
        "Envelope",
        "Feature",
        "Summary",
        "Forecast",
        "DiscoveryDevice",
        "DiscoveryOrigin",
        "Update",
    }
    travelling = {
        name
        for name, thing in vars(messages).items()
        if isinstance(thing, type) and issubclass(thing, msgspec.Struct) and name not in parts
    }
    assert travelling <= {name for name, _ in EXAMPLES}


@pytest.mark.parametrize("topic", topics.KAFKA_TOPICS)
def test_every_kafka_topic_is_told(topic: str) -> None:
    assert f"| `{topic}` |" in PAGE


@pytest.mark.parametrize(
    "topic",
    [
        topics.frame("{site}", "{device}", "{stream}"),
        topics.reading("{site}", "{device}", "{stream}"),
        topics.ack("{site}", "{device}"),
        topics.rejected("{site}", "{device}"),
        topics.result("{site}", "{device}", Tier.EDGE, Privacy.PUBLIC).replace("edge", "{tier}"),
        topics.result("{site}", "{device}", Tier.EDGE, Privacy.USER_PRIVATE).replace("edge", "{tier}"),
        topics.sighting("{site}", "{device}", "{stream}"),
        topics.status("{site}", "{role}"),
        topics.event("{site}", "{device}", "{stream}"),
        topics.event_ack("{site}", "{device}"),
        topics.uplink("{site}"),
        topics.uplink_ack("{site}"),
        topics.downlink("{site}"),
        topics.downlink_ack("{site}"),
    ],
)
def test_every_mqtt_topic_is_told(topic: str) -> None:
    assert f"| `{topic.removeprefix(topics.ROOT + '/')}` |" in PAGE
