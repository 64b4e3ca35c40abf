"""What Home Assistant is told: as it documents its discovery, and nothing that a level keeps from the site."""

from __future__ import annotations

import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.edge.home_assistant import BINARY_CLASSES, MEASURES, announcements
from pipeline import messages, topics, units
from pipeline.messages import Discovery, Privacy, Task, Tier
from pipeline.privacy import gate
from pipeline.settings.settings import STARTER, Settings, StreamSettings

COMMON = {
    "name",
    "unique_id",
    "state_topic",
    "value_template",
    "device",
    "origin",
    "json_attributes_topic",
    "availability_topic",
    "availability_template",
    "device_class",
    "entity_category",
    "icon",
}
DOCUMENTED = {
    "sensor": COMMON | {"state_class", "unit_of_measurement", "options"},
    "binary_sensor": COMMON | {"payload_on", "payload_off", "off_delay"},
    "image": COMMON - {"state_topic", "value_template"} | {"image_topic", "content_type"},
}
"""Of the variables that home-assistant.io/integrations/{sensor,binary_sensor}.mqtt documents, those that we use."""

UNITS = {
    "temperature": {"°C", "°F", "K"},
    "humidity": {"%"},
    "illuminance": {"lx"},
    "carbon_dioxide": {"ppm"},
    "volatile_organic_compounds_parts": {"ppm", "ppb"},
    "power": {"mW", "W", "kW", "MW", "GW", "TW"},
    "energy": {"J", "kJ", "MJ", "GJ", "mWh", "Wh", "kWh", "MWh", "GWh", "TWh", "cal", "kcal", "Mcal", "Gcal"},
    "voltage": {"µV", "mV", "V", "kV", "MV"},
    "current": {"A", "mA"},
    "apparent_power": {"VA"},
    "reactive_power": {"var"},
    "frequency": {"Hz", "kHz", "MHz", "GHz"},
    "pressure": {"Pa", "hPa", "kPa", "bar", "cbar", "mbar", "mmHg", "inHg", "psi"},
    "distance": {"km", "m", "cm", "mm", "mi", "nmi", "yd", "ft", "in"},
    "speed": {"ft/s", "in/d", "in/h", "in/s", "km/h", "kn", "m/s", "mph", "mm/d", "mm/s"},
    "precipitation_intensity": {"in/d", "in/h", "mm/d", "mm/h"},
    "volume_storage": {"L", "mL", "gal", "fl. oz.", "m³", "ft³", "CCF"},
    "volume_flow_rate": {"m³/h", "ft³/min", "L/min", "gal/min", "mL/s"},
    "weight": {"kg", "g", "mg", "µg", "oz", "lb", "st"},
    "duration": {"d", "h", "min", "s", "ms", "µs"},
    "irradiance": {"W/m²", "BTU/(h⋅ft²)"},
    "conductivity": {"S/cm", "mS/cm", "µS/cm"},
    "sound_pressure": {"dB", "dBA"},
    "signal_strength": {"dB", "dBm"},
    "data_size": {"bit", "kbit", "B", "kB", "MB", "GB"},
    "data_rate": {"bit/s", "kbit/s", "B/s", "kB/s", "MB/s"},
    "ph": {""},
}
CLASSES = {
    "sensor": {*UNITS, "enum"},
    "binary_sensor": {"connectivity", "problem", "occupancy", *BINARY_CLASSES.values()},
    "image": {""},
}
"""Device classes and their units, as home-assistant.io/integrations/sensor/#device-class lists them."""

OBJECT = re.compile(r"[a-zA-Z0-9_-]+")
"""What Home Assistant takes as node and object id."""


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    file = tmp_path_factory.mktemp("starter") / "tierwise.toml"
    file.write_text(STARTER)
    return Settings.load(file, {})


