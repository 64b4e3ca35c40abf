"""The keys of the settings, section by section: types, bounds, defaults and derived values.

Frozen structs. `settings.py` fills them from a file, `checks.py` refuses impossible combinations. docs/settings.md
prints the docstring below each key, so write it for a person who edits the file. Every key has a default::

    >>> Keys().mqtt.host, Keys().kafka.servers
    ('127.0.0.1', ('127.0.0.1:9092',))
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cached_property
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
from pipeline.settings.deployment_keys import DeploymentSettings
from pipeline.settings.file import DEFAULT_DATA, DEFAULT_SITE
from pipeline.settings.hours import Weekday
from pipeline.settings.intake_keys import IntakeSettings
from pipeline.settings.patterns import is_pattern, ranked
from pipeline.settings.section import Port, Positive, PositiveSeconds, Section

WINNERS_MAX: Final = 4096
"""Streams whose entry is remembered: anyone may invent names."""

HttpPort = Annotated[int, msgspec.Meta(ge=-1, le=65535)]
Margin = Annotated[float, msgspec.Meta(ge=0, le=1)]
Format = Literal[
    "", "json", "zigbee2mqtt", "tasmota", "shelly", "esphome", "homie", "chirpstack", "ttn", "frigate"
]  # fmt: skip
"""The presets of `pipeline.foreign.formats`."""


class MqttSettings(Section, frozen=True, kw_only=True):
    """The site's broker: `embedded`, ``host:port`` or ``mqtts://host:port``."""

    address: str = EMBEDDED
    """`"embedded"` (started by `tierwise up`), `"host:port"`, or `"mqtts://host:port"` for TLS. Default ports:
    1883, with TLS 8883."""
    port: Port = MQTT_PORT
    """Port of the embedded broker, on loopback."""
    username: str = ""
    """Login at the broker. Empty: the broker asks for none."""
    password: str = ""
    """Password of the login. Better kept in a file of its own or in the environment."""
    password_file: str = ""
    """File that holds the password."""
    ca: str = ""
    """PEM file of the certificates that sign the broker's. Empty: those that the system trusts."""

    @property
    def is_embedded(self) -> bool:
        """Return whether `tierwise up` starts this broker."""
        return self.address == EMBEDDED

    @property
    def tls(self) -> bool:
        """Return whether the connection uses TLS."""
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
    """As `mqtt.address`. Empty: the site's own broker, with the login of `[mqtt]`."""
    username: str = ""
    """As in `[mqtt]`."""
    password: str = ""
    """As in `[mqtt]`."""
    password_file: str = ""
    """As in `[mqtt]`."""
    ca: str = ""
    """As in `[mqtt]`."""
    sealed: tuple[Privacy, ...] = ()
    """Levels whose records may leave their tier encrypted: `"edge-private"`, `"user-private"`. Empty: every
    record above `public` stays."""


