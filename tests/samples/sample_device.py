"""A small device agent on a broker of its own, for tests of those who publish to one."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from mqtt_brokers import Iotcore

from pipeline import topics
from pipeline.messages import Ack, Label, Privacy, Rank, Refusal, Result, Task, Tier, decode
from pipeline.mqtt import Connection, Message
from pipeline.privacy.gate import clear


def answer(event: str = "e1", revision: int = 1, pending: Tier | None = None, **changes: Any) -> Result:
    """An answer about a cat in the garden, by the tier of its revision."""
    tier = tuple(Tier)[min(revision, 3) - 1]
    fields: dict[str, Any] = dict(  # noqa: C408 - keywords read as the message does
        event=event,
        time="2026-01-01T00:00:00.000Z",
        site="home",
        device="cam1",
        stream="garden",
        sighting=None,
        task=Task.WILDLIFE,
        tier=tier,
        revision=revision,
        pending=pending,
        rank=Rank.FAMILY,
        label="Felidae",
        path=("animal", "Felidae"),
        probability=0.9,
        privacy=Privacy.PUBLIC,
        rule="last-tier",
        reason="no tier lies behind",
        model="lite0@1",
        latency_ms=41.0,
    )
    return Result(**(fields | changes))


class SmallDevice:
    """A device agent and an edge as a client sees them. It forgets the first message, and refuses empty photos and the
    label ``nonsense``.
    """

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.taken: list[bytes] = []

    def connected(self, session_present: bool) -> int:
        return 0

    def confirmed(self, mark: int) -> None:
        pass

    def received(self, batch: Sequence[Message]) -> int:
        for message in batch:
            self.taken.append(message.payload)
            if len(self.taken) > 1:
                self._settle(message)
        return 0

    def _settle(self, message: Message) -> None:
        parsed = topics.parse(message.topic)
        assert parsed is not None
        if not message.payload:
            self._refuse(message, "image-empty", "0 bytes")
        elif parsed.channel == "label":
            label = decode(Label, message.payload)
            if label.label == "nonsense":
                self._refuse(message, "unknown-label", "no such label")
            else:
                self._answer(answer(label.event, 3, label=str(label.label)))
                self._acknowledge(message, label.event)
        else:
            self._acknowledge(message, "e1")
            self._answer(answer("e1", 1, Tier.EDGE))
            self._answer(answer("e1", 2))

    def _acknowledge(self, message: Message, event: str) -> None:
        ack = Ack(ids=(event,), topic=message.topic, sha256=sha256(message))
        self._publish(ack, topics.ack("home", "cam1"))

    def _refuse(self, message: Message, reason: str, detail: str) -> None:
        refusal = Refusal(
            reason=reason, detail=detail, topic=message.topic, size_bytes=0, sha256=sha256(message), time=""
        )
        self._publish(refusal, topics.rejected("home", "cam1"))

    def _answer(self, result: Result) -> None:
        self._publish(result, topics.result("home", "cam1", result.tier, Privacy.PUBLIC))

    def _publish(self, body: msgspec.Struct, topic: str) -> None:
        assert self.connection is not None
        self.connection.publish(clear(body, topic, to=Tier.EDGE))


def sha256(message: Message) -> str:
    return hashlib.sha256(message.payload).hexdigest()


@contextlib.contextmanager
def small_device(folder: Path) -> Iterator[SmallDevice]:
    """Run one, with settings for its clients in `folder`."""
    broker = Iotcore(folder / "broker")
    broker.start()
    device = SmallDevice()
    device.connection = Connection(
        broker.endpoint,
        "device",
        subscriptions=[topics.frame("home", "+", "+"), topics.label("home", "+")],
        handler=device,
        persistent=False,
    )
    device.connection.start()
    try:
        assert device.connection.wait_connected(10)
        (folder / "tierwise.toml").write_text(
            f"[mqtt]\naddress = '{broker.endpoint}'\n[streams.'cam1/garden']\nreason = 'a test'\n"
        )
        yield device
    finally:
        device.connection.stop()
        broker.kill()