def test_the_starters_devices_become_these_entities(starter: Settings) -> None:
    announced = {
        topic.removeprefix("homeassistant/").removesuffix("/config") for topic, _ in announcements(starter, "1")
    }
    assert {
        "binary_sensor/tierwise_home_device/online",
        "binary_sensor/tierwise_home_edge/online",
        "sensor/tierwise_home_cam1/garden_last_sighting",
        "binary_sensor/tierwise_home_cam1/garden_online",
        "image/tierwise_home_cam1/garden_picture",
        "binary_sensor/tierwise_home_room1/office_occupied",
        "binary_sensor/tierwise_home_room1/co2_unusual",
        "sensor/tierwise_home_room1/co2_value",
        "sensor/tierwise_home_meter/power_value",
    } <= announced
    assert len(announced) == 2 + 3 + 4 * 2 + 1 + 2


def test_every_message_is_as_home_assistant_documents_it(starter: Settings) -> None:
    announced = announcements(starter, "1")
    for topic, entity in announced:
        prefix, component, node, name, config = topic.split("/")
        assert (prefix, config) == ("homeassistant", "config")
        assert OBJECT.fullmatch(node) and OBJECT.fullmatch(name)
        sent = json.loads(messages.encode(entity))
        assert sent.keys() <= DOCUMENTED[component]
        topic_of = "image_topic" if component == "image" else "state_topic"
        assert {topic_of, "unique_id", "device", "origin"} <= sent.keys()
        assert sent["device"]["identifiers"] and sent["origin"]["name"]
        assert sent.get("device_class", next(iter(CLASSES[component]))) in CLASSES[component]
        if component == "sensor" and sent.get("device_class", "enum") != "enum":
            assert sent["unit_of_measurement"] in UNITS[sent["device_class"]]
        if component == "binary_sensor":
            assert (sent["payload_on"], sent["payload_off"]) == ("on", "off")
    assert len({entity.unique_id for _, entity in announced}) == len(announced)
    assert len({topic for topic, _ in announced}) == len(announced)


def test_each_reads_a_topic_that_somebody_publishes_and_follows_its_agents_last_will(
    starter: Settings,
) -> None:
    for topic, entity in announcements(starter, "1"):
        parsed = topics.parse(entity.state_topic or entity.image_topic)
        assert parsed is not None
        assert parsed.channel in ("result", "sighting", "status", "image")
        if not topic.endswith("/online/config") or "cam1" in topic:
            assert entity.availability_topic in {topics.status("home", role) for role in ("device", "edge")}


def test_every_unit_of_ours_is_one_that_its_class_has() -> None:
    assert all(measure.unit in UNITS[measure.device_class] for measure in MEASURES.values() if measure.device_class)
    assert MEASURES.keys() <= units.UNITS.keys(), "each is the name of a unit"


@given(
    st.dictionaries(
        st.sampled_from(["home/a/x", "home/a/y", "home/b/x"]),
        st.builds(
            StreamSettings,
            task=st.sampled_from(Task),
            result=st.sampled_from(Privacy),
            reading=st.sampled_from(Privacy),
            room=st.sampled_from([None, "office", "hall"]),
            unit=st.sampled_from([None, "Cel", "ppm", "strange"]),
        ),
    )
)
def test_no_entity_is_told_of_a_stream_whose_answers_stay_on_its_device(
    streams: dict[str, StreamSettings],
) -> None:
    announced = announcements(Settings(streams=streams), "1")
    for source, stream in streams.items():
        name = source.replace("home/", "tierwise_home_").replace("/", "_")
        entities = [entity for _, entity in announced if entity.unique_id.startswith(f"{name}_")]
        assert not entities or stream.result is not Privacy.USER_PRIVATE
        if stream.reading.height > stream.result.height:
            assert not [entity for entity in entities if entity.unique_id.endswith("_value")]
    for topic, entity in announced:
        cleared = gate.clear(entity, topic, to=Tier.EDGE)
        assert cleared.retain
        assert msgspec.json.decode(cleared.payload, type=Discovery) == entity


def test_home_assistants_branch_belongs_to_the_site() -> None:
    assert gate.reach(topics.discovery("sensor", "a", "b")) is Tier.EDGE


