"""The real system for tests: `tierwise up`, or its roles one by one, on free ports in a folder of their own.

::

    stage.shared() -> Stack (running)          one at a time: asking for another one ends the one that runs
    stack.listen() -> Listener                 a plain MQTT client: receives all, repeats the unacknowledged

Nothing here sleeps for a while and hopes: everything waits for a condition, up to `PATIENCE_S`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import cv2
import numpy as np
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka_brokers import eventually, free_port
from paho.mqtt.client import Client, ConnectFlags, MQTTMessage, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from prometheus_client.parser import text_string_to_metric_families

from agents.role.run_file import ask_health, running
from agents.up import ports
from agents.up.plan import ROLE_NAMES
from models.vision import images
from pipeline import ids, kafka, messages, topics
from pipeline.messages import Ack, Refusal, Result, SightingReport, Tier
from pipeline.settings.settings import STARTER, Settings

T = TypeVar("T")

PATIENCE_S = 60.0
"""Far more than anything here takes on an idle machine; only a failing test waits for so long."""

REPEAT_S = 2.0
"""A publisher of these tests sends again what was not acknowledged for so long."""

SITE = "home"
GARDEN = topics.frame(SITE, "cam1", "garden")
HALL = topics.frame(SITE, "cam2", "hall")
"""Where persons are seen: a camera of its own, since a person raises the levels of the frames that follow, too."""

LAWN = topics.frame(SITE, "cam3", "lawn")
"""Where frames come in one order, since the answer about a frame depends on the frame before it."""

MORE_CAMERAS = "".join(
    f"""
[streams."{name}"]
task = "wildlife"
wants = "species"
pixels = "edge-private"
feature = "public"
result = "public"
reason = "the starter's camera once more"
"""
    for name in ("cam2/hall", "cam3/lawn")
)

EACH_FRAME_COUNTS = {"TIERWISE_DEVICE__SIGHTING_GAP_S": "0.001", "TIERWISE_DEVICE__STILL_S": "0.001"}
"""Settings under which each frame is a sighting of its own and is looked at, however like the one before it is."""

CANDIDATES = ("mqtt", "kafka", *ROLE_NAMES)


# --- photos ----------------------------------------------------------------------------------------------------


def photo(name: str) -> images.Picture:
    """A photo of scikit-image's wheel, BGR: `chelsea.png` is a cat, `astronaut.png` a person."""
    wheel = importlib.util.find_spec("skimage")  # not imported: its photos are all that is installed of it
    if wheel is None or wheel.origin is None:
        pytest.skip("no scikit-image with its photos here: make test installs it")
    picture = cv2.imread(str(Path(wheel.origin).parent / "data" / name))
    assert picture is not None
    return picture.astype(np.uint8)


def jpeg(picture: images.Picture, quality: int = 90) -> bytes:
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def cat() -> bytes:
    """A cat, each time as another event: the tests share a device. The id holds no time: that of receipt counts."""
    return ids.in_jpeg(jpeg(photo("chelsea.png")), str(uuid.uuid4()))


def cats(count: int) -> list[bytes]:
    """So many different views of one cat, as a camera that pans would see it."""
    whole = photo("chelsea.png")
    height, width = 280, 350
    across, down = whole.shape[1] - width, whole.shape[0] - height
    steps = [(i * 37 % across, i * 7 % down) for i in range(count)]
    views = (
        jpeg(np.ascontiguousarray(whole[y : y + height, x : x + width]), 85 + i % 10) for i, (x, y) in enumerate(steps)
    )
    return [ids.in_jpeg(view, str(uuid.uuid4())) for view in views]


# --- a plain MQTT client ---------------------------------------------------------------------------------------


class Heard(NamedTuple):
    """One message, in the order of arrival; a frame's content is left out."""

    topic: str
    payload: bytes


class Capture(NamedTuple):
    """What a camera or a sensor publishes; `id` where it brings its own."""

    topic: str
    payload: bytes
    id: str = ""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.payload).hexdigest()


