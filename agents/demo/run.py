"""One run of the demo: settings of its own, the supervisor, the publishers, and the report at the end."""

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

from agents.client.site_client import SiteClient, connect
from agents.demo.scenes import SCENES, DemoScene, jpegs
from agents.demo.sensors import DAYS, past
from agents.demo.tally import Percentiles, TrafficTally
from agents.role.run_file import running
from agents.up.plan import ROLE_NAMES, plan
from agents.up.ports import is_free
from agents.up.supervisor import News, Supervisor
from pipeline import clock, ids, kafka, topics
from pipeline.errors import Retry, Stop
from pipeline.messages import Privacy, Result
from pipeline.privacy.gate import clear_capture
from pipeline.settings.settings import Settings
from pipeline.settings.starter import STARTER
from pipeline.stream.counts import Total, totals

FRAMES_A_VISIT: Final = 4
FRAME_PAUSE_S: Final = 0.7
"""Between two frames of a visit, so that a person can read along."""

READY_WITHIN_S: Final = 60.0
SETTLE_WITHIN_S: Final = 30.0
"""Time to wait after the last frame for answers that are still on their way."""

READINGS_INFLIGHT: Final = 50
"""Readings under way to the device at once: the past must not delay the cameras."""

MORE: Final = """
# --- for the demo ---
[device]
sighting_gap_s = 5            # visits follow each other quickly here
still_s = 2                   # and every frame of them is looked at

[edge]
cloud_deadline_s = 5

# A person comes to the door: no rule about persons is needed.
[streams."cam2/door"]
task = "wildlife"
wants = "species"
pixels = "edge-private"
feature = "public"
result = "public"
reason = "shows that a person's picture stays on its device whatever the stream allows"

# The kitchen table is private: its features leave sealed or not at all.
[streams."cam3/kitchen"]
task = "wildlife"
wants = "species"
pixels = "edge-private"
feature = "edge-private"
result = "edge-private"
reason = "shows a stream that stays at its site"
"""

SEALED: Final = re.compile(r"^sealed = \[\].*$", re.MULTILINE)
"""The starter's line that keeps private records at the site."""
SEALED_IN_DEMO: Final = (
    'sealed = ["edge-private", "user-private"]   # the demo shows them: in Kafka, and unreadable there'
)


class DemoReport(msgspec.Struct, frozen=True, kw_only=True):
    """The figures that `--report` writes."""

    seconds: float
    ready_s: float
    """Time from the start of the first process until every role was ready."""
    first_answer_s: float | None
    """Time from the start of the first process until the first answer."""
    events: dict[str, int]
    answered: dict[str, int]
    lost: int
    duplicated: int
    latency_ms: dict[str, Percentiles]
    """Latency of frames, by tier."""
    bytes: dict[str, int]
    """Sent over each hop, payloads without MQTT's headers."""
    privacy_topics: dict[str, int]
    """Records in each Kafka topic of features."""
    person_pictures_that_left: int
    sightings: int
    counts: list[Total]


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """The options of a demo."""

    folder: Path
    for_s: float | None
    source: str


def settings_for(wanted: DemoRequest) -> Path:
    """Write the demo's settings: the starter's, two more cameras, and free ports."""
    if wanted.folder.exists():
        shutil.rmtree(wanted.folder)
    wanted.folder.mkdir(parents=True)
    text = SEALED.sub(SEALED_IN_DEMO, STARTER)
    free = free_ports()
    for section in ("mqtt", "kafka"):
        text = text.replace(
            f'[{section}]\naddress = "embedded"', f'[{section}]\nport = {next(free)}\naddress = "embedded"'
        )
    ports = "\n".join(f"{role} = 0" for role in ROLE_NAMES)
    text += f"{MORE}\n[http]\n{ports}\n"
    if wanted.source:
        text = text.replace(
            '[streams."cam1/garden"]',
            f'[streams."cam1/garden"]\nsource = {msgspec.json.encode(wanted.source).decode()}',
        )
    file = wanted.folder / "tierwise.toml"
    file.write_text(text, "utf-8")
    return file


def free_ports() -> Iterator[int]:
    """Yield a port for MQTT and one for Kafka: the usual ones if they are free, so that any MQTT client can join in."""
    for usual in (1883, 9092):
        if is_free(usual):
            yield usual
        else:
            with socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                yield taken.getsockname()[1]


