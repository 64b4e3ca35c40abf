"""The settings file: what it says, what is refused, and that its page tells every key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Stop
from pipeline.messages import Levels, Privacy, Rank, Task
from pipeline.settings.deployment_keys import DeploymentSettings
from pipeline.settings.settings import STARTER, RuleSettings, Settings, StreamSettings
from pipeline.settings.strict import nearest

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tierwise.toml"


def load(file: Path, text: str = "", **environ: str) -> Settings:
    file.write_text(text)
    return Settings.load(file, environ)


# --- what it says ----------------------------------------------------------------------------------------------


def test_the_starter_names_one_camera_one_room_and_one_meter(file: Path) -> None:
    settings = load(file, STARTER)
    camera = settings.stream("home/cam1/garden")
    assert camera is not None
    assert camera.levels == Levels(
        pixels=Privacy.EDGE_PRIVATE,
        feature=Privacy.PUBLIC,
        result=Privacy.PUBLIC,
        reading=Privacy.USER_PRIVATE,
        summary=Privacy.USER_PRIVATE,
    )
    sensors = {source: stream for source, stream in settings.streams.items() if stream.task is Task.OCCUPANCY}
    assert {(stream.room, stream.unit) for stream in sensors.values()} == {
        ("office", "Cel"),
        ("office", "%RH"),
        ("office", "lx"),
        ("office", "ppm"),
    }
    for stream in (*sensors.values(), settings.streams["home/meter/power"]):
        assert (stream.reading, stream.summary, stream.result) == (
            Privacy.EDGE_PRIVATE,
            Privacy.PUBLIC,
            Privacy.EDGE_PRIVATE,
        )


def test_every_value_of_the_starter_has_its_reason_on_its_line_or_says_it_itself() -> None:
    for line in STARTER.splitlines():
        assert "#" in line or not line.strip() or line.startswith(("[", "reason"))


def test_the_starters_commented_rule_is_a_valid_one(file: Path) -> None:
    head, _, rule = STARTER.partition("# [[rules]]")
    uncommented = re.sub("^# ", "", "# [[rules]]" + rule, flags=re.MULTILINE)
    [found] = load(file, head + uncommented).rules
    assert found.raise_


def test_without_a_file_every_key_has_its_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.load(environ={})
    assert settings == msgspec.structs.replace(Settings(), data=str(tmp_path / "tierwise-data"))
    assert settings.stream("home/cam1/garden") is None


def test_the_environment_names_the_file(file: Path) -> None:
    file.write_text('site = "barn"')
    assert Settings.load(environ={"TIERWISE_SETTINGS": str(file)}).site == "barn"


def test_the_environment_counts_instead_of_the_file(file: Path) -> None:
    settings = load(
        file,
        'site = "barn"\n[mqtt]\naddress = "old"\nusername = "edge"',
        TIERWISE_SITE="field",
        TIERWISE_MQTT__ADDRESS="broker.lan:1884",
        TIERWISE_HTTP__EDGE="-1",
        TIERWISE_EDGE__WINDOW_S="2.5",
        TIERWISE_DEVICE__NAMES="cam1, cam2",
        TIERWISE_UPLINK__SEALED="edge-private",
    )
    assert (settings.site, settings.mqtt.host, settings.mqtt.port_number) == ("field", "broker.lan", 1884)
    assert (settings.mqtt.username, settings.http.edge, settings.edge.window_s) == ("edge", -1, 2.5)
    assert settings.device.names == ("cam1", "cam2")
    assert settings.uplink.sealed == (Privacy.EDGE_PRIVATE,)


def test_one_variable_gives_the_first_camera_stream_its_source(file: Path) -> None:
    settings = load(file, STARTER, TIERWISE_DEVICE__CAMERA="rtsp://cam.lan/live")
    assert {source: s.source for source, s in settings.streams.items() if s.source} == {
        "home/cam1/garden": "rtsp://cam.lan/live"
    }
    assert load(file, STARTER, TIERWISE_DEVICE__CAMERA="").streams["home/cam1/garden"].source == ""
    with pytest.raises(Stop, match=r"device\.camera: there is no camera stream"):
        load(file, '[streams."m/power"]\ntask = "meter"', TIERWISE_DEVICE__CAMERA="0")


def test_variables_that_a_container_platform_sets_by_itself_are_none_of_ours(file: Path) -> None:
    settings = load(file, TIERWISE_EDGE_PORT="tcp://10.0.0.1:80", TIERWISE_STREAMS="x", TIERWISE_HTTP="y")
    assert settings.http.edge == 8702


def test_paths_are_relative_to_the_file(file: Path) -> None:
    settings = load(
        file,
        'data = "kept"\n[mqtt]\naddress = "mqtts://b"\nca = "ca.pem"\n'
        '[streams."cam1/a"]\nsource = "photos"\n[streams."cam1/b"]\nsource = "0"\n'
        '[streams."cam1/c"]\nsource = "rtsp://camera/1"',
    )
    assert settings.data_dir == file.parent / "kept"
    assert settings.mqtt.ca == str(file.parent / "ca.pem")
    sources = [stream.source for stream in settings.streams.values()]
    assert sources == [str(file.parent / "photos"), "0", "rtsp://camera/1"]


def test_a_password_is_read_from_its_file_and_never_shown(file: Path) -> None:
    (file.parent / "secret").write_text("hunter2\n")
    settings = load(file, '[mqtt]\naddress = "b"\nusername = "edge"\npassword_file = "secret"')
    assert settings.mqtt.password == "hunter2"
    settings = load(
        file,
        '[kafka]\nusername = "edge"\npassword_file = "secret"\n[influx]\nurl = "http://x"\ntoken_file = "secret"\n'
        '[cloud_influx]\ntoken_file = "not there, and nobody to show it to"',
    )
    assert (settings.kafka.password, settings.influx.token, settings.cloud_influx.token) == (
        "hunter2",
        "hunter2",
        "",
    )
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("embedded", ("127.0.0.1", 1883, False)),
        ("broker", ("broker", 1883, False)),
        ("broker:1884", ("broker", 1884, False)),
        ("mqtts://broker", ("broker", 8883, True)),
        ("mqtts://broker:443", ("broker", 443, True)),
        ("[::1]:1884", ("::1", 1884, False)),
        ("[::1]", ("::1", 1883, False)),
    ],
)
def test_a_brokers_address_is_taken_apart(file: Path, address: str, expected: tuple[str, int, bool]) -> None:
    mqtt = load(file, f'[mqtt]\naddress = "{address}"').mqtt
    assert (mqtt.host, mqtt.port_number, mqtt.tls) == expected


def test_kafka_may_have_several_addresses(file: Path) -> None:
    assert load(file).kafka.servers == ("127.0.0.1:9092",)
    assert load(file, '[kafka]\naddress = "a, b:9093,[::1]:9094"').kafka.servers == (
        "a:9092",
        "b:9093",
        "[::1]:9094",
    )


def test_the_uplink_is_the_sites_broker_unless_it_has_an_address(file: Path) -> None:
    assert load(file, '[mqtt]\naddress = "site"').uplink_mqtt.host == "site"
    uplink = load(file, '[uplink]\naddress = "mqtts://cloud"\nusername = "u"\npassword = "p"').uplink_mqtt
    assert (uplink.host, uplink.port_number, uplink.tls, uplink.username) == ("cloud", 8883, True, "u")


def test_a_stream_wants_the_deepest_rank_of_its_task_unless_it_says(file: Path) -> None:
    settings = load(
        file,
        '[streams."a/b"]\n[streams."a/c"]\ntask = "meter"\n[streams."home/a/d"]\nwants = "family"',
    )
    assert [stream.wants for stream in settings.streams.values()] == [Rank.SPECIES, Rank.PATTERN, Rank.FAMILY]
    assert list(settings.streams) == ["home/a/b", "home/a/c", "home/a/d"]


# --- what is refused -------------------------------------------------------------------------------------------

PATTERNS = """
[streams."*/*"]
task = "meter"
[streams."*/temperature"]
task = "meter"
unit = "°C"
reading = "edge-private"
[streams."barn-?/temperature"]
task = "meter"
unit = "degF"
[streams."barn-1/temperature"]
task = "occupancy"
[streams."cam-*/frame"]
pixels = "edge-private"
"""


@pytest.mark.parametrize(
    ("source", "entry"),
    [
        ("home/barn-1/temperature", "home/barn-1/temperature"),
        ("home/barn-2/temperature", "home/barn-?/temperature"),
        ("home/barn-22/temperature", "home/*/temperature"),
        ("home/kitchen/temperature", "home/*/temperature"),
        ("home/kitchen/co2", "home/*/*"),
        ("home/cam-7/frame", "home/cam-*/frame"),
        ("barn/cam-7/frame", None),
    ],
)
def test_the_most_specific_entry_is_in_force_alone(file: Path, source: str, entry: str | None) -> None:
    settings = load(file, PATTERNS)
    assert settings.entry(source) == entry
    assert settings.stream(source) == (settings.streams[entry] if entry else None)


def test_an_entry_takes_no_level_from_a_wider_one(file: Path) -> None:
    settings = load(file, PATTERNS)
    named = settings.stream("home/barn-1/temperature")
    assert named is not None
    assert (named.reading, named.unit, named.task) == (Privacy.USER_PRIVATE, None, Task.OCCUPANCY)
    assert list(settings.named_streams) == ["home/barn-1/temperature"]


@pytest.mark.parametrize(
    ("task", "spelling", "name"),
    [
        ("meter", "C", "Cel"),
        ("meter", "degC", "Cel"),
        ("meter", "celsius", "Cel"),
        ("meter", "Celsius", "Cel"),
        ("meter", "percent", "%"),
        ("meter", "%", "%"),
        ("occupancy", "%", "%RH"),
        ("meter", "mV", "mV"),
        ("meter", "mbar", "hPa"),
        ("meter", "MW", "MW"),
    ],
)
def test_a_unit_has_one_name_however_it_is_spelled(file: Path, task: str, spelling: str, name: str) -> None:
    stream = load(file, f'[streams."a/b"]\ntask = "{task}"\nunit = "{spelling}"').stream("home/a/b")
    assert stream is not None
    assert stream.unit == name


RULE = '[[rules]]\nname = "r"\nreason = "x"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sites = 1", 'there is no key "sites"; the nearest known one is "site"'),
        ('[mqtt]\nadress = "b"', 'mqtt has no key "adress"; the nearest known one is "address"'),
        ('[streams."a/b"]\nunits = "W"', 'streams."a/b" has no key "units"; the nearest known one is "unit"'),
        (
            '[streams."a/b"]\ntask = "wildlive"',
            '"wildlive" is none of wildlife, occupancy, meter; the nearest',
        ),
        ('[mqtt]\nport = "1883"', "mqtt.port: expected int, got str"),
        ("[mqtt]\nport = 70000", "mqtt.port: expected int <= 65535"),
        ("[device]\nworkers = 0", "device.workers: expected int >= 1"),
        ("[device]\nperson_miss_rate = 2", "device.person_miss_rate: expected float <= 1"),
        (
            '[device]\nbackbone = "off"\nsend = "vector"',
            'device.send: only the backbone makes a "vector"; write backbone = "on"',
        ),
        (
            '[device]\nbackbone = "off"\n[uplink]\nsealed = ["user-private"]',
            'uplink.sealed: only the backbone on the device can make the sealed copy of a "user-private" feature',
        ),
        ("mqtt = 1", "mqtt: expected object, got int"),
        ("[streams]\nx = 1", 'streams."x": expected object, got int'),
        ('site = "My Home"', 'site: "My Home" is not a valid name'),
        ('site = "uplink"', 'site: "uplink" is not a valid name'),
        ('[edge]\nmodel = "mine"', 'edge.model: "mine" is no model; write name and version, as "mine@2"'),
        ('[edge]\nmodel = "../mine@2"', 'edge.model: "../mine@2" is no model'),
        ('timezone = "Mars/Olympus"', 'timezone: "Mars/Olympus" is not known here'),
        ('[mqtt]\naddress = "mqtt://b"', 'mqtt.address: "mqtt://b" is no address'),
        ('[mqtt]\naddress = "b:port"', 'mqtt.address: "b:port" is no address'),
        ('[mqtt]\naddress = ""', 'mqtt.address: "" is no address'),
        ('[kafka]\naddress = "mqtts://b"', 'kafka.address: "mqtts://b" is no address'),
        ('[uplink]\naddress = "embedded"', "uplink.address: leave it empty"),
        ('[uplink]\nusername = "u"', "uplink.address: is empty"),
        ('[mqtt]\naddress = "b"\nca = "x"', "mqtt.ca: used only with TLS"),
        ('[mqtt]\npassword = "p"', "mqtt.username: a password needs a user name"),
        ('[mqtt]\npassword = "p"\npassword_file = "x"', "mqtt.password: there is a password_file, too"),
        ('[mqtt]\npassword_file = "missing"', "mqtt.password_file: the password cannot be read"),
        ('[streams."garden"]', 'streams."garden": a stream\'s name is "device/stream"'),
        ('[streams."a/B"]', 'streams."a/B": a stream\'s name is'),
        ('[streams."barn/a/b"]', 'belongs to another site; this site is "home"'),
        ('[streams."a/b"]\n[streams."home/a/b"]', 'streams."home/a/b": named twice'),
        (
            '[streams."a/b"]\ntask = "meter"\nwants = "activity"',
            'a meter stream has no "activity"; it has state',
        ),
        ('[streams."a/b"]\ntask = "meter"\nsource = "0"', "source: only cameras have one"),
        ('[streams."a/b"]\nroom = "Living Room"', 'room: "Living Room" is not a valid name'),
        ('[[rules]]\nname = "r"\nreason = "x"', 'rules[0] needs the key "raise"'),
        ('[streams."cam-*/frame"]\nsource = "0"', "source: a camera belongs to one stream"),
        ('[streams."a/b"]\ntask = "meter"\nunit = "furlong"', 'unit: "furlong" is no known unit; the nearest is "'),
        ('[streams."*/*/b"]', 'streams."*/*/b": belongs to another site'),
        ('[streams."a/[b]*"]', 'streams."a/[b]*": a stream\'s name is'),
        (RULE + "raise = {}", "rules[0] (r).raise: raises nothing"),
        (RULE + 'raise = { pixel = "public" }', '"pixel" is none of pixels, feature'),
        (RULE + 'raise = { pixels = "private" }', '"private" is none of public, edge-private, user-private'),
        (RULE + 'hours = "22-6"\nraise = { pixels = "user-private" }', 'hours: "22-6" is no span of hours'),
        (RULE + 'weekdays = ["monday"]\nraise = { pixels = "user-private" }', '"monday" is none of mon, tue'),
        (2 * (RULE + 'raise = { pixels = "user-private" }\n'), "two rules have this name"),
        ("site = ", "not valid TOML"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_file_and_key(file: Path, text: str, message: str) -> None:
    with pytest.raises(Stop) as refused:
        load(file, text)
    assert str(refused.value).startswith(f"{file}: ")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("TIERWISE_MQTT__PORT", "many", "TIERWISE_MQTT__PORT: expected int"),
        ("TIERWISE_MQTT__ADRESS", "b", 'mqtt has no key "adress"; the nearest known one is "address"'),
        ("TIERWISE_MQT__ADDRESS", "b", 'there is no section "mqt"; the nearest known one is "mqtt"'),
        ("TIERWISE_LOG__LEVEL", "loud", '"loud" is none of debug, info'),
        ("TIERWISE_UPLINK__SEALED", "public,secret", 'TIERWISE_UPLINK__SEALED[1]: "secret" is none of'),
    ],
)
def test_a_variable_that_cannot_be_meant_is_refused_by_its_name(
    file: Path, variable: str, value: str, message: str
) -> None:
    with pytest.raises(Stop, match=re.escape(message)) as refused:
        load(file, **{variable: value})
    assert variable in str(refused.value)


def test_a_file_that_was_asked_for_must_be_there(file: Path) -> None:
    with pytest.raises(Stop, match="no such settings file; `tierwise settings starter"):
        Settings.load(file, {})


def test_a_file_that_is_no_text_is_refused(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(Stop, match="cannot be read"):
        Settings.load(file, {})


@given(st.text(), st.sets(st.text(min_size=1), min_size=1))
def test_there_is_always_a_nearest_word(word: str, known: set[str]) -> None:
    assert nearest(word, known) in known


# --- its page --------------------------------------------------------------------------------------------------

PREFIXES: dict[str, type[msgspec.Struct]] = {
    "": Settings,
    "streams.*.": StreamSettings,
    "rules.": RuleSettings,
    "deployments.": DeploymentSettings,
}


def keys() -> Iterator[tuple[str, str]]:
    """Every key of the code with its default as the page writes it."""
    for prefix, struct in PREFIXES.items():
        yield from keys_of(prefix, struct)


def keys_of(prefix: str, struct: type[msgspec.Struct]) -> Iterator[tuple[str, str]]:
    for field in msgspec.structs.fields(struct):
        name, default = prefix + field.encode_name, field.default
        if isinstance(default, msgspec.Struct):
            yield from keys_of(f"{name}.", type(default))
        elif name not in ("streams", "rules", "deployments"):
            yield name, written(default)


def written(default: object) -> str:
    if default is None:
        return "none"
    if default is msgspec.NODEFAULT:
        return "required"
    return f"`{msgspec.json.encode(default).decode()}`"


def test_the_page_tells_every_key_with_its_default_and_no_other() -> None:
    rows = re.findall(r"^\| `([a-z_.*]+)` \| (.+?) \|", PAGE.read_text(), re.MULTILINE)
    expected = dict(keys()) | {"streams.*.wants": "deepest rank"}
    assert dict(rows) == expected
    assert len(rows) == len(expected)


def test_the_pages_example_is_the_starter() -> None:
    assert f"```toml\n{STARTER}```" in PAGE.read_text()


def test_the_pages_refusals_are_what_is_said(file: Path) -> None:
    mistakes = ('[mqtt]\nadress = "b"', '[streams."cam1/garden"]\ntask = "wildlive"', "[http]\nedge = 99999")
    for text in mistakes:
        with pytest.raises(Stop) as refused:
            load(file, text)
        assert str(refused.value).replace(str(file), file.name) in PAGE.read_text()
