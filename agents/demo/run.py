"""Drives the demo: settings of its own, the supervisor, the publishers, and the report at the end."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from agents.client.connection import Inbox, at_site
from agents.demo.scenes import SCENES, Scene, jpegs
from agents.demo.sensors import DAYS, past
from agents.demo.tally import Percentiles, Tally
from agents.role.run_file import running
from agents.up.plan import ROLE_NAMES, plan
from agents.up.ports import is_free
from agents.up.supervisor import News, Supervisor
from pipeline import clock, ids, kafka, topics
from pipeline.errors import Retry, Stop
from pipeline.messages import Privacy, Result
from pipeline.mqtt import Connection
from pipeline.privacy.gate import clear_capture
from pipeline.settings.settings import Settings
from pipeline.settings.starter import STARTER
from pipeline.stream.counts import Total, totals

FRAMES_A_VISIT: Final = 4
FRAME_PAUSE_S: Final = 0.7
"""Between two frames of a visit, so that a person can read along."""

READY_WITHIN_S: Final = 60.0
SETTLE_WITHIN_S: Final = 30.0
"""After the last frame: how long to wait for answers that are still on their way."""

READINGS_INFLIGHT: Final = 50
"""Readings under way to the device at once: history must not hold up the cameras."""

MORE: Final = """
# --- for the demo ---
[device]
sighting_gap_s = 5            # visits follow each other quickly here
still_s = 2                   # and every frame of them is looked at

[edge]
cloud_deadline_s = 5

# A person comes to the door; it needs no rule for that.
[streams."cam2/door"]
task = "wildlife"
wants = "species"
pixels = "edge-private"
feature = "public"
result = "public"
reason = "shows that a person's picture stays on its device whatever the stream allows"

