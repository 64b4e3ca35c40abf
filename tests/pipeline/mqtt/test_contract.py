"""What we need of an MQTT broker and of our side of it: holds on iotcore, and with `--real` on Mosquitto."""

from __future__ import annotations

import functools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from mqtt_brokers import Iotcore, MqttBroker

from pipeline import topics
from pipeline.delivery import Ingest, Sender
from pipeline.errors import Rejected, Retry
from pipeline.messages import FRAME_MAX_BYTES, EventAck, Status, Tier
from pipeline.mqtt import Connection, Endpoint, Message, connection, probe, session
from pipeline.privacy.gate import Cleared, clear, clear_capture
from pipeline.spool import Arrival, Outgoing, Receipt, Spool, Transaction

READINGS = "tierwise/v1/home/+/reading/+"
STATUS = topics.status("home", "cam1")


def reading(payload: bytes, stream: str = "t") -> Cleared:
    return clear_capture(topics.reading("home", "cam1", stream), payload)


def status(state: str) -> Cleared:
    return clear(Status(state=state, role="device", version="1", time="t"), STATUS, to=Tier.EDGE)


def wait_until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.005)


class Collector:
    """A handler that keeps what it gets in memory."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.sessions: list[bool] = []
        self.confirmations: list[int] = []

    def connected(self, session_present: bool) -> int:
        self.sessions.append(session_present)
        return len(self.messages)

    def received(self, batch: Sequence[Message]) -> int:
        self.messages += batch
        return len(self.messages)

    def confirmed(self, mark: int) -> None:
        self.confirmations.append(mark)

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.messages]


class Clients:
    """Makes connections to one broker, and stops them at the end of the test."""

    def __init__(self, broker: MqttBroker) -> None:
        self.broker = broker
        self.made: list[Connection] = []

    def __call__(self, client_id: str, **options: object) -> Connection:
        made = Connection(self.broker.endpoint, client_id, **options)  # type: ignore[arg-type]
        self.made.append(made)
        made.start()
        assert made.wait_connected(10), made.problem
        return made


@pytest.fixture
def clients(mqtt_broker: MqttBroker) -> Iterator[Clients]:
    made = Clients(mqtt_broker)
    yield made
    for client in made.made:
        client.stop()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool.open(tmp_path / "spool.db", limit_bytes=1 << 30)
    yield opened
    opened.close()


def admit(message: Message, _tx: Transaction) -> Arrival:
    return Arrival(message.topic, message.payload, time.time())


def publish_all(client: Connection, messages: Sequence[Cleared]) -> None:
    """Publish each until the broker has acknowledged it, as a publisher who cares does."""
    waiting = dict(enumerate(messages))
    while waiting:
        assert client.wait_connected(10)
        life = client.connects
        for n, cleared in list(waiting.items()):
            publish(client, cleared, functools.partial(waiting.pop, n, None), life)
        wait_until(lambda life=life: not waiting or client.connects != life)  # type: ignore[misc]


def publish(client: Connection, cleared: Cleared, delivered: Callable[[], object], life: int) -> None:
    """Publish once there is room, unless the connection's life ended."""
    while client.connects == life:
        try:
            client.publish(cleared, delivered)
            return
        except Retry:
            client.wait_writable(0.1)


# --- what a broker must do -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_messages_arrive_in_order_and_are_acknowledged(clients: Clients) -> None:
    got = Collector()
    clients("sub", subscriptions=[READINGS], handler=got)
    sent = [b"%d" % n for n in range(300)]
    publish_all(clients("pub", persistent=False), [reading(payload) for payload in sent])
    wait_until(lambda: len(got.messages) >= 300)
    assert got.payloads == sent