class KafkaSettings(Section, frozen=True, kw_only=True):
    """The Kafka brokers of gateway, stream role, cloud and trainer."""

    address: str = EMBEDDED
    """`"embedded"`, or one or more `"host:port"` with commas between. Default port: 9092."""
    port: Port = KAFKA_PORT
    """Port of the embedded broker, on loopback."""
    security: Literal["PLAINTEXT", "SASL_PLAINTEXT", "SASL_SSL", "SSL"] = "PLAINTEXT"
    """Security protocol: also `"SASL_PLAINTEXT"`, `"SASL_SSL"`, `"SSL"`."""
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    """SASL mechanism: also `"SCRAM-SHA-256"`, `"SCRAM-SHA-512"`."""
    username: str = ""
    """Login with SASL."""
    password: str = ""
    """Password of the login."""
    password_file: str = ""
    """File that holds the password."""
    ca: str = ""
    """PEM file of the certificates that sign the brokers'. Empty: those that the system trusts."""
    replication: Positive = 1
    """Copies of each topic that `tierwise stream` creates. A real cluster wants 3."""
    retention_mib: Positive = 256
    """Size that each partition of a topic may reach, in MiB. Compacted topics are exempt."""
    compression: Literal["", "gzip", "snappy", "lz4", "zstd"] = ""
    """Codec of sent batches: also `"gzip"`, `"snappy"`, `"lz4"`, `"zstd"`. Roles read all of them. Empty: none."""
    session_timeout_s: Annotated[int, msgspec.Meta(ge=3)] = 6
    """After this time another replica takes over from one that was killed. Kafka refuses less than 6 by default."""

    @property
    def is_embedded(self) -> bool:
        """Return whether `tierwise up` starts this broker."""
        return self.address == EMBEDDED

    @property
    def servers(self) -> tuple[str, ...]:
        """``host:port`` of each broker to connect to first."""
        if self.is_embedded:
            return (f"{LOOPBACK}:{self.port}",)
        pairs = (host_port(part.strip(), KAFKA_PORT) for part in self.address.split(","))
        return tuple(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in pairs)


class InfluxSettings(Section, frozen=True, kw_only=True):
    """The store of time series."""

    url: str = ""
    """InfluxDB 2, as `"http://host:8086"`. Empty: an SQLite file under the data folder."""
    token: str = ""
    """Token of InfluxDB. Better kept in the environment: `TIERWISE_INFLUX__TOKEN`."""
    token_file: str = ""
    """File that holds the token."""
    org: str = "tierwise"
    """Organisation."""
    bucket: str = "tierwise"
    """Bucket."""


class DeviceSettings(Section, frozen=True, kw_only=True):
    """The device agent."""

    names: tuple[str, ...] = ()
    """Devices that this agent answers for. Empty: every device of the site."""
    backbone: Literal["auto", "on", "off"] = "auto"
    """Model that looks at frames: `"on"` is the backbone, `"off"` the small network `glimpse`. `"auto"` measures
    the backbone at the start, before the first answer, and takes it if a frame costs at most 250 ms of processor
    time. `/health` and the log name the choice and its reason."""
    person_miss_rate: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.02
    """Without the backbone, crops leave the device only if its network misses no larger share of persons.
    Otherwise pixels stay, by the rule `person-check-too-weak`. See
    [models](models.md#on-a-weak-device-glimpse)."""
    camera: str = ""
    """Becomes the `source` of the first camera stream. For places where only the environment can be set:
    `TIERWISE_DEVICE__CAMERA=rtsp://…`."""
    camera_login: str = ""
    """As `login` of a stream, for `camera`."""
    camera_login_file: str = ""
    """As `login_file` of a stream, for `camera`."""
    send: Literal["crop", "vector"] = "crop"
    """Part of a frame that goes to the edge: the `"crop"` around the movement, or a `"vector"` and no pixels at
    all."""
    edge_deadline_s: PositiveSeconds = 10
    """Seconds that an answer waits for the edge. After that the device marks it as final for now."""
    sighting_gap_s: PositiveSeconds = 30
    """Frames of one stream with a longer gap (seconds) belong to two sightings. So do frames more than ten
    minutes apart."""
    pictures_mib: Annotated[int, msgspec.Meta(ge=0)] = 256
    """Size of the ring of recent pictures on the device, in MiB. 0: keep none."""
    pictures_days: Positive = 7
    """Days that a picture stays in the ring at most, from its arrival on."""
    spool_mib: Positive = 1024
    """Size that unacknowledged records may reach, in MiB. When it is full, the agent takes no new input and drops
    nothing."""
    workers: Positive = 2
    """Frames that are processed in parallel."""
    busy_at: Positive = 500
    """Frames of one stream that may wait for their answers. Further frames over MQTT are refused as `busy`, before
    they are stored: the camera can send them again later."""
    busy_after_s: PositiveSeconds = 60
    """Seconds that the oldest frame of a stream may have waited before further ones are refused as `busy`. `/health`
    is not ready while a frame waits for longer than this."""
    still_s: PositiveSeconds = 30
    """Seconds after which a frame is looked at even though nothing moved."""
    person_hold_s: Annotated[float, msgspec.Meta(ge=0)] = 10
    """Seconds after a person was seen during which every frame of the stream counts as showing a person: somebody
    who turned away is still there. By the time of capture for old photos (see the guide for wildlife)."""


