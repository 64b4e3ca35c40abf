"""How much the road costs: frames through all tiers of the running system, against the same answers with no road between.

The road: `tierwise up` in a temporary folder, frames published over MQTT, answered by device, edge and cloud, with every
commit, acknowledgement, broker and router on their way. Each frame is a sighting of its own, so that each asks the cloud.

Its parts: the very classes that the roles run (decode, motion and eye of the device; decode and eye of the edge; head of
the cloud) called in a row on the same frames, in as many processes as there are cores. Nothing is stored or sent, so
this is what the machine could answer if the road cost nothing. It is measured before and after the road, and the mean
counts, since a machine's speed wanders.

The ratio is the road's frames per second to the parts'; the goal is 80%: commits, brokers, router and gateway together
may take a fifth of the machine.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import queue
import socket
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agents.cli.site import Inbox, at_site
from agents.cloud import species_answer
from agents.demo.scenes import SCENES, jpegs
from agents.device_frames import Frames, Scene
from agents.edge_frames import Families
from agents.plan import ROLE_NAMES, plan
from agents.sightings import Visit
from agents.supervisor import Supervisor
from models.registry import load_zoo
from models.taxonomy import load_taxonomy
from pipeline import ids, messages, topics
from pipeline.clock import SystemClock
from pipeline.errors import Stop
from pipeline.messages import Malformed, Result, Tier
from pipeline.mqtt import Connection
from pipeline.privacy.gate import clear_capture
from pipeline.privacy.policy import Policy
from pipeline.privacy.seal import Keyring
from pipeline.settings import Settings
from pipeline.topics import Parsed

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Barrier

GOAL: Final = 0.8

FRAMES: Final = 300
PARTS_S: Final = 5.0
"""How long the parts are measured, before and after."""

DEVICES: Final = 4
"""Cameras: more than a device agent's workers, so that all of them have something to do."""
DISTINCT: Final = 40
"""Frames of a camera before they come again: a cat that walks through the picture."""
WARM: Final = 3
"""Frames of a camera that are not counted: models, connections and caches are cold."""

UNFINISHED: Final = 64
"""Frames under way at once: enough to keep every tier busy, few enough that none waits for long."""

READY_WITHIN_S: Final = 60.0
SILENT_S: Final = 30.0
"""With no answer for so long, something is broken."""

SITE: Final = "bench"
SETTINGS: Final = """\
site = "{site}"
[mqtt]
port = {mqtt}
[kafka]
port = {kafka}
[http]
{http}
[device]
sighting_gap_s = 0.001  # each frame is a sighting of its own
still_s = 0.001         # and looked at, however little moves
edge_deadline_s = 600   # a frame that waits its turn is not late
[edge]
cloud_deadline_s = 600
{streams}
"""
STREAM: Final = """\
[streams."{device}/garden"]
wants = "species"
pixels = "edge-private"
feature = "public"
result = "public"
"""


def run(frames: int = FRAMES, parts_s: float = PARTS_S) -> dict[str, Any]:
    """Measure parts, road, parts.

    Parameters
    ----------
    frames
        How many go over the road.
    parts_s
        How long the parts are measured, each time.

    Returns
    -------
    dict
        ``{"frames", "cameras", "cores", "road_per_s", "parts_per_s": [before, after], "parts_ms": {tier: median of one
        answer}, "answered": {tier: frames}, "ratio", "goal"}``

    Raises
    ------
    Stop
        The photos are not installed, the system did not start, or stopped to answer.
    """
    with tempfile.TemporaryDirectory(prefix="tierwise-bench-") as folder:
        file = write_settings(Path(folder))
        settings = Settings.load(file, {})
        before = measure_parts(settings, parts_s)
        road = measure_road(settings, file, frames)
        after = measure_parts(settings, parts_s)
    rates = [before.per_s, after.per_s]
    return {
        "frames": frames,
        "cameras": DEVICES,
        "cores": os.cpu_count(),
        "road_per_s": round(road.per_s, 1),
        "parts_per_s": [round(rate, 1) for rate in rates],
        "parts_ms": {tier: round(ms, 2) for tier, ms in (before + after).median_ms().items()},
        "answered": road.answered,
        "ratio": round(road.per_s / statistics.mean(rates), 2),
        "goal": GOAL,
    }


