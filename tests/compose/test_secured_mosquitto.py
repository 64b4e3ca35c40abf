"""Mosquitto as the stack configures it: logins, access rules and TLS, with our own client (`make test-real`)."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from kafka_brokers import eventually
from mqtt_brokers import find_mosquitto

from agents.deploy.vault import MOUNTED, Request, Vault
from pipeline import messages, topics
from pipeline.messages import Ack, DownlinkAck, Tier, UplinkAck, UplinkBatch
from pipeline.mqtt import Connection, Endpoint, Message, probe
from pipeline.privacy import gate
from pipeline.privacy.gate import Cleared

pytestmark = pytest.mark.real


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Broker:
    """One of the stack's two brokers, on ports of its own."""

    def __init__(self, vault: Path, room: str, folder: Path) -> None:
        self.port, self.tls_port = free_port(), free_port()
        shutil.copytree(vault / room, folder)
        text = (folder / "mosquitto.conf").read_text()
        for written, here in (
            (MOUNTED, str(folder)),
            ("/mosquitto/data/", f"{folder}/"),
            ("listener 1883", f"listener {self.port} 127.0.0.1"),
            ("listener 8883", f"listener {self.tls_port} 127.0.0.1"),
        ):
            assert written in text
            text = text.replace(written, here)
        (folder / "mosquitto.conf").write_text(text)
        if os.geteuid() == 0:  # it would become another user, who may not read what is root's
            with (folder / "mosquitto.conf").open("a") as more:
                more.write("user root\n")
        self.process = subprocess.Popen(
            [str(find_mosquitto()), "-c", str(folder / "mosquitto.conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while probe("127.0.0.1", self.port) != "mqtt":
            assert time.monotonic() < deadline, "mosquitto did not start with the stack's configuration"
            time.sleep(0.02)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


class Person:
    """A client that keeps what it hears."""

    def __init__(self, endpoint: Endpoint, *subscriptions: str) -> None:
        self.heard: list[Message] = []
        name = f"test-{endpoint.username}-{os.urandom(3).hex()}"
        self.connection = Connection(endpoint, name, subscriptions=subscriptions, handler=self, persistent=False)
        self.connection.start()

    def connected(self, session_present: bool) -> int:
        return 0

    def received(self, batch: Sequence[Message]) -> int:
        self.heard += batch
        return 0

    def confirmed(self, mark: int) -> None:
        """Nothing is kept."""

    def say(self, cleared: Cleared) -> None:
        assert self.connection.wait_connected(10), self.connection.problem
        done: list[bool] = []
        self.connection.publish(cleared, lambda: done.append(True))
        eventually(lambda: done)


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_mosquitto() is None:
        pytest.fail("no mosquitto found: install it, or name it in TIERWISE_MOSQUITTO")
    folder = tmp_path_factory.mktemp("vault")
    Vault(folder).make(Request(site="home", other_sites=("barn",), tls=True), dt.datetime.now(dt.UTC))
    return folder


@pytest.fixture(scope="module")
def site(vault: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(vault, "mosquitto", tmp_path_factory.mktemp("site") / "room")
    yield broker
    broker.end()


@pytest.fixture(scope="module")
def uplink(vault: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(vault, "uplink", tmp_path_factory.mktemp("uplink") / "room")
    yield broker
    broker.end()


def login(vault: Path, broker: Broker, name: str, secret: str, *, tls: bool = False) -> Endpoint:
    password = Vault(vault).known(secret) or ""
    ca = vault / "vault" / "ca.pem"
    port = broker.tls_port if tls else broker.port
    return Endpoint("localhost" if tls else "127.0.0.1", port, name, password, tls=tls, ca=ca if tls else None)


FRAME = topics.frame("home", "cam1", "garden")


def test_a_frame_reaches_the_devices_agent_and_no_viewer_with_tls_and_without(vault: Path, site: Broker) -> None:
    agent = Person(login(vault, site, ".device", "mqtt.device", tls=True), topics.frame("home", "+", "+"))
    viewer = Person(login(vault, site, "viewer", "mqtt.viewer"), topics.frame("home", "+", "+"), "#")
    assert agent.connection.wait_connected(10)
    assert viewer.connection.wait_connected(10)
    for tls in (False, True):
        camera = Person(login(vault, site, "camera", "mqtt.camera", tls=tls))
        camera.say(gate.clear_capture(FRAME, b"jpeg"))
        camera.connection.stop()
    eventually(lambda: len(agent.heard) == 2)
    agent.say(gate.clear(Ack(ids=("1",), topic=FRAME), topics.ack("home", "cam1"), to=Tier.EDGE))
    assert not viewer.heard
    for person in (agent, viewer):
        person.connection.stop()


def test_a_camera_cannot_speak_for_an_agent(vault: Path, site: Broker) -> None:
    owner = Person(login(vault, site, "owner", "mqtt.owner"), topics.ack("home", "+"))
    camera = Person(login(vault, site, "camera", "mqtt.camera"))
    agent = Person(login(vault, site, ".device", "mqtt.device"))
    assert owner.connection.wait_connected(10)
    for person, number in ((camera, "forged"), (agent, "true")):
        person.say(gate.clear(Ack(ids=(number,), topic=FRAME), topics.ack("home", "cam1"), to=Tier.EDGE))
    eventually(lambda: owner.heard)
    assert [messages.decode(Ack, message.payload).ids for message in owner.heard] == [("true",)]
    for person in (owner, camera, agent):
        person.connection.stop()


def test_a_site_speaks_and_hears_for_itself_alone(vault: Path, uplink: Broker) -> None:
    gateway = Person(login(vault, uplink, ".gateway", "uplink.gateway"), topics.uplink("+"))
    barn = Person(
        login(vault, uplink, "barn", "uplink.barn", tls=True),
        *(topics.uplink_ack(s) for s in ("home", "barn")),
    )
    assert gateway.connection.wait_connected(10)
    assert barn.connection.wait_connected(10)
    for name in ("home", "barn"):
        barn.say(gate.clear(UplinkBatch(site=name, envelopes=()), topics.uplink(name), to=Tier.CLOUD))
    eventually(lambda: gateway.heard)
    assert [message.topic for message in gateway.heard] == [topics.uplink("barn")]
    for name in ("home", "barn"):
        gateway.say(gate.clear(UplinkAck(ids=(name,)), topics.uplink_ack(name), to=Tier.CLOUD))
    eventually(lambda: barn.heard)
    assert [message.topic for message in barn.heard] == [topics.uplink_ack("barn")]
    barn.say(gate.clear(DownlinkAck(ids=()), topics.downlink_ack("barn"), to=Tier.CLOUD))
    for person in (gateway, barn):
        person.connection.stop()


@pytest.mark.parametrize(
    ("name", "secret", "said"),
    [
        ("camera", "mqtt.viewer", "check `username`"),
        ("nobody", "mqtt.camera", "check `username`"),
        ("", "", "check `username`"),
    ],
)
def test_a_login_that_is_none_is_told_so(vault: Path, site: Broker, name: str, secret: str, said: str) -> None:
    person = Person(login(vault, site, name, secret or "none"))
    eventually(lambda: said in person.connection.problem)
    person.connection.stop()


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_certificate_of_an_authority_that_was_not_named_is_told_so(vault: Path, site: Broker) -> None:
    person = Person(Endpoint("localhost", site.tls_port, "camera", "x", tls=True))
    eventually(lambda: "name its authority in `ca`" in person.connection.problem)
    person.connection.stop()
    person = Person(Endpoint("localhost", site.port, "camera", "x", tls=True, ca=vault / "vault" / "ca.pem"))
    eventually(lambda: "only where the broker offers" in person.connection.problem)
    person.connection.stop()