class EdgeSettings(Section, frozen=True, kw_only=True):
    """The edge agent."""

    model: str = ""
    """Model that names families, as `"mine@2"`: one that [`tierwise models import`](models.md#your-own-model)
    brought. Empty: the released model."""
    cloud_deadline_s: PositiveSeconds = 10
    """Seconds that an answer waits for the cloud."""
    window_s: PositiveSeconds = 300
    """Length of the windows over a room's streams, in seconds."""
    spool_mib: Positive = 1024
    """As `device.spool_mib`."""
    keep_days: Positive = 30
    """Days that answers and time series stay at the site."""
    home_assistant: bool = False
    """Announce the site's devices to Home Assistant by MQTT discovery."""
    learn: bool = True
    """Let the edge [learn by itself](explanation/site-learning.md) from labels of its own events. Releases of the
    cloud serve either way."""
    share_sums: bool = False
    """Let sums over at least 20 visits a label leave the site, although the events are edge-private. See
    [what sums reveal](privacy.md#what-sums-tell)."""
    asks_a_day: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 10
    """[Labels](explanation/label-requests.md) that the site's people are asked for each day, at
    most. 0: none."""


class ReleaseSettings(Section, frozen=True, kw_only=True):
    """Verification and download of releases."""

    root: str = ""
    """File of the root metadata that edge and cloud verify releases against. Empty: `releases-root.json` in the
    data folder; without that file, the root of a trainer on the same data folder. See
    [releases](explanation/releases.md)."""
    bytes_per_s: Positive = 131_072
    """Speed at which an edge downloads a release, in bytes a second."""


class TrainerSettings(Section, frozen=True, kw_only=True):
    """Conditions of a training, and limits for a release that is worse than the one before."""

    labels: Positive = 50
    """Number of new or changed labels that starts a training."""
    every_h: Annotated[float, msgspec.Meta(ge=0)] = 24
    """Hours after which a training starts if there are new labels. 0: never by the clock."""
    rank_margin: Margin = 0.01
    """Share of the golden photos that a release may lose at any rank."""
    class_margin: Margin = 0.05
    """Share that it may lose of any large class of golden photos."""
    person_margin: Margin = 0.01
    """Share that it may lose of persons' recall."""
    held_out_margin: Margin = 0.05
    """Share that it may lose of the held-out events, at any rank."""
    canary_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.1
    """Share of the streams that a new release answers first. 1: all at once."""
    canary_s: Annotated[float, msgspec.Meta(ge=0)] = 600
    """Length of this canary stage, in seconds."""
    hold: bool = False
    """Let signed releases wait until a person promotes them."""


class HttpSettings(Section, frozen=True, kw_only=True):
    """The loopback port of each role's `/health` and `/metrics`; 0 takes any free port, -1 opens none."""

    device: HttpPort = 8701
    """Port of `tierwise device`."""
    edge: HttpPort = 8702
    """Port of `tierwise edge`."""
    gateway: HttpPort = 8703
    """Port of `tierwise gateway`."""
    stream: HttpPort = 8704
    """Port of `tierwise stream`."""
    cloud: HttpPort = 8705
    """Port of `tierwise cloud`."""
    trainer: HttpPort = 8706
    """Port of `tierwise trainer`."""


