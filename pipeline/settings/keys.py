"""The keys of the settings, section by section: type, bounds, default, and what follows from them.

Frozen structs and nothing else: `settings.py` fills them from a file, `settings_checks.py` knows which values cannot be
meant together, docs/settings.md tells a person what each is for. Every key has a default::

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
    def __repr__(self) -> str:
        """Without secrets: settings get logged."""
        shown = (
            (name, "***" if name in _SECRETS and value else value)
            for name, value in msgspec.structs.asdict(self).items()
        )
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown)})"


class MqttSettings(Section, frozen=True, kw_only=True):
    """The site's broker: `embedded`, ``host:port`` or ``mqtts://host:port``."""

    address: str = EMBEDDED
    port: Port = MQTT_PORT
    """Of the embedded broker."""
    username: str = ""
    password: str = ""
    password_file: str = ""
    """Read into `password` when the settings are loaded."""
    ca: str = ""

    @property
    def is_embedded(self) -> bool:
        return self.address == EMBEDDED

    @property
    def tls(self) -> bool:
        return self.address.startswith(TLS_SCHEME)

    @property
    def host(self) -> str:
        return LOOPBACK if self.is_embedded else host_port(self.address, MQTT_PORT)[0]

    @property
    def port_number(self) -> int:
        if self.is_embedded:
            return self.port
        return host_port(self.address, MQTT_TLS_PORT if self.tls else MQTT_PORT)[1]


class UplinkSettings(Section, frozen=True, kw_only=True):
    """The broker between edge and gateway: see `Keys.uplink_mqtt`."""

    address: str = ""
    """As `MqttSettings.address`; empty: the site's own broker, and the login there is the site's."""
    username: str = ""
    password: str = ""
    password_file: str = ""
    ca: str = ""
    sealed: tuple[Privacy, ...] = ()
    """Levels whose records may leave their tier sealed; empty: what is above `public` stays where it is."""