def test_templates_give_a_state_for_their_own_stream_and_nothing_for_others(starter: Settings) -> None:
    """With the engine that Home Assistant uses, where it is installed."""
    jinja2 = pytest.importorskip("jinja2")
    sensor = StreamSettings(task=Task.METER, reading=Privacy.EDGE_PRIVATE)
    with_states = msgspec.structs.replace(
        starter,
        streams={
            **starter.streams,
            "home/hall/door": msgspec.structs.replace(sensor, states=("Open", "Closed")),
            "home/hall/mode": msgspec.structs.replace(sensor, states=("off", "eco", "boost")),
        },
    )
    by_id = {entity.unique_id: entity for _, entity in announcements(with_states, "1")}

    class This:
        state = "before"

    def state(entity: str, **answer: object) -> str:
        template = jinja2.Template(by_id[f"tierwise_home_{entity}"].value_template)
        return str(template.render(value_json=answer, this=This))

    assert state("room1_co2_value", stream="co2", value=640.0) == "640.0"
    assert state("room1_co2_value", stream="light", value=3.0) == "", "not the converted state of another unit"
    assert state("room1_co2_unusual", stream="co2", path=["unusual"]) == "on"
    assert state("room1_co2_unusual", stream="co2", path=["normal"]) == "off"
    assert state("hall_door_unusual", stream="door", path=["unusual", "Open"]) == "on"
    assert state("hall_door_state", stream="door", path=["normal", "Open"], value=0.0) == "on"
    assert state("hall_door_state", stream="door", path=["normal", "Closed"], value=1.0) == "off"
    assert by_id["tierwise_home_hall_door_state"].device_class == "opening"
    assert state("hall_mode_state", stream="mode", path=["normal", "eco"]) == "eco"
    assert state("hall_mode_state", stream="door", path=["normal", "Open"]) == "None", "it has no state yet"
    This.state = "boost"
    assert state("hall_mode_state", stream="door", path=["normal", "Open"]) == "boost"
    assert by_id["tierwise_home_hall_mode_state"].options == ("off", "eco", "boost")
    assert state("room1_office_occupied", stream="office", label="occupied") == "on"
    assert state("cam1_garden_online", stream="garden") == "on"
    assert state("cam1_garden_last_sighting", label="Felidae") == "Felidae"
    assert state("edge_online", state="offline") == "off"


def test_a_stream_that_only_a_pattern_names_is_announced_once_it_was_heard() -> None:
    meter = StreamSettings(task=Task.METER, unit="Cel", reading=Privacy.EDGE_PRIVATE)
    settings = Settings(streams={"home/*/temperature": meter})
    before = announcements(settings, "1")
    after = announcements(settings, "1", ["home/barn/temperature", "home/barn/unknown"])
    new = {topic for topic, _ in after} - {topic for topic, _ in before}
    assert new == {
        topics.discovery("sensor", "tierwise_home_barn", "temperature_value"),
        topics.discovery("binary_sensor", "tierwise_home_barn", "temperature_unusual"),
    }


def test_a_devices_only_room_is_its_suggested_area() -> None:
    stream = StreamSettings(task=Task.OCCUPANCY, room="living_room", unit="Cel", reading=Privacy.EDGE_PRIVATE)
    elsewhere = msgspec.structs.replace(stream, room="hall")
    streams = {"home/a/t": stream, "home/a/u": stream, "home/b/t": stream, "home/b/u": elsewhere}
    areas = {
        entity.unique_id: entity.device.suggested_area for _, entity in announcements(Settings(streams=streams), "1")
    }
    assert areas["tierwise_home_a_t_value"] == "Living room"
    assert areas["tierwise_home_b_t_value"] == ""


def test_a_state_that_may_not_be_seen_has_no_entity() -> None:
    stream = StreamSettings(task=Task.METER, states=("closed", "open"), reading=Privacy.USER_PRIVATE)
    ids = [entity.unique_id for _, entity in announcements(Settings(streams={"home/hall/door": stream}), "1")]
    assert "tierwise_home_hall_door_unusual" in ids
    assert "tierwise_home_hall_door_state" not in ids


def test_a_camera_whose_pictures_stay_on_its_device_has_no_image() -> None:
    streams = {
        "home/cam1/garden": StreamSettings(pixels=Privacy.EDGE_PRIVATE),
        "home/cam1/hall": StreamSettings(pixels=Privacy.USER_PRIVATE),
    }
    images = [entity.image_topic for _, entity in announcements(Settings(streams=streams), "1") if entity.image_topic]
    assert images == [topics.image("home", "cam1", "garden")]