@pytest.mark.slow
def test_a_session_keeps_what_came_while_its_client_was_away(clients: Clients) -> None:
    got = Collector()
    clients("sub", subscriptions=[READINGS], handler=got).stop()
    publish_all(clients("pub", persistent=False), [reading(b"%d" % n) for n in range(60)])
    clients("sub", subscriptions=[READINGS], handler=got)
    wait_until(lambda: len(got.messages) >= 60)
    assert got.sessions == [False, True]
    assert got.payloads == [b"%d" % n for n in range(60)]


@pytest.mark.slow
def test_what_was_not_acknowledged_comes_again_after_a_reconnect(clients: Clients) -> None:
    class Reluctant(Collector):
        refusals = 2

        def received(self, batch: Sequence[Message]) -> int:
            if self.refusals:
                self.refusals -= 1
                raise Retry("the disk is full")
            return super().received(batch)

    got = Reluctant()
    clients("sub", subscriptions=[READINGS], handler=got)
    publish_all(clients("pub", persistent=False), [reading(b"%d" % n) for n in range(20)])
    wait_until(lambda: len(got.messages) >= 20)
    assert sorted(got.payloads) == sorted(b"%d" % n for n in range(20))
    assert not got.refusals


@pytest.mark.slow
def test_the_broker_confirms_that_it_has_our_acknowledgements(clients: Clients) -> None:
    got = Collector()
    clients("sub", subscriptions=[READINGS], handler=got)
    publish_all(clients("pub", persistent=False), [reading(b"%d" % n) for n in range(120)])
    wait_until(lambda: bool(got.confirmations) and got.confirmations[-1] == 120)


@pytest.mark.slow
def test_a_late_subscriber_sees_the_retained_status(clients: Clients) -> None:
    device = clients("device", birth=lambda: status("online"), will=status("offline"))
    got = Collector()
    clients("user", subscriptions=[STATUS], handler=got, persistent=False)
    wait_until(lambda: len(got.messages) == 1)
    assert got.messages[0] == (STATUS, status("online").payload, True)
    device.stop(farewell=status("offline"))
    wait_until(lambda: len(got.messages) == 2)
    assert got.messages[1].payload == status("offline").payload