def write_settings(folder: Path) -> Path:
    """A site of its own, on free ports."""
    file = folder / "tierwise.toml"
    with socket.socket() as one, socket.socket() as other:
        for free in (one, other):
            free.bind(("127.0.0.1", 0))
        mqtt, kafka = one.getsockname()[1], other.getsockname()[1]
    text = SETTINGS.format(
        site=SITE,
        mqtt=mqtt,
        kafka=kafka,
        http="\n".join(f"{role} = 0" for role in ROLE_NAMES),
        streams="\n".join(STREAM.format(device=device) for device in devices()),
    )
    file.write_text(text, "utf-8")
    return file


def devices() -> list[str]:
    return [f"cam{number}" for number in range(1, DEVICES + 1)]


def pictures(device: int) -> list[bytes]:
    """JPEGs of one camera; each camera sees other moments of the same walk."""
    return list(jpegs(SCENES[0], DISTINCT, start=device * DISTINCT))


# --- the parts -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Parts:
    """What the answers took, in milliseconds by tier, and how many frames a second all processes answered."""

    per_s: float = 0.0
    ms: dict[str, list[float]] = field(default_factory=dict)

    def __add__(self, other: Parts) -> Parts:
        tiers = (*self.ms, *other.ms)
        return Parts(
            self.per_s + other.per_s,
            {tier: self.ms.get(tier, []) + other.ms.get(tier, []) for tier in tiers},
        )

    def median_ms(self) -> dict[str, float]:
        return {tier: statistics.median(taken) for tier, taken in self.ms.items() if taken}


def measure_parts(settings: Settings, seconds: float) -> Parts:
    """Answer frames in a process a core, all at once."""
    cores = os.cpu_count() or 1
    spawn = multiprocessing.get_context("spawn")
    start, found = spawn.Barrier(cores), spawn.Queue()
    workers = [
        spawn.Process(target=answer_for, args=(settings, number % DEVICES, seconds, start, found))
        for number in range(cores)
    ]
    for worker in workers:
        worker.start()
    try:
        return sum((found.get(timeout=READY_WITHIN_S + seconds) for _ in workers), Parts())
    except queue.Empty:
        raise Stop("the models do not answer: run `tierwise classify` on a photo to see why") from None
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def answer_for(settings: Settings, device: int, seconds: float, start: Barrier, found: Queue[Parts]) -> None:
    """One process: answer one camera's frames, over and over, for so long; all processes start together."""
    chain = Chain(settings, device)
    frames = itertools.cycle(pictures(device))
    for data in itertools.islice(frames, WARM):
        chain.answer(data)
    parts = Parts(ms={tier.value: [] for tier in Tier})
    start.wait(READY_WITHIN_S)
    count, began_s = 0, time.perf_counter()
    while (took_s := time.perf_counter() - began_s) < seconds:
        for tier, ms in chain.answer(next(frames)).items():
            parts.ms[tier].append(ms)
        count += 1
    parts.per_s = count / took_s
    found.put(parts)


