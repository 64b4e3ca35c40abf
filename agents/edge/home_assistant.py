"""The messages by which Home Assistant finds a site's devices by itself (MQTT discovery); pure.

Each stream that the settings name becomes entities of its device, and each agent a device of its own::

    camera   last sighting (its consensus as attributes), online, last picture where its level allows
    sensor   value or state, unusual readings
    room     occupied
    agent    online, by its retained status and last will

An entity reads the topics that people read, through a template; nothing else is published for it. So it never knows
more than the site's people do. A stream with user-private answers has no entity. If a rule makes a single answer
user-private, it goes to the private branch, which the login of Home Assistant cannot read.

    >>> from pipeline.settings.settings import Settings
    >>> for topic, _ in announcements(Settings(), "1.0"):
    ...     print(topic)
    homeassistant/binary_sensor/tierwise_home_device/online/config
    homeassistant/binary_sensor/tierwise_home_edge/online/config
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from pipeline import states, topics
from pipeline.messages import Discovery, DiscoveryDevice, DiscoveryOrigin, Kind, Privacy, Task, Tier
from pipeline.privacy.gate import may_see
from pipeline.settings.settings import Settings, StreamSettings

STATE: Final = "{{ value_json.state }}"
ONLINE: Final = "{{ 'on' if value_json.state == 'online' else 'off' }}"
LABEL: Final = "{{ value_json.label }}"
AGENTS: Final = ("device", "edge")


class Measure(NamedTuple):
    """Home Assistant's device class and unit for one of our units; an empty class if it has none."""

    device_class: str
    unit: str


_CLASSES: Final = {
    "temperature": "Cel:°C degF:°F K",
    "humidity": "%RH:%",
    "illuminance": "lx",
    "carbon_dioxide": "ppm",
    "volatile_organic_compounds_parts": "ppb",
    "power": "mW W kW MW",
    "energy": "Wh kWh MWh J kJ MJ GJ",
    "voltage": "mV V kV",
    "current": "mA A",
    "apparent_power": "VA",
    "reactive_power": "var",
    "frequency": "Hz kHz MHz",
    "pressure": "Pa hPa kPa bar psi mmHg inHg",
    "distance": "mm cm m km in ft mi",
    "speed": "m/s km/h mph kn",
    "precipitation_intensity": "mm/h in/h",
    "volume_storage": "ml:mL l:L m3:m³ gal",
    "volume_flow_rate": "l/min:L/min m3/h:m³/h",
    "weight": "g kg lb",
    "duration": "ms s min h d",
    "irradiance": "W/m2:W/m²",
    "conductivity": "mS/cm uS/cm:µS/cm",
    "sound_pressure": "dB dBA",
    "signal_strength": "dBm",
    "data_size": "B",
    "data_rate": "bit/s",
    "ph": "pH:",
    "": "%EL:% ug/m3:µg/m³ mg/m3:mg/m³ deg:° Ohm:Ω kOhm:kΩ m2:m² m/s2:m/s² l/s:L/s l/h:L/h m3/s:m³/s uT:µT 1: /: count:",
}
"""Our units by Home Assistant's device class, with its spelling where that is another one. It refuses other pairs."""

MEASURES: Final = {
    ours: Measure(device_class, theirs if renamed else ours)
    for device_class, words in _CLASSES.items()
    for ours, renamed, theirs in (word.partition(":") for word in words.split())
}

BINARY_CLASSES: Final = {
    "open": "opening",
    "motion": "motion",
    "wet": "moisture",
    "leak": "moisture",
    "unlocked": "lock",
    "active": "running",
    "home": "presence",
    "occupied": "occupancy",
    "unsafe": "safety",
    "problem": "problem",
}
"""Home Assistant's class of a binary sensor, by the state that it shows as on."""

Announcement = tuple[str, Discovery]


def announcements(settings: Settings, version: str, heard: Iterable[str] = ()) -> list[Announcement]:
    """Return all entities of this site with their topics. They are sent at each connection, retained.

    `heard` are streams that sent something: a pattern of the settings names no stream by itself.
    """
    streams = settings.named_streams | {source: stream for source in heard if (stream := settings.stream(source))}
    areas = _areas(streams)
    return [
        *(_agent(settings.site, role, version) for role in AGENTS),
        *(
            announcement
            for source, stream in streams.items()
            if may_see(Tier.EDGE, stream.result)
            for announcement in _stream(source, stream, version, areas.get(source.rpartition("/")[0], ""))
        ),
        *_rooms(streams, version),
    ]


def _areas(streams: Mapping[str, StreamSettings]) -> dict[str, str]:
    """Return the room of each device whose streams name only one."""
    rooms: dict[str, set[str]] = {}
    for source, stream in streams.items():
        if stream.room is not None:
            rooms.setdefault(source.rpartition("/")[0], set()).add(stream.room)
    return {device: next(iter(names)) for device, names in rooms.items() if len(names) == 1}


def _agent(site: str, role: str, version: str) -> Announcement:
    status = topics.status(site, role)
    return _announcement(
        "binary_sensor",
        f"{site}_{role}",
        "online",
        Discovery(
            name="Online",
            unique_id=f"tierwise_{site}_{role}_online",
            state_topic=status,
            value_template=ONLINE,
            payload_on="on",
            payload_off="off",
            device_class="connectivity",
            entity_category="diagnostic",
            json_attributes_topic=status,
            device=DiscoveryDevice(
                identifiers=(f"tierwise_{site}_{role}",), name=f"Tierwise {role} ({site})", sw_version=version
            ),
            origin=DiscoveryOrigin(sw_version=version),
        ),
    )