class Listener:
    """Hears every topic from its start on, publishes at QoS 1, comes back by itself when the broker does."""

    def __init__(self, port: int) -> None:
        self.heard: list[Heard] = []
        self.results: list[Result] = []
        self.sightings: list[SightingReport] = []
        self.refusals: list[tuple[str, Refusal]] = []
        self.acknowledged: dict[str, list[str]] = {}
        """SHA-256 of a payload to the ids of its events."""
        self._news = threading.Condition()
        self._subscribed = 0
        self._port = port
        self._client = Client(CallbackAPIVersion.VERSION2, f"test-{uuid.uuid4().hex[:8]}")
        self._client.max_inflight_messages_set(100)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def open(self) -> None:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        self.wait(lambda: self._subscribed, "the subscription")

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> MQTTMessageInfo:
        return self._client.publish(topic, payload, qos=1, retain=retain)

    def wait(self, check: Callable[[], T | Literal[False] | None], what: str, timeout_s: float = PATIENCE_S) -> T:
        """The first true value of `check`, which is asked anew with each message."""
        with self._news:
            found = self._news.wait_for(check, timeout_s)
        assert found, f"not within {timeout_s:g} s: {what}"
        return found

    def answers(self, event: str) -> list[Result]:
        """Of one event, in the order in which they came."""
        return [result for result in self.results if result.event == event]

    def last_word(self, event: str, tier: Tier) -> Result:
        """Wait for a tier's answer that nobody is expected to refine."""
        return self.wait(
            lambda: next((r for r in self.answers(event) if r.tier is tier and r.pending is None), None),
            f"the {tier}'s last word about {event}; there are {self.answers(event)}",
        )

    def capture(self, topic: str, payload: bytes) -> str:
        """Publish a frame or reading that nobody published before; wait until it is committed; its event's id."""
        return self.capture_all([Capture(topic, payload)])[0]

    def capture_all(self, captures: Sequence[Capture]) -> list[str]:
        """Publish, and publish again what is not acknowledged, until everything is; the events' ids."""
        waiting = list(captures)
        deadline = time.monotonic() + PATIENCE_S
        while waiting:
            for capture in waiting:
                self.publish(capture.topic, capture.payload)
            with self._news:
                self._news.wait_for(lambda: not self._unacknowledged(captures), REPEAT_S)
            waiting = self._unacknowledged(captures)
            assert time.monotonic() < deadline, f"{len(waiting)} of {len(captures)} not acknowledged"
        return [self.acknowledged[capture.sha256][0] for capture in captures]

    def refused(self, payload: bytes) -> tuple[str, Refusal]:
        """Wait for the refusal of a payload: its topic and what it says."""
        sha256 = hashlib.sha256(payload).hexdigest()
        return self.wait(
            lambda: next((told for told in self.refusals if told[1].sha256 == sha256), None),
            f"the refusal of {payload[:40]!r}",
        )

    def _unacknowledged(self, captures: Sequence[Capture]) -> list[Capture]:
        return [capture for capture in captures if capture.sha256 not in self.acknowledged]

    def _on_connect(
        self,
        client: Client,
        _data: None,
        _flags: ConnectFlags,
        _code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        client.subscribe("#", qos=1)

    def _on_subscribe(
        self, _client: Client, _data: None, _id: int, _codes: list[ReasonCode], _properties: Properties | None
    ) -> None:
        with self._news:
            self._subscribed += 1
            self._news.notify_all()

    def _on_message(self, _client: Client, _data: None, message: MQTTMessage) -> None:
        parsed = topics.parse(message.topic)
        channel = parsed.channel if parsed else ""
        payload = bytes(message.payload)
        with self._news:
            self.heard.append(Heard(message.topic, b"" if channel == "frame" else payload))
            if channel in ("result", "private"):
                self.results.append(messages.decode(Result, payload))
            elif channel == "sighting":
                self.sightings.append(messages.decode(SightingReport, payload))
            elif channel == "rejected":
                self.refusals.append((message.topic, messages.decode(Refusal, payload)))
            elif channel == "ack":
                ack = messages.decode(Ack, payload)
                self.acknowledged.setdefault(ack.sha256, []).extend(ack.ids)
            self._news.notify_all()


# --- the processes ---------------------------------------------------------------------------------------------


class Stack:
    """A site with its cloud, on free ports; `environ` is what the settings are told beside the starter's."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        self.file = folder / "tierwise.toml"
        self.file.write_text(STARTER + MORE_CAMERAS, encoding="utf-8")
        defaults = {"TIERWISE_MQTT__PORT": free_port(), "TIERWISE_KAFKA__PORT": free_port()}
        defaults["TIERWISE_KAFKA__SESSION_TIMEOUT_S"] = 3  # the embedded broker takes it, and kills are noticed sooner
        http = {f"TIERWISE_HTTP__{role.upper()}": 0 for role in ROLE_NAMES}
        self.environ = {name: str(value) for name, value in (defaults | http).items()} | environ
        self.settings = Settings.load(self.file, self.environ)
        self._up: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.settings.data_dir

    def start(self, *only: str) -> None:
        """`tierwise up`, until everything is ready."""
        command = ["up", "--settings", str(self.file), *(["--only", ",".join(only)] if only else [])]
        self._up = self.run(*command)
        for name in only or CANDIDATES:
            self.wait_ready(name)

    def run(self, *arguments: str) -> subprocess.Popen[bytes]:
        """One more command of ours, its output beside the settings."""
        with (self.folder / f"{arguments[0]}.out").open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "agents", *arguments],
                cwd=self.folder,
                env=os.environ | self.environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def stop(self) -> int:
        """Ctrl-C; its exit code."""
        return self._end(signal.SIGINT)

    def kill(self) -> None:
        """End `tierwise up` as a crash would; its parts end with it."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> int:
        if self._up is None:
            return 0
        self._up.send_signal(number)
        code = self._up.wait(PATIENCE_S)
        self._up = None
        return code

    def pid(self, name: str) -> int:
        """Of a broker or role; 0 where it does not run."""
        if name in ROLE_NAMES:
            told = running(self.data, name)
            return told.pid if told else 0
        broker = self.settings.mqtt.port if name == "mqtt" else self.settings.kafka.port
        found = re.search(r"\(pid (\d+)\)", ports.owner(broker))
        return int(found[1]) if found else 0

    def pids(self) -> dict[str, int]:
        return {name: self.pid(name) for name in CANDIDATES}

    def is_ready(self, name: str) -> bool:
        if name not in ROLE_NAMES:
            return self.pid(name) > 0
        told = running(self.data, name)
        return told is not None and told.port is not None and ask_health(told.port)[0]

    def wait_ready(self, name: str, *, other_than: int = 0) -> None:
        """Until a part is ready; `other_than`: in a process that is not this one."""

        def check() -> bool:
            assert self._up is None or self._up.poll() is None, self._said()
            return self.pid(name) != other_than and self.is_ready(name)

        eventually(check, PATIENCE_S)

    def _said(self) -> str:
        return (self.folder / "up.out").read_text("utf-8", "replace")[-2000:]

    def kill_part(self, name: str) -> int:
        """kill -9 of a broker or role; the process that was killed."""
        pid = self.pid(name)
        assert pid, f"{name} does not run"
        os.kill(pid, signal.SIGKILL)
        return pid

    @contextmanager
    def halted(self, name: str) -> Iterator[None]:
        """A part that is there and answers nothing."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    # --- looking at it -----------------------------------------------------------------------------------------

    @contextmanager
    def listen(self) -> Iterator[Listener]:
        listener = Listener(self.settings.mqtt.port)
        listener.open()
        try:
            yield listener
        finally:
            listener.close()

    def metric(self, role: str, name: str, **labels: str) -> float:
        """One sample of a role's `/metrics`; 0 where there is none."""
        told = running(self.data, role)
        assert told is not None, f"{role} does not run"
        with urllib.request.urlopen(f"http://127.0.0.1:{told.port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    def rows(self, role: str, sql: str) -> list[tuple[Any, ...]]:
        """Of a role's store, read only."""
        uri = f"file:{self.data / role / 'spool.db'}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=10)) as store:
            return store.execute(sql).fetchall()

    def records(self, topic: str) -> list[Any]:
        """All records of a Kafka topic: kafka-python's, with key, value and headers."""
        consumer = KafkaConsumer(bootstrap_servers=self.settings.kafka.servers, enable_auto_commit=False)
        with closing(consumer):
            partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
            consumer.assign(partitions)
            consumer.seek_to_beginning()
            ends = consumer.end_offsets(partitions)
            found: list[Any] = []
            deadline = time.monotonic() + PATIENCE_S
            while any(consumer.position(partition) < end for partition, end in ends.items()):
                assert time.monotonic() < deadline
                for records in consumer.poll(timeout_ms=500).values():
                    found += records
        return found

    def produce(self, topic: str, records: Iterable[tuple[bytes | None, bytes, Sequence[tuple[str, bytes]]]]) -> None:
        """Put records (key, value, headers) straight into Kafka."""
        with closing(KafkaProducer(bootstrap_servers=self.settings.kafka.servers)) as producer:
            for key, value, headers in records:
                producer.send(topic, value, key, list(headers)).get(PATIENCE_S)

    def table(self, topic: str) -> Mapping[bytes, bytes]:
        """A compacted topic: the last value of each key."""
        return kafka.read_all(self.settings.kafka, topic)


class Stage:
    """Where one stack runs at a time: two cores are too few for two."""

    def __init__(self, new_folder: Callable[[], Path]) -> None:
        self._new_folder = new_folder
        self._running: Stack | None = None
        self._is_shared = False

    def shared(self) -> Stack:
        """The running system of all tests that leave it as it was."""
        if self._running is None or not self._is_shared:
            self._take(
                Stack(
                    self._new_folder(),
                    **EACH_FRAME_COUNTS,
                    TIERWISE_EDGE__CLOUD_DEADLINE_S="5",
                    TIERWISE_UPLINK__SEALED="user-private,edge-private",
                ),
                shared=True,
            )
            self.current.start()
        return self.current

    def fresh(self, **environ: str) -> Stack:
        """A stack that is not started yet, for one test alone."""
        self._take(Stack(self._new_folder(), **environ), shared=False)
        return self.current

    @property
    def current(self) -> Stack:
        assert self._running is not None
        return self._running

    def clear(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._running = None

    def _take(self, stack: Stack, *, shared: bool) -> None:
        self.clear()
        self._running, self._is_shared = stack, shared