class LogSettings(Section, frozen=True, kw_only=True):
    """The form of the log lines, and the lowest level to log."""

    format: Literal["auto", "json", "text"] = "auto"
    """`"json"` (one object a line), `"text"`, or `"auto"`: text on a terminal, JSON elsewhere."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """`"debug"`, `"info"`, `"warning"` or `"error"`."""


class StreamSettings(Section, frozen=True, kw_only=True):
    """A stream's task, and the level of each kind of its records before any rule raises it."""

    task: Task = Task.WILDLIFE
    """`"wildlife"` (frames), `"occupancy"` or `"meter"` (readings)."""
    wants: Rank = Rank.SPECIES
    """Deepest rank that its owner needs. wildlife: `"kingdom"` stops at the device, `"family"` asks the cloud in
    doubt, `"species"` asks it once a sighting. occupancy: `"state"`, `"activity"`, `"pattern"`. meter: `"state"`,
    `"pattern"`."""
    source: str = ""
    """Source that the device agent opens by itself: `"rtsp://…"`, a webcam's number, a folder of photos and videos,
    or one of these files. Empty: frames come over MQTT."""
    topic: str = ""
    """Topic of the site's broker on which the sensor or camera publishes by itself, as `"zigbee2mqtt/porch"`. `+` and
    `#` stand for levels, which then name device and stream. See [sensors](sensors.md)."""
    format: Format = ""
    """Kind of the messages on `topic`: `"zigbee2mqtt"`, `"tasmota"`, `"shelly"`, `"esphome"`, `"homie"`,
    `"chirpstack"`, `"ttn"`, `"frigate"` or `"json"`. Empty: a plain value, a picture, or as `value` says."""
    value: str = ""
    """Path (JMESPath) of the value in the JSON on `topic`, as `"temperature"` or `'"BME280-76".Humidity'`."""
    time: str = ""
    """Path of the time of measurement in that JSON. Empty: where the format has it, or the time of receipt."""
    scale: float = 1.0
    """Factor that makes a value on `topic` one in the stream's unit."""
    mail: str = ""
    """Mails of this camera: a pattern for an address of the sender or a recipient, or for the subject, as
    `"*+cam1@example.org"`. `*` is any text, `?` any letter. See [`[intake.mail]`](#intakemail-pictures-by-e-mail)."""
    login: str = ""
    """Login of the source, as `"user:password"`, if its address has none. Better kept in a file of its own."""
    login_file: str = ""
    """File that holds the login: one line, `user:password`."""
    room: str | None = None
    """Room of a sensor. Streams of one room are evaluated together."""
    unit: str | None = None
    """Unit of the readings, as `"Cel"`, `"%RH"`, `"lx"`, `"ppm"`, `"W"`; usual spellings such as `"°C"` or `"mbar"`
    are accepted. Related units are converted, others refused."""
    states: tuple[str, ...] = ()
    """Words of a sensor that sends states, the resting one first, as `["closed", "open"]`: the first is also `false`,
    `off` and `0`. Empty: the usual words are known; see [topics](topics.md#states)."""
    deadband: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """Smallest change worth reporting, in the stream's unit. If not set, it is derived from the
    readings' noise."""
    off_delay_s: PositiveSeconds = 300
    """Seconds without a frame after which a camera that publishes by itself counts as away. A trail camera that reports
    once a day wants 90000."""
    pixels: Privacy = Privacy.USER_PRIVATE
    """Level of its pictures."""
    feature: Privacy = Privacy.USER_PRIVATE
    """Level of its features."""
    result: Privacy = Privacy.EDGE_PRIVATE
    """Level of its answers."""
    reading: Privacy = Privacy.USER_PRIVATE
    """Level of its readings."""
    summary: Privacy = Privacy.USER_PRIVATE
    """Level of its hourly summaries."""
    reason: str = ""
    """Why these levels, for whoever reads the file."""

    @property
    def levels(self) -> Levels:
        """The levels of all kinds."""
        return Levels(*(getattr(self, kind.value) for kind in LEVELLED))