class KafkaSettings(Section, frozen=True, kw_only=True):
    address: str = EMBEDDED
    port: Port = KAFKA_PORT
    """Of the embedded broker."""
    security: Literal["PLAINTEXT", "SASL_PLAINTEXT", "SASL_SSL", "SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    username: str = ""
    password: str = ""
    password_file: str = ""
    ca: str = ""
    replication: Positive = 1
    retention_mib: Positive = 256
    """Per partition, of topics that are not compacted."""

    @property
    def is_embedded(self) -> bool:
        return self.address == EMBEDDED

    @property
    def servers(self) -> tuple[str, ...]:
        """``host:port`` of each broker to ask first."""
        if self.is_embedded:
            return (f"{LOOPBACK}:{self.port}",)
        pairs = (host_port(part.strip(), KAFKA_PORT) for part in self.address.split(","))
        return tuple(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in pairs)


class InfluxSettings(Section, frozen=True, kw_only=True):
    """InfluxDB 2; with no url the SQLite twin under the data folder takes its place."""

    url: str = ""
    token: str = ""
    token_file: str = ""
    """Read into `token` when the settings are loaded."""
    org: str = "tierwise"
    bucket: str = "tierwise"


class DeviceSettings(Section, frozen=True, kw_only=True):
    names: tuple[str, ...] = ()
    """Devices that this agent answers for; empty: every device of the site."""
    backbone: Literal["auto", "on", "off"] = "auto"
    """What a frame is looked at with: the backbone, the small network, or what a measurement at start says."""
    person_miss_rate: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.02
    """Without the backbone crops leave only by a network that is known to miss no larger share of persons."""
    camera: str = ""
    """Becomes the `source` of the file's first camera stream, where only the environment can be written."""
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
    model: str = ""
    """``name@version`` of an imported model that names families; empty: the released one."""
    cloud_deadline_s: PositiveSeconds = 10
    window_s: PositiveSeconds = 300
    spool_mib: Positive = 1024
    keep_days: Positive = 30
    home_assistant: bool = False
    learn: bool = True
    """Whether the edge learns by itself from its own labelled events."""
    share_sums: bool = False
    """Whether sums over many edge-private events may become public, by the gate's rule."""
    asks_a_day: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 10
    """Labels that people are asked for; 0: none."""


class ReleaseSettings(Section, frozen=True, kw_only=True):
    root: str = ""
    """The root metadata that releases are verified against; empty: see `Keys.releases_root`."""
    bytes_per_s: Positive = 131_072
    """How fast an edge asks for the files of a release."""


class TrainerSettings(Section, frozen=True, kw_only=True):
    labels: Positive = 50
    """So many new labels start a training."""
    every_h: Annotated[float, msgspec.Meta(ge=0)] = 24
    """And at least this often, if there are any; 0: never by the clock."""
    rank_margin: Margin = 0.01
    """Of golden photos at any rank a release may lose."""
    class_margin: Margin = 0.05
    """Of a large class' golden photos."""
    person_margin: Margin = 0.01
    """Of persons' recall."""
    held_out_margin: Margin = 0.05
    """Of held-out events at any rank."""
    canary_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.1
    canary_s: Annotated[float, msgspec.Meta(ge=0)] = 600
    hold: bool = False
    """Releases wait, signed, until a person promotes them."""


class HttpSettings(Section, frozen=True, kw_only=True):
    """Loopback ports of each role's `/health` and `/metrics`; 0: any free one, -1: none."""

    device: HttpPort = 8701
    edge: HttpPort = 8702
    gateway: HttpPort = 8703
    stream: HttpPort = 8704
    cloud: HttpPort = 8705
    trainer: HttpPort = 8706


class LogSettings(Section, frozen=True, kw_only=True):
    format: Literal["auto", "json", "text"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class StreamSettings(Section, frozen=True, kw_only=True):
    """What is asked of one stream, and the level of each kind of its records before any rule raises it."""

    task: Task = Task.WILDLIFE
    wants: Rank = Rank.SPECIES
    """In a file without this key: the deepest rank of the task."""
    source: str = ""
    """What the device agent opens by itself: ``rtsp://…``, a webcam's number, a video file, a folder of photos."""
    room: str | None = None
    unit: str | None = None
    deadband: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """Smallest change worth reporting, in the stream's unit; None: from the readings' own noise."""
    pixels: Privacy = Privacy.USER_PRIVATE
    feature: Privacy = Privacy.USER_PRIVATE
    result: Privacy = Privacy.EDGE_PRIVATE
    reading: Privacy = Privacy.USER_PRIVATE
    summary: Privacy = Privacy.USER_PRIVATE
    reason: str = ""

    @property
    def levels(self) -> Levels:
        return Levels(*(getattr(self, kind.value) for kind in LEVELLED))


class RuleSettings(Section, frozen=True, kw_only=True):
    """Raises levels of events that match everything it names."""

    name: str
    stream: str = "*"
    """Glob on ``site/device/stream`` or ``device/stream``."""
    hours: str | None = None
    weekdays: tuple[Weekday, ...] = ()
    label: str | None = None
    """Anything on the answer's path: a kingdom, a family, a species."""
    person: bool = False
    """Only events with a person in the frame."""
    raise_: dict[Kind, Privacy] = msgspec.field(name="raise")
    reason: str

    def names_stream(self, source: str) -> bool:
        """Whether the rule is about this stream (``site/device/stream``)."""
        return fnmatchcase(source, self.stream) or fnmatchcase(source.partition("/")[2], self.stream)


class Keys(Section, frozen=True, kw_only=True):
    """All of the file; `pipeline.settings.settings.Settings` is what the roles hold."""

    site: str = DEFAULT_SITE
    data: str = DEFAULT_DATA
    """Folder of everything that a site keeps; relative to the settings file."""
    zoo: str = ""
    """Folder of models that stand in for those of the same name that came with the program."""
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
        return Path(self.data)

    @property
    def releases_dir(self) -> Path:
        """The trainer's repository of signed releases, where one runs on this data folder."""
        return self.data_dir / "releases"

    @property
    def releases_root(self) -> Path:
        """The root metadata to trust: the file that was named or brought here; else the trainer's own, of this machine."""
        if self.releases.root:
            return Path(self.releases.root)
        brought = self.data_dir / "releases-root.json"
        own = self.releases_dir / "metadata" / "1.root.json"
        return own if own.exists() and not brought.exists() else brought

    @property
    def zoo_dir(self) -> Path | None:
        return Path(self.zoo) if self.zoo else None

    @property
    def zone(self) -> ZoneInfo:
        """Of schedules, of the hour of the week, of the days of counts."""
        return ZoneInfo(self.timezone)

    @property
    def uplink_mqtt(self) -> MqttSettings:
        """The broker that edge and gateway really meet at."""
        uplink = self.uplink
        if not uplink.address:
            return self.mqtt
        return MqttSettings(
            address=uplink.address, username=uplink.username, password=uplink.password, ca=uplink.ca
        )

    def stream(self, source: str) -> StreamSettings | None:
        """The settings of ``site/device/stream``; None of a stream that the file does not name."""
        return self.streams.get(source)