DEVICE = """
import sys, time
from pipeline import topics
from pipeline.messages import Status, Tier
from pipeline.mqtt import Connection, Endpoint
from pipeline.privacy.gate import clear
will = clear(Status(state="offline", role="device", version="1", time="t"), sys.argv[2], to=Tier.EDGE)
connection = Connection(Endpoint("127.0.0.1", int(sys.argv[1])), "device", will=will)
connection.start()
connection.wait_connected(10)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_the_will_of_a_killed_client_is_published(clients: Clients, mqtt_broker: MqttBroker) -> None:
    got = Collector()
    clients("user", subscriptions=[STATUS], handler=got, persistent=False)
    command = [sys.executable, "-c", DEVICE, str(mqtt_broker.port), STATUS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as device:
        assert device.stdout is not None
        assert device.stdout.readline() == "ready\n"
        device.kill()
    wait_until(lambda: got.payloads == [status("offline").payload])


def test_a_shared_subscription_divides_the_messages(clients: Clients) -> None:
    each, two = Collector(), Collector()
    for name, got in (("one", each), ("two", two)):
        clients(name, subscriptions=[f"$share/group/{READINGS}"], handler=got, persistent=False)
    publish_all(clients("pub", persistent=False), [reading(b"%d" % n) for n in range(100)])
    wait_until(lambda: len(each.messages) + len(two.messages) >= 100)
    assert sorted(each.payloads + two.payloads) == sorted(b"%d" % n for n in range(100))
    assert each.messages
    assert two.messages


@pytest.mark.slow
def test_a_large_frame_passes(clients: Clients) -> None:
    got = Collector()
    topic = topics.frame("home", "cam1", "garden")
    clients("sub", subscriptions=[topic], handler=got)
    frame = random.Random(1).randbytes(15_000_000)
    publish_all(clients("pub", persistent=False), [clear_capture(topic, frame)])
    wait_until(lambda: bool(got.messages))
    assert got.payloads == [frame]


# --- what our side must do -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_after_a_restart_of_the_broker_all_goes_on_by_itself(clients: Clients, mqtt_broker: MqttBroker) -> None:
    got, seen = Collector(), Collector()
    clients("sub", subscriptions=[READINGS], handler=got, birth=lambda: status("online"))
    pub = clients("pub", persistent=False)
    publish_all(pub, [reading(b"before")])
    wait_until(lambda: got.payloads == [b"before"])
    mqtt_broker.kill()
    wait_until(lambda: not pub.connected)
    with pytest.raises(Retry, match="no connection to the MQTT broker"):
        pub.publish(reading(b"lost"))
    mqtt_broker.start()
    wait_until(lambda: len(got.sessions) == 2 and clients.made[0].connected)
    publish_all(pub, [reading(b"after")])
    wait_until(lambda: got.payloads[-1:] == [b"after"])
    clients("user", subscriptions=[STATUS], handler=seen, persistent=False)
    wait_until(lambda: seen.payloads == [status("online").payload])


def test_what_is_too_large_for_any_broker_is_refused_before_it_is_sent(clients: Clients) -> None:
    pub = clients("pub", persistent=False)
    with pytest.raises(Rejected, match="send a smaller picture"):
        pub.publish(clear_capture(topics.frame("home", "cam1", "garden"), bytes(FRAME_MAX_BYTES + (1 << 20))))
    assert pub.connects == 1


@pytest.mark.slow
@pytest.mark.parametrize("topic", ["tierwise/v1/+/ack", "tierwise/v1/#", "", "x" * 70_000])
def test_a_topic_that_nobody_can_publish_under_is_refused_and_ends_nothing(clients: Clients, topic: str) -> None:
    pub = clients("pub", persistent=False)
    refusals: list[Rejected] = []
    pub.publish(clear(EventAck(ids=("1",)), topic, to=Tier.EDGE), refused=refusals.append)
    publish_all(pub, [reading(b"next")])
    assert [error.reason for error in refusals] == ["topic-invalid"]
    assert len(str(refusals[0])) < 400
    assert pub.connects == 1


@pytest.mark.slow
def test_a_message_that_the_broker_hangs_up_on_is_given_up_and_blocks_nothing(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PAYLOAD_MAX_BYTES", 1 << 30)
    pub = clients("pub", persistent=False)
    refusals: list[Rejected] = []
    delivered: list[bool] = []
    poison = clear_capture(topics.frame("home", "cam1", "garden"), bytes(18 << 20))
    small = reading(b"small")
    deadline = time.monotonic() + 30
    while not refusals:
        assert time.monotonic() < deadline
        try:
            pub.publish(poison, refused=refusals.append)
            pub.publish(small, lambda: delivered.append(True))
        except Retry:
            pub.wait_writable(0.05)
    assert refusals[0].reason == "broker-refuses"
    publish_all(pub, [small])


@pytest.mark.slow
def test_stopping_takes_no_time_when_the_broker_is_dead(clients: Clients, mqtt_broker: MqttBroker) -> None:
    got = Collector()
    frozen = clients("frozen", subscriptions=[READINGS], handler=got)
    assert mqtt_broker.process is not None
    mqtt_broker.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    frozen.stop(farewell=status("offline"))
    lonely = Connection(Endpoint("127.0.0.1", 1), "lonely")
    lonely.start()
    lonely.stop()
    waiting = Connection(mqtt_broker.endpoint, "waiting")
    waiting.start()
    waiting.stop()
    assert time.monotonic() - began < 2
    mqtt_broker.process.send_signal(signal.SIGCONT)


@pytest.mark.slow
def test_batches_are_bounded_and_only_the_connections_thread_handles_them(clients: Clients) -> None:
    sizes: list[int] = []
    threads: set[str] = set()

    class Measuring(Collector):
        def received(self, batch: Sequence[Message]) -> int:
            sizes.append(len(batch))
            threads.add(threading.current_thread().name)
            return super().received(batch)

    got = Measuring()
    clients("sub", subscriptions=[READINGS], handler=got).stop()
    publish_all(clients("pub", persistent=False), [reading(b"%d" % n) for n in range(400)])
    clients("sub", subscriptions=[READINGS], handler=got)
    wait_until(lambda: len(got.messages) >= 400)
    assert max(sizes) <= session.BATCH_MAX
    assert threads == {"mqtt sub"}


# --- with the spool --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_was_committed_but_not_acknowledged_is_stored_once(clients: Clients, spool: Spool) -> None:
    class CutAfterCommit(Ingest):
        cuts = 2

        def received(self, batch: Sequence[Message]) -> int:
            mark = super().received(batch)
            if self.cuts:
                self.cuts -= 1
                raise Retry("the connection is cut here")
            return mark

    receipts: list[Receipt] = []
    clients(
        "sub",
        subscriptions=[READINGS],
        handler=CutAfterCommit(spool, "site", admit, lambda got, _tx: receipts.extend(got)),
    )
    publish_all(clients("pub", persistent=False), [reading(b"21.5") for _ in range(5)])
    publish_all(clients("late", persistent=False), [reading(b"22.0")])
    wait_until(lambda: len(receipts) >= 6 + 2 and spool.waiting_count >= 6)
    stored = Counter(item.payload for item in spool.waiting(100))
    assert stored == {b"21.5": 5, b"22.0": 1}
    assert len({receipt.id for receipt in receipts}) == 6
    assert sum(receipt.repeat for receipt in receipts) == len(receipts) - 6


@pytest.mark.slow
def test_equal_readings_after_a_reconnect_are_new_events(clients: Clients, spool: Spool) -> None:
    pub = clients("pub", persistent=False)
    for n in range(1, 4):
        sub = clients("sub", subscriptions=[READINGS], handler=Ingest(spool, "site", admit))
        publish_all(pub, [reading(b"21.5")])
        wait_until(lambda n=n: spool.query("SELECT acknowledged FROM link") == [(n,)])  # type: ignore[misc]
        sub.stop()
    assert spool.waiting_count == 3


CHILD = """
import sys, pathlib, time
from pipeline.delivery import Ingest
from pipeline.mqtt import Connection, Endpoint
from pipeline.spool import Arrival, Spool
spool = Spool.open(pathlib.Path(sys.argv[1]), limit_bytes=1 << 30)
ingest = Ingest(spool, "site", lambda m, tx: Arrival(m.topic, m.payload, time.time()))
connection = Connection(
    Endpoint("127.0.0.1", int(sys.argv[2])), "ingest", subscriptions=["tierwise/v1/home/+/reading/+"], handler=ingest)
