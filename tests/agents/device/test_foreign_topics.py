"""Messages on other people's topics: which streams they feed, what is stored of them, and what is said of the rest."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from sample_messages import NOW_S

from agents.device.foreign_topics import ForeignTopics, seconds_of
from agents.device.inbox import Admission
from agents.device.store import ACKS, SITE, DeviceStore
from agents.role import outbox
from agents.role.telemetry import Metrics
from models.vision import images
from pipeline.clock import HandClock
from pipeline.delivery import Ingest
from pipeline.errors import Rejected, Stop
from pipeline.messages import Ack, Refusal, Task
from pipeline.mqtt import Message
from pipeline.settings.settings import Settings
from pipeline.spool import Spool

ALL_OF_ZIGBEE = '[streams."*/*"]\ntopic = "zigbee2mqtt/+"\nformat = "zigbee2mqtt"\n'
PORCH = '[streams."porch/temperature"]\ntopic = "zigbee2mqtt/porch"\nvalue = "temperature"\nunit = "Cel"\n'
JPEG = images.encode_jpeg(np.full((32, 32, 3), 90, np.uint8))


def settings(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "tierwise.toml"
    file.write_text(text)
    return Settings.load(file, {})


def feeds(tmp_path: Path, text: str, topic: str, message: object) -> dict[str, object]:
    """Return what each stream gets: the message on its own topic, None for no value, or the reason of a refusal."""
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    found: dict[str, object] = {}
    for origin, what in ForeignTopics(settings(tmp_path, text)).feeds(topic, payload):
        name = f"{origin.device}/{origin.name}"
        found[name] = what.reason if isinstance(what, Rejected) else json.loads(what) if what else None
    return found


# --- which streams ---------------------------------------------------------------------------------------------


def test_four_lines_read_a_value_of_zigbee2mqtt(tmp_path: Path) -> None:
    message = {"temperature": 21.5, "humidity": 40, "linkquality": 90}
    assert feeds(tmp_path, PORCH, "zigbee2mqtt/porch", message) == {"porch/temperature": {"value": 21.5}}
    assert settings(tmp_path, PORCH).streams["home/porch/temperature"].task is Task.METER


def test_one_entry_makes_streams_of_all_devices_and_values(tmp_path: Path) -> None:
    message = {"temperature": 21.5, "humidity": "40.1", "battery": None, "state": "ON", "contact": False, "mode": "xy"}
    assert feeds(tmp_path, ALL_OF_ZIGBEE, "zigbee2mqtt/Living_Room", message) == {
        "living_room/temperature": {"value": 21.5, "unit": "Cel"},
        "living_room/humidity": {"value": 40.1, "unit": "%RH"},
        "living_room/battery": None,
        "living_room/state": {"value": "ON"},
        "living_room/contact": {"value": False},
    }


def test_a_more_specific_entry_with_a_topic_takes_its_stream_out_of_a_wider_one(tmp_path: Path) -> None:
    message = {"temperature": 21.5, "humidity": 40}
    assert feeds(tmp_path, ALL_OF_ZIGBEE + PORCH, "zigbee2mqtt/porch", message) == {
        "porch/temperature": {"value": 21.5},
        "porch/humidity": {"value": 40.0, "unit": "%RH"},
    }


def test_several_streams_listen_on_one_topic(tmp_path: Path) -> None:
    text = PORCH + '[streams."porch/dew"]\ntopic = "zigbee2mqtt/porch"\nvalue = "dew"\n'
    assert feeds(tmp_path, text, "zigbee2mqtt/porch", {"temperature": 1}) == {
        "porch/temperature": {"value": 1.0},
        "porch/dew": None,
    }


@pytest.mark.parametrize(
    ("entry", "topic", "sent", "stream"),
    [
        ("*/*", "homie/+/+/+", "homie/Shed/bme280/temperature", "shed/bme280-temperature"),
        ("*/*", "+/sensor/+/state", "Kitchen/sensor/co2/state", "kitchen/co2"),
        ("*/temperature", "shellies/+/sensor/temperature", "shellies/shellyht-1A/sensor/temperature", "shellyht-1a/temperature"),
        ("barn/*", "shellies/barn/sensor/#", "shellies/barn/sensor/humidity", "barn/humidity"),
        ("barn/temperature", "x/+/t", "x/anything/t", "barn/temperature"),
    ],
)  # fmt: skip
def test_wildcards_of_a_topic_name_device_and_stream(
    tmp_path: Path, entry: str, topic: str, sent: str, stream: str
) -> None:
    text = f'[streams."{entry}"]\ntopic = "{topic}"\ntask = "meter"\n'
    assert feeds(tmp_path, text, sent, b"21.5") == {stream: 21.5}


def test_an_entry_takes_only_what_its_pattern_stands_for(tmp_path: Path) -> None:
    text = '[streams."barn-*/temp*"]\ntopic = "zigbee2mqtt/+"\nformat = "zigbee2mqtt"\n'
    message = {"temperature": 1, "humidity": 2}
    assert feeds(tmp_path, text, "zigbee2mqtt/Barn 7", message) == {"barn-7/temperature": {"value": 1.0, "unit": "Cel"}}
    assert feeds(tmp_path, text, "zigbee2mqtt/house", message) == {}


def test_an_agent_for_some_devices_takes_only_theirs(tmp_path: Path) -> None:
    text = '[device]\nnames = ["porch"]\n' + ALL_OF_ZIGBEE
    assert feeds(tmp_path, text, "zigbee2mqtt/barn", {"temperature": 1}) == {}
    assert list(feeds(tmp_path, text, "zigbee2mqtt/porch", {"temperature": 1})) == ["porch/temperature"]


def test_no_filter_that_another_covers_is_subscribed(tmp_path: Path) -> None:
    assert ForeignTopics(settings(tmp_path, ALL_OF_ZIGBEE + PORCH)).subscriptions() == ["zigbee2mqtt/+"]


# --- how they are read -----------------------------------------------------------------------------------------


def test_a_scale_makes_a_value_one_in_the_streams_unit(tmp_path: Path) -> None:
    text = '[streams."a/b"]\ntopic = "x"\nvalue = "raw[0].t"\nscale = 0.1\ntime = "at"\nunit = "Cel"\n'
    found = feeds(tmp_path, text, "x", {"raw": [{"t": 215}], "at": 1_700_000_000_000})
    assert found == {"a/b": {"value": 21.5, "time": 1_700_000_000.0}}


def test_tasmotas_fahrenheit_is_sent_with_its_unit_even_by_a_path(tmp_path: Path) -> None:
    text = '[streams."a/b"]\ntopic = "tele/a/SENSOR"\nformat = "tasmota"\nvalue = \'"DS-1".Temperature\'\n'
    found = feeds(tmp_path, text, "tele/a/SENSOR", {"DS-1": {"Temperature": 68}, "TempUnit": "F"})
    assert found == {"a/b": {"value": 68.0, "unit": "degF"}}


@pytest.mark.parametrize("payload", [b"unavailable", b"nan", b"", b"null", b'{"value": null}', b'{"other": 1}'])
def test_no_value_is_no_error(tmp_path: Path, payload: bytes) -> None:
    assert feeds(tmp_path, '[streams."a/b"]\ntopic = "x"\ntask = "meter"\n', "x", payload) == {"a/b": None}


def test_a_topic_of_its_own_may_carry_our_own_forms(tmp_path: Path) -> None:
    text = '[streams."a/b"]\ntopic = "x"\ntask = "meter"\n'
    pack = [{"n": "t", "v": 1}]
    assert feeds(tmp_path, text, "x", pack) == {"a/b": pack}
    assert feeds(tmp_path, text, "x", {"value": 1, "unit": "kW"}) == {"a/b": {"value": 1, "unit": "kW"}}


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (1_700_000_000, "2023-11-14T22:13:20+00:00"),
        ("1700000000", "2023-11-14T22:13:20+00:00"),
        (1_700_000_000_000, "2023-11-14T22:13:20+00:00"),
        (1_700_000_000_000_000_000, "2023-11-14T22:13:20+00:00"),
        ("2023-11-14T23:13:20", "2023-11-14T22:13:20+00:00"),
        ("2023.11.14 23:13:20", "2023-11-14T22:13:20+00:00"),
        ("2023-11-14T22:13:20.123456789Z", "2023-11-14T22:13:20.123456+00:00"),
        ("2023-11-14T22:13:20+05:00", "2023-11-14T17:13:20+00:00"),
        ("soon", "1970-01-01T00:00:00+00:00"),
        (True, "1970-01-01T00:00:00+00:00"),
        (float("inf"), "1970-01-01T00:00:00+00:00"),
        (10**400, "1970-01-01T00:00:00+00:00"),
        ({}, "1970-01-01T00:00:00+00:00"),
    ],
)
def test_times_as_devices_write_them(time: object, expected: str) -> None:
    at_s = seconds_of(time, ZoneInfo("Europe/Berlin"))
    assert at_s == pytest.approx(dt.datetime.fromisoformat(expected).timestamp(), abs=0.001)


# --- what the settings refuse ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[streams."*/temperature"]\ntopic = "zigbee2mqtt/porch"\nvalue = "t"', "names one topic for many streams"),
        ('[streams."*/*"]\ntopic = "zigbee2mqtt/+"\nvalue = "t"', "use + or # for the device and the stream"),
        ('[streams."a/b"]\ntopic = "$SYS/#"', 'begin with "$"'),
        ('[streams."a/b"]\ntopic = "#"', "Tierwise's own topics"),
        ('[streams."a/b"]\ntopic = "tierwise/v1/home/a/reading/b"', "Tierwise's own topics"),
        ('[streams."a/b"]\ntopic = "x"\nvalue = "a-b"', "value: no JMESPath"),
        ('[streams."a/b"]\ntopic = "x"\nvalue = "a"\nscale = 0', "scale: 0 is no factor"),
        ('[streams."a/b"]\nvalue = "a"', "add topic"),
        ('[streams."a/b"]\ntopic = "x"\nsource = "0"', "it has a source, too"),
        ('[streams."a/b"]\ntask = "wildlife"\ntopic = "x"\nformat = "tasmota"', "a camera publishes pictures"),
        ('[streams."a/b"]\ntopic = "x"\nformat = "zigbee"', 'the nearest is "zigbee2mqtt"'),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(Stop) as refused:
        settings(tmp_path, text)
    assert message in str(refused.value)


# --- what is stored --------------------------------------------------------------------------------------------


class Inbox:
    """A device's inbox over a real store."""

    def __init__(self, tmp_path: Path, text: str) -> None:
        self.spool = Spool.open(tmp_path / "spool.db", limit_bytes=1 << 20)
        self.clock = HandClock(NOW_S)
        store, self.metrics = DeviceStore(self.spool, self.clock), Metrics()
        store.open()
        admission = Admission(settings(tmp_path, text), self.spool, store, self.metrics, self.clock)
        self.ingest = Ingest(self.spool, SITE, admission.admit, admission.committed)

    def receive(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.ingest.received([Message(topic, payload, retain)])

    def stored(self) -> list[tuple[str, bytes]]:
        return [(item.topic.removeprefix("tierwise/v1/home/"), item.payload) for item in self.spool.waiting(100)]

    def sent(self, kind: type) -> list[object]:
        found = [outbox.opened(out) for out in self.spool.outgoing(ACKS, 100, NOW_S)]
        return [each for each in found if isinstance(each, kind)]


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    made = Inbox(tmp_path, ALL_OF_ZIGBEE + '[streams."drive/frame"]\ntopic = "frigate/drive/+/snapshot"\n')
    yield made
    made.spool.close()


def test_a_message_is_stored_for_its_stream_and_acknowledged_as_it_was_sent(inbox: Inbox) -> None:
    payload = b'{"temperature": 21.5}'
    inbox.receive("zigbee2mqtt/Porch", payload)
    assert inbox.stored() == [("porch/reading/temperature", b'{"value": 21.5, "unit": "Cel"}')]
    [ack] = inbox.sent(Ack)
    assert isinstance(ack, Ack)
    assert (ack.topic, ack.sha256) == ("zigbee2mqtt/Porch", hashlib.sha256(payload).hexdigest())


def test_a_bad_value_is_refused_by_its_stream_and_the_others_are_fed(inbox: Inbox) -> None:
    inbox.receive("zigbee2mqtt/porch", b'{"temperature": 1e400, "humidity": 40, "co2": null}')
    assert [topic for topic, _ in inbox.stored()] == ["porch/reading/humidity"]
    [refusal] = inbox.sent(Refusal)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.topic) == ("not-finite", "zigbee2mqtt/porch")
    assert "porch/temperature" in refusal.detail
    assert inbox.metrics.value("tierwise_without_value_total", stream="home/porch/co2") == 1