class Chain:
    """The tiers' classes in a row, for one camera."""

    def __init__(self, settings: Settings, device: int) -> None:
        zoo, tree, policy = load_zoo(), load_taxonomy(), Policy(settings)
        edge_eye = zoo.edge_eye()
        self._frames = Frames(settings, policy, tree, zoo.device_eye(), Keyring(), lambda: edge_eye)
        self._families = Families(policy, tree, edge_eye, Keyring(), ())
        self._cloud_eye = zoo.cloud_eye()
        self._tree = tree
        self._origin = Parsed(SITE, devices()[device], "frame", "garden")
        self._now = SystemClock().now
        self._visit: Visit | None = None
        self._scene = Scene()

    def answer(self, data: bytes) -> dict[str, float]:
        """Answer one frame as far as it may go; milliseconds by tier."""
        now_s = self._now()
        moments = [time.perf_counter()]
        device = self._frames.answer(
            ids.event_id(now_s),
            self._origin,
            data,
            received_s=now_s,
            now=self._now,
            order=(1, 1),
            visit=self._visit,
            scene=self._scene,
        )
        self._visit, self._scene = device.visit, device.scene
        moments.append(time.perf_counter())
        if device.event.body is not None:
            edge = self._families.answer(device.event, revision=2, asked=None, now=self._now)
            moments.append(time.perf_counter())
            if edge.feature is not None:
                species_answer(self._cloud_eye, self._tree, edge.feature, now_s, self._now)
                moments.append(time.perf_counter())
        took = (1000 * (later - earlier) for earlier, later in itertools.pairwise(moments))
        return dict(zip((tier.value for tier in Tier), took, strict=False))


# --- the road --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Road:
    """What came through."""

    per_s: float
    answered: dict[str, int]


def measure_road(settings: Settings, file: Path, frames: int) -> Road:
    """Start the system, publish, and wait for the last answer about the last frame."""
    supervisor = Supervisor(settings, file, plan(settings, file), lambda _: None)
    supervisor.start()
    try:
        if not supervisor.wait_ready(READY_WITHIN_S):
            raise Stop(f"the system was not ready within {READY_WITHIN_S:.0f} s: run `tierwise doctor`")
        answers = [topic for tier in Tier for topic in topics.answers_of(SITE, "+", tier)]
        with at_site(settings, "bench", answers) as (connection, inbox):
            published = stream_of_frames()
            traffic = Traffic(connection, inbox)
            traffic.send(itertools.islice(published, WARM * DEVICES))
            traffic.answered.clear()
            began_s = time.perf_counter()
            traffic.send(itertools.islice(published, frames))
            return Road(frames / (time.perf_counter() - began_s), dict(traffic.answered))
    finally:
        supervisor.stop()


def stream_of_frames() -> Iterator[tuple[str, bytes]]:
    """Topic and JPEG, camera by camera in turns, without an end."""
    cameras = [
        (topics.frame(SITE, device, "garden"), itertools.cycle(pictures(number)))
        for number, device in enumerate(devices())
    ]
    while True:
        for topic, frames in cameras:
            yield topic, next(frames)


class Traffic:
    """Publishes frames, with at most `UNFINISHED` of them under way."""

    def __init__(self, connection: Connection, inbox: Inbox) -> None:
        self._connection = connection
        self._inbox = inbox
        self._finished: set[str] = set()
        self._sent = 0
        self.answered: Counter[str] = Counter()

    def send(self, frames: Iterator[tuple[str, bytes]]) -> None:
        """Publish all of these; comes back when each had its last answer."""
        for topic, jpeg in frames:
            while self._sent - len(self._finished) >= UNFINISHED:
                self._listen()
            self._connection.wait_writable(SILENT_S)
            self._connection.publish(clear_capture(topic, jpeg))
            self._sent += 1
        while len(self._finished) < self._sent:
            self._listen()

    def _listen(self) -> None:
        heard = self._inbox.take(SILENT_S)
        if not heard:
            raise Stop(
                f"no answer for {SILENT_S:.0f} s, {self._sent - len(self._finished)} frames are under way"
            )
        for result in results(message.payload for message in heard):
            self.answered[result.tier.value] += 1
            if result.pending is None:
                self._finished.add(result.event)


def results(payloads: Iterator[bytes] | Sequence[bytes]) -> Iterator[Result]:
    """Those that are answers."""
    for payload in payloads:
        try:
            yield messages.decode(Result, payload)
        except Malformed:
            continue
