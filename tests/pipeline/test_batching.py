"""What goes into a batch, and what happens to a record that may not leave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka_brokers import eventually
from mqtt_brokers import Iotcore

from pipeline import delivery, messages, topics
from pipeline.clock import HandClock, SystemClock
from pipeline.delivery import OVERHEAD_BYTES, REPEAT_MIN_S, BatchSender, pack
from pipeline.errors import Rejected, Retry, Withheld
from pipeline.messages import Ack, Refusal, Tier
from pipeline.mqtt import Connection
from pipeline.privacy import gate
from pipeline.spool import Outgoing, Spool

LIMIT_BYTES = 400


def record(number: int, size_bytes: int = 10, topic: str = "t") -> Outgoing:
    return Outgoing(id=str(number), hop="up", topic=topic, payload=b"x" * size_bytes, created_at=0.0)


queues = st.lists(st.tuples(st.integers(0, 2 * LIMIT_BYTES), st.sampled_from("ab")), min_size=1, max_size=30).map(
    lambda sizes: [record(number, size, topic) for number, (size, topic) in enumerate(sizes)]
)


@given(queues)
def test_a_batch_is_the_start_of_its_topics_queue_in_order(waiting: list[Outgoing]) -> None:
    batch = pack(waiting, LIMIT_BYTES)
    same_topic = [out for out in waiting if out.topic == waiting[0].topic]
    assert batch == same_topic[: len(batch)]


@given(queues)
def test_a_batch_holds_at_least_one_and_no_more_than_fits(waiting: list[Outgoing]) -> None:
    batch = pack(waiting, LIMIT_BYTES)
    assert batch
    size = sum(len(out.payload) + OVERHEAD_BYTES for out in batch)
    assert size <= LIMIT_BYTES or len(batch) == 1


@given(queues)
def test_a_batch_is_as_large_as_may_be(waiting: list[Outgoing]) -> None:
    batch = pack(waiting, LIMIT_BYTES)
    same_topic = [out for out in waiting if out.topic == waiting[0].topic]
    if len(batch) < len(same_topic):
        more = [*batch, same_topic[len(batch)]]
        assert sum(len(out.payload) + OVERHEAD_BYTES for out in more) > LIMIT_BYTES


@pytest.mark.slow
@given(queues)
def test_batch_after_batch_everything_leaves(waiting: list[Outgoing]) -> None:
    left = list(waiting)
    while left:
        sent = {out.id for out in pack(left, LIMIT_BYTES)}
        left = [out for out in left if out.id not in sent]


def test_nothing_waiting_is_no_batch() -> None:
    assert pack([]) == []


# --- on the way ------------------------------------------------------------------------------------------------


class Heard:
    """A subscriber that keeps what comes."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    def connected(self, session_present: bool) -> int:
        return 0

    def received(self, batch: Sequence[object]) -> int:
        self.payloads += [message.payload for message in batch]  # type: ignore[attr-defined]
        return 0

    def confirmed(self, mark: int) -> None:
        """Nothing is kept."""


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool.open(tmp_path / "spool.db", limit_bytes=1 << 20)
    yield opened
    opened.close()


@pytest.mark.slow
def test_a_batch_is_repeated_until_it_is_settled_and_what_may_not_leave_is_told_alone(
    spool: Spool, tmp_path: Path
) -> None:
    """The gate withholds one of five: four leave, one by one then, and the fifth is settled and told."""
    broker = Iotcore(tmp_path)
    broker.start()
    topic, heard = topics.ack("home", "cam1"), Heard()
    reported: list[tuple[str, str]] = []
    done = threading.Event()

    def wrap(batch: Sequence[Outgoing]) -> gate.Cleared:
        if any(out.id == "2" for out in batch):
            raise Withheld("it is private")
        return gate.clear(Ack(ids=tuple(out.id for out in batch), topic="t"), topic, to=Tier.EDGE)

    def refused(out: Outgoing, error: Rejected) -> None:
        reported.append((out.id, error.reason))
        done.set()

    connection = Connection(broker.endpoint, "batch-test", subscriptions=[topic], handler=heard, persistent=False)
    sender = BatchSender(spool, connection, "up", wrap, refused=refused, clock=SystemClock())
    with spool.transaction() as tx:
        tx.send(*(record(number) for number in range(5)))
    try:
        connection.start()
        sender.start()
        assert done.wait(10)
        eventually(lambda: len(heard.payloads) >= 4)
        assert [messages.decode(Ack, payload).ids for payload in heard.payloads[:4]] == [
            ("0",),
            ("1",),
            ("3",),
            ("4",),
        ]
        assert reported == [("2", "withheld")]
        assert spool.backlog("up") == 4
        spool.settle("up", ["0", "1", "3", "4"])
        with spool.transaction() as tx:
            tx.send(record(9), record(10))
        eventually(lambda: messages.decode(Ack, heard.payloads[-1]).ids == ("9", "10"))
        broker.kill()
        broker.start()  # a broker without a memory: what is not settled comes again
        eventually(lambda: sum(messages.decode(Ack, p).ids == ("9", "10") for p in heard.payloads) == 2)
    finally:
        sender.stop()
        connection.stop()
        broker.kill()


