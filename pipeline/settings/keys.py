"""The keys of the settings, section by section: types, bounds, defaults and derived values.

`settings.py` fills these frozen structs from a file, and `checks.py` finds impossible values. docs/settings.md explains
every key. Every key has a default::

    >>> Keys().mqtt.host, Keys().kafka.servers
    ('127.0.0.1', ('127.0.0.1:9092',))
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

import msgspec

from pipeline.messages import LEVELLED, Kind, Levels, Privacy, Rank, Task
from pipeline.settings.addresses import (
    EMBEDDED,
    KAFKA_PORT,
    LOOPBACK,
    MQTT_PORT,
    MQTT_TLS_PORT,
    TLS_SCHEME,
    host_port,
)
from pipeline.settings.file import DEFAULT_DATA, DEFAULT_SITE
from pipeline.settings.hours import Weekday

_SECRETS: Final = frozenset({"password", "token"})

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
HttpPort = Annotated[int, msgspec.Meta(ge=-1, le=65535)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Margin = Annotated[float, msgspec.Meta(ge=0, le=1)]
PositiveSeconds = Annotated[float, msgspec.Meta(gt=0)]


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all sections."""

    def __repr__(self) -> str:
        """Return the section without its secrets, since settings are logged."""
        shown = (
            (name, "***" if name in _SECRETS and value else value)
            for name, value in msgspec.structs.asdict(self).items()
        )
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown)})"


class MqttSettings(Section, frozen=True, kw_only=True):
    """The site's broker: `embedded`, ``host:port`` or ``mqtts://host:port``."""

    address: str = EMBEDDED
    port: Port = MQTT_PORT
    """Port of the embedded broker."""
    username: str = ""
    password: str = ""
    password_file: str = ""
    """Read into `password` when the settings are loaded."""
    ca: str = ""

    @property
    def is_embedded(self) -> bool:
        """Whether `tierwise up` starts this broker."""
        return self.address == EMBEDDED

    @property
    def tls(self) -> bool:
        """Whether the connection uses TLS."""
        return self.address.startswith(TLS_SCHEME)

    @property
    def host(self) -> str:
        """The broker's host name or address."""
        return LOOPBACK if self.is_embedded else host_port(self.address, MQTT_PORT)[0]

    @property
    def port_number(self) -> int:
        """The broker's port."""
        if self.is_embedded:
            return self.port
        return host_port(self.address, MQTT_TLS_PORT if self.tls else MQTT_PORT)[1]


class UplinkSettings(Section, frozen=True, kw_only=True):
    """The broker between edge and gateway: see `Keys.uplink_mqtt`."""

    address: str = ""
    """As `MqttSettings.address`; if empty, the site's own broker with the site's login."""
    username: str = ""
    password: str = ""
    password_file: str = ""
    ca: str = ""
    sealed: tuple[Privacy, ...] = ()
    """Levels whose records may leave their tier sealed; if empty, only `public` records leave."""