class RuleSettings(Section, frozen=True, kw_only=True):
    """A rule: raises the levels of events that meet all its conditions."""

    name: str
    """Unique name. Results that the rule raised carry it."""
    stream: str = "*"
    """Pattern on `site/device/stream` or `device/stream`: `*` is any text, `?` any letter."""
    hours: str | None = None
    """`"22:00-06:00"`, in the site's time. Hours past midnight belong to the day on which they began."""
    weekdays: tuple[Weekday, ...] = ()
    """`"mon"` to `"sun"`. Empty: every day."""
    label: str | None = None
    """A label on the answer's path: a kingdom, a family or a species."""
    person: bool = False
    """Apply the rule only to events with a person in the frame."""
    raise_: dict[Kind, Privacy] = msgspec.field(name="raise")
    """Levels to raise to: `{ pixels = "user-private", result = "edge-private" }`."""
    reason: str
    """Why the rule exists."""

    def names_stream(self, source: str) -> bool:
        """Return whether the rule is about this stream (``site/device/stream``)."""
        return fnmatchcase(source, self.stream) or fnmatchcase(source.partition("/")[2], self.stream)


class Keys(Section, frozen=True, kw_only=True, dict=True):
    """All keys of the file; the roles hold a `pipeline.settings.settings.Settings`."""

    site: str = DEFAULT_SITE
    """Name of the site in every topic and result: a-z, 0-9, `-` and `_`, at most 63 characters."""
    data: str = DEFAULT_DATA
    """Folder of everything that is kept: unsent records, answers, pictures, keys, logs. Relative to the settings
    file, like every path in it."""
    zoo: str = ""
    """Folder of models that replace shipped models of the same name: a subfolder each, with its `manifest.json`.
    Empty: use the shipped ones."""
    timezone: str = "UTC"
    """Time zone of EXIF times without an offset of their own, of rules' hours, of the usual hours of a week and of the
    days of counts, as `"Europe/Berlin"`."""
    mqtt: MqttSettings = MqttSettings()
    uplink: UplinkSettings = UplinkSettings()
    kafka: KafkaSettings = KafkaSettings()
    influx: InfluxSettings = InfluxSettings()
    cloud_influx: InfluxSettings = InfluxSettings()
    device: DeviceSettings = DeviceSettings()
    edge: EdgeSettings = EdgeSettings()
    releases: ReleaseSettings = ReleaseSettings()
    trainer: TrainerSettings = TrainerSettings()
    intake: IntakeSettings = IntakeSettings()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()
    streams: dict[str, StreamSettings] = {}  # noqa: RUF012  (msgspec copies it)
    """Streams by source, ``site/device/stream``, and patterns over them. A file may leave the site out."""
    rules: tuple[RuleSettings, ...] = ()
    deployments: tuple[DeploymentSettings, ...] = ()

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
        return MqttSettings(address=uplink.address, username=uplink.username, password=uplink.password, ca=uplink.ca)

    @cached_property
    def named_streams(self) -> dict[str, StreamSettings]:
        """The streams that the file names one by one: those without a wildcard."""
        return {source: stream for source, stream in self.streams.items() if not is_pattern(source)}

    @cached_property
    def _winners(self) -> dict[str, str | None]:
        return {}

    def entry(self, source: str) -> str | None:
        """Return the key of `streams` that is in force for ``site/device/stream``, or None if none matches."""
        if source in self.streams:
            return source
        if len(self.named_streams) == len(self.streams):
            return None
        if source not in self._winners:
            if len(self._winners) >= WINNERS_MAX:
                self._winners.clear()
            self._winners[source] = next(iter(ranked(self.streams, source)), None)
        return self._winners[source]

    def stream(self, source: str) -> StreamSettings | None:
        """Return the settings of ``site/device/stream``, or None if the file does not name the stream."""
        entry = self.entry(source)
        return self.streams[entry] if entry is not None else None