def _stream(source: str, stream: StreamSettings, version: str, area: str) -> Iterator[Announcement]:
    site, device, name = source.split("/")
    here = _Place(site, device, name, version, area)
    if stream.task is Task.WILDLIFE:
        yield here.entity(
            "sensor",
            "last_sighting",
            f"{_title(name)}: last sighting",
            state_topic=topics.sighting(site, device, name),
            value_template=LABEL,
            json_attributes_topic=topics.sighting(site, device, name),
            icon="mdi:paw",
            published_by="edge",
        )
        yield here.entity(
            "binary_sensor",
            "online",
            f"{_title(name)}: online",
            value_template=here.only("'on'"),
            payload_on="on",
            payload_off="off",
            off_delay=round(stream.off_delay_s),
            device_class="connectivity",
        )
        if may_see(Tier.EDGE, stream.pixels):
            image = topics.image(site, device, name)
            yield here.entity(
                "image", "picture", f"{_title(name)}: last picture", image_topic=image, published_by="edge"
            )
        return
    yield here.entity(
        "binary_sensor",
        "unusual",
        f"{_title(name)}: unusual",
        value_template=here.only("'on' if 'unusual' in value_json.path else 'off'"),
        payload_on="on",
        payload_off="off",
        device_class="problem",
    )
    if stream.states and stream.result.join(stream.reading) is stream.result:
        yield _state(here, stream.states)
    if stream.result.join(stream.reading) is stream.result and stream.unit is not None:
        measure = MEASURES.get(stream.unit, Measure("", stream.unit))
        yield here.entity(
            "sensor",
            "value",
            _title(name),
            value_template=here.only("value_json.value"),
            device_class=measure.device_class,
            unit_of_measurement=measure.unit,
            state_class="measurement" if measure.device_class != "energy" else "total_increasing",
        )


def _state(here: _Place, named: tuple[str, ...]) -> Announcement:
    """Return the entity of a stream of states: on and off for two of them, else their names."""
    if len(named) > 2:
        # An enumeration refuses an empty value. It repeats its own state, which no unit converts.
        options = list(named)
        keep = f"this.state if this.state in {options} else 'None'"
        return here.entity(
            "sensor",
            "state",
            _title(here.name),
            value_template=f"{{{{ value_json.path[-1] if value_json.stream == '{here.name}' else ({keep}) }}}}",
            device_class="enum",
            options=named,
        )
    usual = [states.place(name) for name in named]
    number = next((number for number, place in enumerate(usual) if place and place.number == 1), 1)
    place = usual[number]
    return here.entity(
        "binary_sensor",
        "state",
        _title(here.name),
        value_template=here.only(f"'on' if value_json.value == {number} else 'off'"),
        payload_on="on",
        payload_off="off",
        device_class=BINARY_CLASSES.get(place.name, "") if place else "",
    )


def _rooms(streams: Mapping[str, StreamSettings], version: str) -> Iterator[Announcement]:
    """Yield the rooms. A room's window is published under its first stream's device, with its highest level."""
    rooms: dict[str, list[tuple[str, StreamSettings]]] = {}
    for source, stream in streams.items():
        if stream.room is not None and stream.task is Task.OCCUPANCY:
            rooms.setdefault(stream.room, []).append((source, stream))
    for room, members in rooms.items():
        level = Privacy.PUBLIC
        for _, stream in members:
            level = level.join(stream.levels.of(Kind.RESULT))
        if not may_see(Tier.EDGE, level):
            continue
        site, device, _ = min(source for source, _ in members).split("/")
        here = _Place(site, device, room, version, room)
        yield here.entity(
            "binary_sensor",
            "occupied",
            f"{_title(room)}: occupied",
            state_topic=topics.result(site, device, Tier.EDGE, Privacy.EDGE_PRIVATE),
            value_template=here.only("'on' if value_json.label == 'occupied' else 'off'"),
            payload_on="on",
            payload_off="off",
            device_class="occupancy",
            published_by="edge",
        )


class _Place(NamedTuple):
    """A stream or a room, and the entities that it becomes."""

    site: str
    device: str
    name: str
    version: str
    area: str

    def only(self, value: str) -> str:
        """Return a template for answers about this stream alone; for others it yields nothing, which changes nothing.

        It must not repeat `this.state`: that is in the unit of the person who looks at it.
        """
        return f"{{% if value_json.stream == '{self.name}' %}}{{{{ {value} }}}}{{% endif %}}"

    def entity(
        self,
        component: str,
        what: str,
        name: str,
        *,
        published_by: str = "device",
        state_topic: str = "",
        image_topic: str = "",
        **more: object,
    ) -> Announcement:
        device = f"tierwise_{self.site}_{self.device}"
        answers = topics.result(self.site, self.device, Tier.DEVICE, Privacy.EDGE_PRIVATE)
        entity = Discovery(
            name=name,
            unique_id=f"{device}_{self.name}_{what}",
            state_topic="" if image_topic else state_topic or answers,
            image_topic=image_topic,
            content_type="image/jpeg" if image_topic else "",
            availability_topic=topics.status(self.site, published_by),
            availability_template=STATE,
            device=DiscoveryDevice(
                identifiers=(device,),
                name=f"{_title(self.device)} ({self.site})",
                via_device=f"tierwise_{self.site}_device",
                sw_version=self.version,
                suggested_area=_title(self.area),
            ),
            origin=DiscoveryOrigin(sw_version=self.version),
            **more,  # type: ignore[arg-type]  # fields of Discovery
        )
        return _announcement(component, f"{self.site}_{self.device}", f"{self.name}_{what}", entity)


def _announcement(component: str, node: str, what: str, entity: Discovery) -> Announcement:
    return topics.discovery(component, f"tierwise_{node}", what), entity


def _title(name: str) -> str:
    return name.replace("_", " ").replace("-", " ").capitalize()