class KafkaSettings(Section, frozen=True, kw_only=True):
    """The Kafka brokers of gateway, stream role, cloud and trainer."""

    address: str = EMBEDDED
    port: Port = KAFKA_PORT
    """Port of the embedded broker."""
    security: Literal["PLAINTEXT", "SASL_PLAINTEXT", "SASL_SSL", "SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    username: str = ""
    password: str = ""
    password_file: str = ""
    ca: str = ""
    replication: Positive = 1
    retention_mib: Positive = 256
    """How much each partition of a topic without compaction keeps."""

    @property
    def is_embedded(self) -> bool:
        """Whether `tierwise up` starts this broker."""
        return self.address == EMBEDDED

    @property
    def servers(self) -> tuple[str, ...]:
        """``host:port`` of each broker to connect to first."""
        if self.is_embedded:
            return (f"{LOOPBACK}:{self.port}",)
        pairs = (host_port(part.strip(), KAFKA_PORT) for part in self.address.split(","))
        return tuple(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in pairs)


class InfluxSettings(Section, frozen=True, kw_only=True):
    """InfluxDB 2; without a url, an SQLite file in the data folder takes its place."""

    url: str = ""
    token: str = ""
    token_file: str = ""
    """Read into `token` when the settings are loaded."""
    org: str = "tierwise"
    bucket: str = "tierwise"


class DeviceSettings(Section, frozen=True, kw_only=True):
    """The device agent."""

    names: tuple[str, ...] = ()
    """Devices that this agent answers for; if empty, every device of the site."""
    backbone: Literal["auto", "on", "off"] = "auto"
    """Which model answers for a frame: the backbone, the small network, or the choice of a measurement at start."""
    person_miss_rate: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.02
    """Without the backbone, crops leave only if the network is known to miss at most this share of persons."""
    camera: str = ""
    """Becomes the `source` of the file's first camera stream, for containers that only set the environment."""
    send: Literal["crop", "vector"] = "crop"
    edge_deadline_s: PositiveSeconds = 10
    sighting_gap_s: PositiveSeconds = 30
    pictures_mib: Annotated[int, msgspec.Meta(ge=0)] = 256
    pictures_days: Positive = 7
    spool_mib: Positive = 1024
    workers: Positive = 2
    still_s: PositiveSeconds = 30
    person_hold_s: Annotated[float, msgspec.Meta(ge=0)] = 10


class EdgeSettings(Section, frozen=True, kw_only=True):
    """The edge agent."""

    model: str = ""
    """``name@version`` of an imported model that names families; if empty, the released model."""
    cloud_deadline_s: PositiveSeconds = 10
    window_s: PositiveSeconds = 300
    spool_mib: Positive = 1024
    keep_days: Positive = 30
    home_assistant: bool = False
    learn: bool = True
    """Whether the edge learns from its own labelled events."""
    share_sums: bool = False
    """Whether sums over many edge-private events may become public, by the gate's rule."""
    asks_a_day: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 10
    """Label requests a day; 0 means none."""


class ReleaseSettings(Section, frozen=True, kw_only=True):
    """How releases are verified and downloaded."""

    root: str = ""
    """The root metadata to verify releases with; if empty, see `Keys.releases_root`."""
    bytes_per_s: Positive = 131_072
    """How fast an edge downloads the files of a release."""


class TrainerSettings(Section, frozen=True, kw_only=True):
    """When the trainer trains, and how much worse a release may be than the one before."""

    labels: Positive = 50
    """This number of new labels starts a training."""
    every_h: Annotated[float, msgspec.Meta(ge=0)] = 24
    """With any new label, a training starts after this time at the latest; 0 means never by the clock."""
    rank_margin: Margin = 0.01
    """The share of golden photos that a release may lose at any rank."""
    class_margin: Margin = 0.05
    """The share that it may lose of the golden photos of a large class."""
    person_margin: Margin = 0.01
    """The share that it may lose of the recall of persons."""
    held_out_margin: Margin = 0.05
    """The share that it may lose of the held-out events at any rank."""
    canary_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.1
    canary_s: Annotated[float, msgspec.Meta(ge=0)] = 600
    hold: bool = False
    """Whether signed releases wait until a person promotes them."""


class HttpSettings(Section, frozen=True, kw_only=True):
    """The loopback port of each role's `/health` and `/metrics`; 0 takes any free port, -1 opens none."""

    device: HttpPort = 8701
    edge: HttpPort = 8702
    gateway: HttpPort = 8703
    stream: HttpPort = 8704
    cloud: HttpPort = 8705
    trainer: HttpPort = 8706


class LogSettings(Section, frozen=True, kw_only=True):
    """The form of the log lines, and the lowest level to log."""

    format: Literal["auto", "json", "text"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class StreamSettings(Section, frozen=True, kw_only=True):
    """A stream's task, and the level of each kind of its records before any rule raises it."""

    task: Task = Task.WILDLIFE
    wants: Rank = Rank.SPECIES
    """The default in a file is the deepest rank of the task."""
    source: str = ""
    """The camera that the device agent opens: ``rtsp://…``, a webcam's number, a video file, a folder of photos."""
    room: str | None = None
    unit: str | None = None
    deadband: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """Smallest change to report, in the stream's unit; None derives it from the noise of the readings."""
    pixels: Privacy = Privacy.USER_PRIVATE
    feature: Privacy = Privacy.USER_PRIVATE
    result: Privacy = Privacy.EDGE_PRIVATE
    reading: Privacy = Privacy.USER_PRIVATE
    summary: Privacy = Privacy.USER_PRIVATE
    reason: str = ""

    @property
    def levels(self) -> Levels:
        """The levels of all kinds."""
        return Levels(*(getattr(self, kind.value) for kind in LEVELLED))


class RuleSettings(Section, frozen=True, kw_only=True):
    """A rule: raises the levels of events that meet all its conditions."""

    name: str
    stream: str = "*"
    """A glob for ``site/device/stream`` or ``device/stream``."""
    hours: str | None = None
    weekdays: tuple[Weekday, ...] = ()
    label: str | None = None
    """A label on the answer's path: a kingdom, a family or a species."""
    person: bool = False
    """Whether the rule is only for events with a person in the frame."""
    raise_: dict[Kind, Privacy] = msgspec.field(name="raise")
    reason: str

    def names_stream(self, source: str) -> bool:
        """Return whether the rule is about this stream (``site/device/stream``)."""
        return fnmatchcase(source, self.stream) or fnmatchcase(source.partition("/")[2], self.stream)


class Keys(Section, frozen=True, kw_only=True):
    """All keys of the file; the roles hold a `pipeline.settings.settings.Settings`."""

    site: str = DEFAULT_SITE
    data: str = DEFAULT_DATA
    """The folder of all files that a site stores; relative to the settings file."""
    zoo: str = ""
    """A folder of models that replace the shipped models of the same name."""
    timezone: str = "UTC"
    mqtt: MqttSettings = MqttSettings()
    uplink: UplinkSettings = UplinkSettings()
    kafka: KafkaSettings = KafkaSettings()
    influx: InfluxSettings = InfluxSettings()
    cloud_influx: InfluxSettings = InfluxSettings()
    device: DeviceSettings = DeviceSettings()
    edge: EdgeSettings = EdgeSettings()
    releases: ReleaseSettings = ReleaseSettings()
    trainer: TrainerSettings = TrainerSettings()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()
    streams: dict[str, StreamSettings] = {}
    """By source, ``site/device/stream``; a file may leave the site out."""
    rules: tuple[RuleSettings, ...] = ()

    @property
    def data_dir(self) -> Path:
        """The data folder."""
        return Path(self.data)

    @property
    def releases_dir(self) -> Path:
        """The trainer's repository of signed releases, if a trainer runs on this data folder."""
        return self.data_dir / "releases"

    @property
    def releases_root(self) -> Path:
        """The root metadata to trust: the named file, a copied ``releases-root.json``, or this machine's trainer's."""
        if self.releases.root:
            return Path(self.releases.root)
        copied = self.data_dir / "releases-root.json"
        own = self.releases_dir / "metadata" / "1.root.json"
        return own if own.exists() and not copied.exists() else copied

    @property
    def zoo_dir(self) -> Path | None:
        """The folder of replacing models, if there is one."""
        return Path(self.zoo) if self.zoo else None

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of rules, of the usual hours of readings and of the days of counts."""
        return ZoneInfo(self.timezone)

    @property
    def uplink_mqtt(self) -> MqttSettings:
        """The broker between edge and gateway: the uplink's, or the site's if the uplink has none."""
        uplink = self.uplink
        if not uplink.address:
            return self.mqtt
        return MqttSettings(
            address=uplink.address, username=uplink.username, password=uplink.password, ca=uplink.ca
        )

    def stream(self, source: str) -> StreamSettings | None:
        """Return the settings of ``site/device/stream``, or None if the file does not name the stream."""
        return self.streams.get(source)