# What is on the kitchen table is nobody's business outside: its features leave sealed or not at all.
[streams."cam3/kitchen"]
task = "wildlife"
wants = "species"
pixels = "edge-private"
feature = "edge-private"
result = "edge-private"
reason = "shows a stream that stays at its site"
"""

SEALED: Final = (
    "sealed = []                   # what may not be seen by the cloud does not go there, not even sealed"
)
SEALED_IN_DEMO: Final = (
    'sealed = ["edge-private", "user-private"]   # the demo shows them: in Kafka, and unreadable there'
)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `--report` writes."""

    seconds: float
    ready_s: float
    """From the start of the first process until every role was ready."""
    first_answer_s: float | None
    """From the start of the first process until the first answer."""
    events: dict[str, int]
    answered: dict[str, int]
    lost: int
    duplicated: int
    latency_ms: dict[str, Percentiles]
    """Of frames."""
    bytes: dict[str, int]
    """Sent over each hop, payloads without MQTT's headers."""
    privacy_topics: dict[str, int]
    """Records in each Kafka topic of features."""
    person_pictures_that_left: int
    sightings: int
    counts: list[Total]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the person asked for."""

    folder: Path
    for_s: float | None
    source: str


def settings_for(asked: Plan) -> Path:
    """Write the demo's settings: the starter's, two more cameras, and ports that are free."""
    if asked.folder.exists():
        shutil.rmtree(asked.folder)
    asked.folder.mkdir(parents=True)
    text = STARTER.replace(SEALED, SEALED_IN_DEMO)
    free = free_ports()
    for section in ("mqtt", "kafka"):
        text = text.replace(
            f'[{section}]\naddress = "embedded"', f'[{section}]\nport = {next(free)}\naddress = "embedded"'
        )
    ports = "\n".join(f"{role} = 0" for role in ROLE_NAMES)
    text += f"{MORE}\n[http]\n{ports}\n"
    if asked.source:
        text = text.replace(
            '[streams."cam1/garden"]',
            f'[streams."cam1/garden"]\nsource = {msgspec.json.encode(asked.source).decode()}',
        )
    file = asked.folder / "tierwise.toml"
    file.write_text(text, "utf-8")
    return file


def free_ports() -> Iterator[int]:
    """The usual ports where they are free, so that any MQTT client can join in; else any."""
    for usual in (1883, 9092):
        if is_free(usual):
            yield usual
        else:
            with socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                yield taken.getsockname()[1]


class Demo:
    """One run. The view reads `tally`, `stage` and the figures; nothing here prints."""

    def __init__(self, asked: Plan, file: Path, tell: Callable[[News], None]) -> None:
        self.settings = Settings.load(file)
        self.tally = Tally()
        self.stage = "starting"
        self.privacy_topics: dict[str, int] = {}
        self.bytes: dict[str, int] = {}
        self.counts: list[Total] = []
        self.first_answer_s: float | None = None
        self.ready_s = 0.0
        self._asked = asked
        self._began_s = time.monotonic()
        self._stop = threading.Event()
        self._supervisor = Supervisor(self.settings, file, plan(self.settings, file), tell)

    def start(self) -> None:
        """Start brokers and roles. Raises `Stop` where they cannot be."""
        self._supervisor.start()
        if not self._supervisor.wait_ready(READY_WITHIN_S):
            raise Stop(
                f"not everything was ready within {READY_WITHIN_S:.0f} s: see {self.settings.data_dir / 'logs'}"
            )
        self.ready_s = time.monotonic() - self._began_s

    def stop(self) -> None:
        self._stop.set()
        self._supervisor.stop()

    def end(self) -> None:
        """Ask the publishers to end; `run` goes on until what they published is answered."""
        self._stop.set()

    def run(self, told: Callable[[Result], None]) -> None:
        """Publish and listen until the time is over, or until `end`; then wait for what is still on its way."""
        everything = f"{topics.ROOT}/{self.settings.site}/#"
        with at_site(self.settings, "demo", [everything]) as (connection, inbox):
            publishers = [threading.Thread(target=self._publish_past, args=(connection,), daemon=True)]
            if not self._asked.source:
                publishers.append(
                    threading.Thread(target=self._publish_frames, args=(connection,), daemon=True)
                )
            figures = threading.Thread(target=self._measure_for_ever, daemon=True)
            for thread in (*publishers, figures):
                thread.start()
            self.stage = "running"
            until_s = self._began_s + self._asked.for_s if self._asked.for_s is not None else None
            while not self._stop.is_set() and (until_s is None or time.monotonic() < until_s):
                self._listen(inbox, told)
            self._stop.set()
            self.stage = "waiting for the last answers"
            settle_s = time.monotonic() + SETTLE_WITHIN_S
            while not (self.tally.is_settled and not any(p.is_alive() for p in publishers)):
                if time.monotonic() > settle_s:
                    break
                self._listen(inbox, told)
            self.measure()

    def _listen(self, inbox: Inbox, told: Callable[[Result], None]) -> None:
        for message in inbox.take(0.1):
            heard = self.tally.hear(message.topic, message.payload)
            if heard is not None:
                if self.first_answer_s is None:
                    self.first_answer_s = time.monotonic() - self._began_s
                told(heard)

    # --- publishing ------------------------------------------------------------------------------------------

    def _publish_frames(self, connection: Connection) -> None:
        """One visit after another: a cat in the garden, a person at the door, a cup in the kitchen."""
        for visit in itertools.count():
            for scene in SCENES:
                for jpeg in jpegs(scene, FRAMES_A_VISIT, start=visit * FRAMES_A_VISIT):
                    if self._stop.wait(FRAME_PAUSE_S):
                        return
                    self._publish(connection, self._frame_topic(scene), jpeg, scene.stream)

    def _frame_topic(self, scene: Scene) -> str:
        device, stream = scene.stream.split("/")
        return topics.frame(self.settings.site, device, stream)

    def _publish_past(self, connection: Connection) -> None:
        """A week of simulated readings with their own times and ids, as an offline device would bring them."""
        for sample in past(time.time()):
            device, stream = sample.stream.split("/")
            body = {
                "value": round(sample.value, 2),
                "unit": sample.unit,
                "time": clock.rfc3339(sample.time_s),
                "id": ids.event_id(sample.time_s),
            }
            topic = topics.reading(self.settings.site, device, stream)
            while self.tally.unacknowledged > READINGS_INFLIGHT:
                if self._stop.wait(0.02):
                    return
            if self._stop.is_set():
                return
            self._publish(connection, topic, msgspec.json.encode(body), sample.stream)

    def _publish(self, connection: Connection, topic: str, payload: bytes, stream: str) -> None:
        """Publish one payload; where the broker is away, try again until it is back."""
        self.tally.publish(hashlib.sha256(payload).hexdigest(), stream)
        while True:
            try:
                connection.wait_writable(1.0)
                connection.publish(clear_capture(topic, payload))
            except Retry:
                if self._stop.wait(0.2):
                    return
            else:
                return

    # --- figures ---------------------------------------------------------------------------------------------

    def _measure_for_ever(self) -> None:
        while not self._stop.wait(2.0):
            self.measure()

    def measure(self) -> None:
        """Ask Kafka and the roles for their figures; what does not answer keeps its last ones."""
        names = {privacy.value: topics.ROUTED[privacy] for privacy in Privacy} | {"rejected": topics.REJECTED}
        try:
            found = kafka.record_counts(self.settings.kafka, list(names.values()))
            self.privacy_topics = {level: found[name] for level, name in names.items()}
            self.counts = totals(kafka.read_all(self.settings.kafka, topics.COUNTS).values())
        except (Retry, Stop):
            pass
        hops = dict(self.bytes)
        for role in ("device", "edge", "gateway"):
            hops.update(self._hop_bytes(role))
        self.bytes = hops

    def _hop_bytes(self, role: str) -> dict[str, int]:
        told = running(self.settings.data_dir, role)
        if told is None or told.port is None:
            return {}
        connection = http.client.HTTPConnection("127.0.0.1", told.port, timeout=1.0)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            return {}
        finally:
            connection.close()
        found = re.findall(r'tierwise_hop_bytes_total\{hop="([^"]+)"\} (\S+)', text)
        return {hop: int(float(value)) for hop, value in found if role != "gateway" or hop == "cloud-edge"}

    def report(self) -> Report:
        """All figures of the run."""
        tally = self.tally
        frames = tally.published_of(frozenset(scene.stream for scene in SCENES))
        person = frozenset(scene.stream for scene in SCENES if scene.told == "a person")
        return Report(
            seconds=round(time.monotonic() - self._began_s, 1),
            ready_s=round(self.ready_s, 1),
            first_answer_s=round(self.first_answer_s, 1) if self.first_answer_s is not None else None,
            events={
                "published": tally.published,
                "acknowledged": tally.published - tally.unacknowledged,
                "frames": frames,
                "readings": tally.published - frames,
            },
            answered=tally.answered(),
            lost=tally.unanswered,
            duplicated=tally.duplicated(),
            latency_ms=tally.latency_ms(),
            bytes=self.bytes,
            privacy_topics=self.privacy_topics,
            person_pictures_that_left=tally.bodies_of(person),
            sightings=tally.sightings,
            counts=self.counts,
        )


SIMULATED: Final = f"{DAYS} days of readings are simulated; the photos are real"