def test_a_retained_state_is_read_once_and_again_when_it_changed(inbox: Inbox) -> None:
    for payload in (b'{"temperature": 1}', b'{"temperature": 1}', b'{"temperature": 2}', b'{"temperature": 1}'):
        inbox.receive("zigbee2mqtt/porch", payload, retain=True)
    assert len(inbox.stored()) == 3


def test_what_was_read_when_it_was_sent_is_not_read_again_as_a_retained_state(inbox: Inbox) -> None:
    inbox.receive("zigbee2mqtt/porch", b'{"temperature": 1}')
    inbox.receive("zigbee2mqtt/porch", b'{"temperature": 1}', retain=True)
    assert len(inbox.stored()) == 1


def test_equal_readings_that_were_sent_twice_are_two(inbox: Inbox) -> None:
    inbox.receive("zigbee2mqtt/porch", b'{"temperature": 1}')
    inbox.receive("zigbee2mqtt/porch", b'{"temperature": 1}')
    assert len(inbox.stored()) == 2


def test_a_message_that_the_broker_delivers_again_is_stored_once(inbox: Inbox) -> None:
    inbox.receive("zigbee2mqtt/porch", b'{"temperature": 1, "humidity": 2}')
    inbox.ingest.connected(True)
    inbox.receive("zigbee2mqtt/porch", b'{"temperature": 1, "humidity": 2}')
    assert len(inbox.stored()) == 2


def test_a_snapshot_of_frigate_is_a_frame(inbox: Inbox) -> None:
    inbox.receive("frigate/drive/cat/snapshot", JPEG, retain=True)
    inbox.receive("frigate/drive/person/snapshot", b'{"no": "picture"}')
    assert inbox.stored() == [("drive/frame/frame", JPEG)]
    [refusal] = inbox.sent(Refusal)
    assert isinstance(refusal, Refusal)
    assert refusal.reason.startswith("image-") or refusal.reason == "not-an-image"


def test_a_topic_that_no_stream_listens_on_is_let_pass_by(inbox: Inbox) -> None:
    inbox.receive("tele/x/SENSOR", b"{")
    assert (inbox.stored(), inbox.sent(Refusal)) == ([], [])