connection.start()
connection.wait_connected(10)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_a_killed_ingest_has_every_message_exactly_once(
    clients: Clients, mqtt_broker: MqttBroker, tmp_path: Path
) -> None:
    path = tmp_path / "child.db"

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", CHILD, str(path), str(mqtt_broker.port)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        return child

    def end(child: subprocess.Popen[str]) -> None:
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()

    child = start()
    sent = [reading(b"%d" % n, f"s{n % 3}") for n in range(3000)]
    publisher = threading.Thread(target=publish_all, args=(clients("pub", persistent=False), sent))
    publisher.start()
    luck = random.Random(7)
    for _ in range(3):
        publisher.join(luck.uniform(0.05, 0.3))
        end(child)
        child = start()
    publisher.join()
    end(child)
    # What the broker still has comes to us, as the next to hold the file.
    spool = Spool.open(path, limit_bytes=1 << 30)
    last = clients("ingest", subscriptions=[READINGS], handler=Ingest(spool, "site", admit))
    wait_until(lambda: spool.waiting_count >= 3000)
    last.stop()
    stored = Counter(item.payload for item in spool.waiting(10_000))
    assert stored == Counter(cleared.payload for cleared in sent)
    spool.close()


# --- the sender ------------------------------------------------------------------------------------------------