class Scripted:
    """A connection that does with each message what a test says, on the caller's own thread."""

    def __init__(self, publish: Callable[..., None]) -> None:
        self.connects = 1
        self.publish = publish

    def wait_writable(self, timeout_s: float) -> bool:
        return True


@pytest.fixture
def senders() -> Iterator[list[BatchSender]]:
    made: list[BatchSender] = []
    yield made
    for sender in made:
        sender.stop()


def started(
    made: list[BatchSender], spool: Spool, publish: Callable[..., None], reported: list[str], **more: Any
) -> BatchSender:
    def wrap(batch: Sequence[Outgoing]) -> gate.Cleared:
        return gate.clear(Ack(ids=tuple(out.id for out in batch), topic="t"), "t", to=Tier.EDGE)

    sender = BatchSender(
        spool,
        Scripted(publish),  # type: ignore[arg-type]
        "up",
        wrap,
        refused=lambda out, error: reported.append(f"{out.id}: {error.reason}"),
        **more,
    )
    made.append(sender)
    sender.start()
    return sender


def ids(cleared: gate.Cleared) -> tuple[str, ...]:
    return messages.decode(Ack, cleared.payload).ids


def test_of_a_batch_that_the_broker_refuses_only_the_record_to_blame_is_given_up(
    spool: Spool, senders: list[BatchSender]
) -> None:
    reported: list[str] = []

    def publish(cleared: gate.Cleared, delivered: Callable[[], None], refused: Callable[..., None]) -> None:
        if "1" in ids(cleared):
            spool.make_due("up")  # as after the reconnect that follows
            refused(Rejected("broker-refuses", "it hung up"))
        else:
            delivered()

    with spool.transaction() as tx:
        tx.send(*(record(number) for number in range(3)))
    started(senders, spool, publish, reported, settled_by="broker")
    eventually(lambda: spool.backlog("up") == 0)
    assert reported == ["1: broker-refuses"]


def test_an_acknowledgement_that_comes_at_once_leaves_nothing_behind(spool: Spool, senders: list[BatchSender]) -> None:
    def publish(cleared: gate.Cleared, delivered: Callable[[], None], refused: Callable[..., None]) -> None:
        spool.settle("up", ids(cleared))

    with spool.transaction() as tx:
        tx.send(record(1))
    sender = started(senders, spool, publish, [])
    eventually(lambda: spool.backlog("up") == 0)
    sender.stop()
    assert spool._attempts.sent("up", "1") == 0


def test_a_store_that_is_busy_for_a_while_ends_no_sender(
    spool: Spool, senders: list[BatchSender], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "IDLE_S", 0.01)
    read, busy = spool.outgoing, iter([True] * 3)

    def outgoing(*arguments: Any) -> list[Outgoing]:
        if next(busy, False):
            raise Retry("the disk is full")
        return read(*arguments)

    monkeypatch.setattr(spool, "outgoing", outgoing)
    with spool.transaction() as tx:
        tx.send(record(1))
    started(senders, spool, lambda cleared, *_: spool.settle("up", ids(cleared)), [])
    eventually(lambda: spool.backlog("up") == 0)


def test_a_sender_that_is_stopped_after_its_store_ends_in_order(tmp_path: Path, senders: list[BatchSender]) -> None:
    closed = Spool.open(tmp_path / "closed.db", limit_bytes=1)
    closed.close()
    sender = started(senders, closed, lambda *_: None, [])
    sender.stop(timeout_s=10)  # an exception on its thread would fail this test
    assert sender._thread is not None and not sender._thread.is_alive()


def test_a_refusal_is_no_message_of_a_batch() -> None:
    """What is refused is told with its size and digest, so a batch's payload never stands in it."""
    assert "payload" not in Refusal.__struct_fields__


def test_a_record_is_sent_again_in_time_although_the_clock_was_set_back(
    spool: Spool, senders: list[BatchSender], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "IDLE_S", 0.01)
    turned, sent = HandClock(), threading.Semaphore(0)
    with spool.transaction() as tx:
        tx.send(record(1))
    started(senders, spool, lambda *_: sent.release(), [], clock=turned)
    assert sent.acquire(timeout=20)
    turned.set_wall(-3 * 86_400)
    assert not sent.acquire(timeout=0.05), "not before its time"
    turned.turn(REPEAT_MIN_S * 2)
    assert sent.acquire(timeout=20)
