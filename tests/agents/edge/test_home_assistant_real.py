"""What Home Assistant itself shows of our announcements and answers (with `make test-real`, and a Python 3.13)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from kafka_brokers import free_port
from mqtt_brokers import Mosquitto, find_mosquitto

from agents.edge.home_assistant import MEASURES, announcements
from pipeline import messages, topics
from pipeline.messages import Privacy, Task, Tier
from pipeline.settings.settings import Settings, StreamSettings

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]

REAL = Path(__file__).parents[2] / "real" / "home_assistant"


class Forgetful(Mosquitto):
    """As a package installs it: it writes nothing to its disk, so that many retained messages take no time."""

    def command(self) -> list[str]:
        return [str(find_mosquitto()), "-p", str(self.port)]


@pytest.fixture(scope="module")
def python() -> str:
    fetched = subprocess.run([REAL / "fetch.sh", "--there"], capture_output=True, text=True, check=False)
    if fetched.returncode == 3 or find_mosquitto() is None:
        pytest.skip(fetched.stderr.strip() or "no mosquitto here")
    assert fetched.returncode == 0, fetched.stderr
    return fetched.stdout.strip()


def shown(
    python: str, folder: Path, configured: Settings, answers: list[dict[str, Any]], *more: tuple[str, str]
) -> dict[str, Any]:
    """Return what Home Assistant shows in US units after these answers, and more messages."""
    (folder / "broker").mkdir()
    broker = Forgetful(folder / "broker")
    broker.start()
    online = [(topics.status("home", role), '{"state": "online"}') for role in ("device", "edge")]
    result = topics.result("home", "bed", Tier.DEVICE, Privacy.EDGE_PRIVATE)
    published = [*((result, json.dumps(answer)) for answer in answers), *more]
    announced = [(topic, messages.encode(entity).decode()) for topic, entity in announcements(configured, "1")]
    try:
        run = subprocess.run(
            [python, REAL / "show.py", str(broker.port), str(free_port()), folder / "config"],
            input=json.dumps({"announced": announced, "states": online, "published": published}),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        broker.kill()
    assert run.returncode == 0, run.stderr[-3000:]
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def test_a_cameras_last_picture_is_an_image(python: str, tmp_path: Path) -> None:
    camera = Settings(streams={"home/bed/garden": StreamSettings(pixels=Privacy.EDGE_PRIVATE)})
    found = shown(python, tmp_path, camera, [], (topics.image("home", "bed", "garden"), "a JPEG"))
    picture = found["shown"]["tierwise_home_bed_garden_picture"]
    assert picture["state"] not in (None, "unknown", "unavailable"), "it shows when the picture came"
    assert found["warnings"] == []


def answer(stream: str, value: float, *path: str) -> dict[str, Any]:
    return {"stream": stream, "label": path[-1], "path": path, "value": value}


def sensor(unit: str | None = None, states: tuple[str, ...] = ()) -> StreamSettings:
    return StreamSettings(task=Task.METER, reading=Privacy.EDGE_PRIVATE, room="garden", unit=unit, states=states)


def test_each_stream_of_a_device_keeps_its_own_value_in_the_units_of_the_house(python: str, tmp_path: Path) -> None:
    streams = {
        "home/bed/temperature": sensor("Cel"),
        "home/bed/soil": sensor("%RH"),
        "home/bed/door": sensor(states=("closed", "open")),
        "home/bed/mode": sensor(states=("off", "eco", "boost")),
    }
    answers = [
        answer("temperature", 21.0, "normal"),
        answer("soil", 40.0, "normal"),
        answer("door", 1.0, "unusual", "open"),
        answer("soil", 41.0, "normal"),
        answer("mode", 1.0, "normal", "eco"),
        *(answer("soil", 42.0, "normal") for _ in range(3)),
    ]
    found = shown(python, tmp_path, Settings(streams=streams), answers)
    entities = {name.removeprefix("tierwise_home_"): entity for name, entity in found["shown"].items()}
    assert {name: entity["state"] for name, entity in entities.items()} == {
        "device_online": "on",
        "edge_online": "on",
        "bed_temperature_value": "69.8",
        "bed_temperature_unusual": "off",
        "bed_soil_value": "42.0",
        "bed_soil_unusual": "off",
        "bed_door_state": "on",
        "bed_door_unusual": "on",
        "bed_mode_state": "eco",
        "bed_mode_unusual": "off",
    }
    assert entities["bed_temperature_value"]["attributes"]["unit_of_measurement"] == "°F"
    assert entities["bed_temperature_value"]["area"] == "Garden"
    assert found["warnings"] == []


def test_home_assistant_takes_every_unit_of_ours(python: str, tmp_path: Path) -> None:
    names = {f"s{number}": unit for number, unit in enumerate(MEASURES)}
    streams = {f"home/bed/{name}": sensor(unit) for name, unit in names.items()}
    found = shown(python, tmp_path, Settings(streams=streams), [answer(name, 7.0, "normal") for name in names])
    states = {unit: found["shown"][f"tierwise_home_bed_{name}_value"]["state"] for name, unit in names.items()}
    assert [unit for unit, state in states.items() if state in (None, "unknown", "unavailable")] == []
    assert found["warnings"] == []