def outgoing(name: str, hop: str = "site") -> Outgoing:
    return Outgoing(id=name, hop=hop, topic=topics.event_ack("home", "cam1"), payload=name.encode(), created_at=0.0)


def clear_ids(record: Outgoing) -> Cleared:
    if record.id == "secret":
        raise Rejected("withheld", "secret: stays here")
    return clear(EventAck(ids=(record.id,)), record.topic, to=Tier.EDGE)


@pytest.mark.slow
@pytest.mark.parametrize("settled_by", ["broker", "hop"])
def test_what_is_in_the_outbox_is_sent_until_it_is_settled(clients: Clients, spool: Spool, settled_by: str) -> None:
    got = Collector()
    sub = clients("sub", subscriptions=[topics.event_ack("home", "cam1")], handler=got, persistent=False)
    refused: list[str] = []
    pub = clients("pub")
    sender = Sender(
        spool,
        pub,
        "site",
        clear_ids,
        settled_by=settled_by,  # type: ignore[arg-type]
        refused=lambda record, error: refused.append(f"{record.id}: {error.reason}"),
    )
    sender.start()
    with spool.transaction() as tx:
        tx.send(*(outgoing(str(n)) for n in range(200)), outgoing("secret"), outgoing("other", "elsewhere"))
    wait_until(lambda: len(got.messages) >= 200)
    wait_until(lambda: refused == ["secret: withheld"])
    if settled_by == "hop":
        wait_until(lambda: spool.backlog("site") == 200)
        spool.settle("site", [str(n) for n in range(200)])
    wait_until(lambda: spool.backlog("site") == 0)
    assert spool.backlog("elsewhere") == 1
    assert sub.connected
    sender.stop()


@pytest.mark.slow
def test_what_the_next_hop_did_not_acknowledge_is_sent_again_after_a_reconnect(
    clients: Clients, spool: Spool, mqtt_broker: MqttBroker
) -> None:
    got = Collector()
    clients("sub", subscriptions=[topics.event_ack("home", "cam1")], handler=got, persistent=False)
    sender = Sender(spool, clients("pub"), "site", clear_ids, settled_by="hop", refused=lambda *_: None)
    sender.start()
    with spool.transaction() as tx:
        tx.send(outgoing("1"), outgoing("2"))
    wait_until(lambda: len(got.messages) == 2)
    spool.settle("site", ["1"])
    mqtt_broker.kill()
    mqtt_broker.start()
    wait_until(lambda: len(got.messages) >= 3)
    assert got.payloads[2] == got.payloads[1]
    sender.stop()


# --- the embedded broker's process -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_taken_port_is_told_in_one_line_with_what_to_do(tmp_path: Path) -> None:
    broker = Iotcore(tmp_path)
    broker.start()
    second = subprocess.run(broker.command(), check=False, capture_output=True, text=True, timeout=20)
    broker.kill()
    assert second.returncode == 2
    assert second.stderr.count("\n") == 1
    assert f"port {broker.port} on 127.0.0.1 is in use" in second.stderr


def test_the_embedded_broker_ends_when_it_is_told_to(tmp_path: Path) -> None:
    broker = Iotcore(tmp_path)
    broker.start()
    assert broker.process is not None
    broker.process.terminate()
    assert broker.process.wait(5) == 0


def test_the_embedded_broker_ends_with_its_parent(tmp_path: Path) -> None:
    broker = Iotcore(tmp_path)
    parent = "import os, subprocess, sys; subprocess.Popen(sys.argv[1:] + [str(os.getpid())]); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", parent, *broker.command()[:-1]], stdin=subprocess.PIPE) as process:
        wait_until(lambda: probe("127.0.0.1", broker.port) == "mqtt")
        process.kill()
    wait_until(lambda: probe("127.0.0.1", broker.port) == "free")