class Demo:
    """One run. The screen reads `tally`, `stage` and the figures; nothing here prints."""

    def __init__(self, wanted: DemoRequest, file: Path, report: Callable[[News], None]) -> None:
        self.settings = Settings.load(file)
        self.tally = TrafficTally()
        self.stage = "starting"
        self.privacy_topics: dict[str, int] = {}
        self.bytes: dict[str, int] = {}
        self.counts: list[Total] = []
        self.first_answer_s: float | None = None
        self.ready_s = 0.0
        self._wanted = wanted
        self._began_s = time.monotonic()
        self._stop = threading.Event()
        self._supervisor = Supervisor(self.settings, file, plan(self.settings, file), report)

    def start(self) -> None:
        """Start brokers and roles. Raises `Stop` if they cannot be started."""
        self._supervisor.start()
        if not self._supervisor.wait_ready(READY_WITHIN_S):
            raise Stop(f"not everything was ready within {READY_WITHIN_S:.0f} s: see {self.settings.data_dir / 'logs'}")
        self.ready_s = time.monotonic() - self._began_s

    def stop(self) -> None:
        """Stop the publishers, the roles and the brokers."""
        self._stop.set()
        self._supervisor.stop()

    def end(self) -> None:
        """Stop publishing; `run` goes on until everything published is answered."""
        self._stop.set()

    def run(self, on_answer: Callable[[Result], None]) -> None:
        """Publish and listen until the time is over, or until `end`; then wait for the last answers."""
        everything = f"{topics.ROOT}/{self.settings.site}/#"
        with connect(self.settings, "demo", [everything]) as site:
            publishers = [threading.Thread(target=self._publish_past, args=(site,), daemon=True)]
            if not self._wanted.source:
                publishers.append(threading.Thread(target=self._publish_frames, args=(site,), daemon=True))
            figures = threading.Thread(target=self._measure_for_ever, daemon=True)
            for thread in (*publishers, figures):
                thread.start()
            self.stage = "running"
            until_s = self._began_s + self._wanted.for_s if self._wanted.for_s is not None else None
            while not self._stop.is_set() and (until_s is None or time.monotonic() < until_s):
                self._listen(site, on_answer)
            self._stop.set()
            self.stage = "waiting for the last answers"
            settle_s = time.monotonic() + SETTLE_WITHIN_S
            while not (self.tally.is_settled and not any(p.is_alive() for p in publishers)):
                if time.monotonic() > settle_s:
                    break
                self._listen(site, on_answer)
            self.measure()

    def _listen(self, site: SiteClient, on_answer: Callable[[Result], None]) -> None:
        for message in site.take(0.1):
            answer = self.tally.take(message.topic, message.payload)
            if answer is not None:
                if self.first_answer_s is None:
                    self.first_answer_s = time.monotonic() - self._began_s
                on_answer(answer)

    # --- publishing ------------------------------------------------------------------------------------------

    def _publish_frames(self, site: SiteClient) -> None:
        """Publish one visit after another: a cat in the garden, a person at the door, a cup in the kitchen."""
        for visit in itertools.count():
            for scene in SCENES:
                for jpeg in jpegs(scene, FRAMES_A_VISIT, start=visit * FRAMES_A_VISIT):
                    if self._stop.wait(FRAME_PAUSE_S):
                        return
                    self._publish(site, self._frame_topic(scene), jpeg, scene.stream)

    def _frame_topic(self, scene: DemoScene) -> str:
        device, stream = scene.stream.split("/")
        return topics.frame(self.settings.site, device, stream)

    def _publish_past(self, site: SiteClient) -> None:
        """Publish a week of simulated readings with their own times and ids, as a device that was offline would."""
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
            self._publish(site, topic, msgspec.json.encode(body), sample.stream)

    def _publish(self, site: SiteClient, topic: str, payload: bytes, stream: str) -> None:
        """Publish one payload; while the broker is away, try again until it is back."""
        self.tally.publish(hashlib.sha256(payload).hexdigest(), stream)
        while True:
            try:
                site.publish(clear_capture(topic, payload))
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
        """Read the figures of Kafka and the roles; keep the last ones of those that do not answer."""
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
        process = running(self.settings.data_dir, role)
        if process is None or process.port is None:
            return {}
        connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=1.0)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            return {}
        finally:
            connection.close()
        found = re.findall(r'tierwise_hop_bytes_total\{hop="([^"]+)"\} (\S+)', text)
        return {hop: int(float(value)) for hop, value in found if role != "gateway" or hop == "cloud-edge"}

    def report(self) -> DemoReport:
        """Return all figures of the run."""
        tally = self.tally
        frames = tally.published_of(frozenset(scene.stream for scene in SCENES))
        person = frozenset(scene.stream for scene in SCENES if scene.subject == "a person")
        return DemoReport(
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
