"""The cost of transport: frames through the running system, against the same answers in one process.

The running system (`road` in the report): `tierwise up` in a temporary folder, frames published over MQTT, answered by
device, edge and cloud, with every commit, acknowledgement, broker and router in between. Each frame is a sighting of
its own, so that each asks the cloud.

Its parts: the functions that the roles run, called in a row on the same frames, in as many processes as there are
cores. Nothing is stored or sent, so the machine would answer so many frames if transport cost nothing. The parts are
measured before and after the running system, and the mean counts, since a machine's speed varies.

The ratio is the system's frames per second to the parts'. The goal is 80%: commits, brokers, router and gateway
together may take a fifth of the machine. On a machine with other work, more processes get more of it. There the ratio
of CPU times (the parts' to the whole system's, a frame) shows the same without the time spent waiting.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import statistics
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agents.bench.meadow import DEVICES, SITE, WARM, devices, pictures, write_settings
from agents.bench.parts import Parts, measure_parts
from agents.client.site_client import SiteClient, connect
from agents.up.plan import plan
from agents.up.supervisor import Supervisor
from pipeline import ids, messages, topics
from pipeline.errors import Stop
from pipeline.messages import Malformed, Result, Tier
from pipeline.privacy.gate import clear_capture
from pipeline.settings.settings import Settings

GOAL: Final = 0.8

FRAMES: Final = 300
PARTS_S: Final = 5.0
"""Time for which the parts are measured, before and after."""
READY_WITHIN_S: Final = 60.0
SILENT_S: Final = 30.0
"""After so long without an answer the benchmark gives up."""


def run(frames: int = FRAMES, parts_s: float = PARTS_S) -> dict[str, Any]:
    """Measure parts, the running system, then parts again.

    Parameters
    ----------
    frames
        How many frames the running system answers.
    parts_s
        How long the parts are measured, each time.

    Returns
    -------
    dict
        ``{"frames", "cameras", "cores", "road_per_s", "parts_per_s": [before, after], "parts_ms": {tier: median of one
        answer}, "cpu_ms_per_frame": {"road", "parts"}, "answered": {tier: frames}, "ratio", "cpu_ratio", "goal"}``; the
        CPU times are None where there is no ``/proc``

    Raises
    ------
    Stop
        The photos are not installed, or the system did not start or stopped answering.
    """
    with tempfile.TemporaryDirectory(prefix="tierwise-bench-") as folder:
        file = write_settings(Path(folder))
        settings = Settings.load(file, {})
        before = measure_parts(settings, parts_s)
        system = measure_system(settings, file, frames)
        after = measure_parts(settings, parts_s)
    rates = [before.per_s, after.per_s]
    parts_cpu_ms = statistics.mean((before.cpu_ms, after.cpu_ms))
    return {
        "frames": frames,
        "cameras": DEVICES,
        "cores": os.cpu_count(),
        "road_per_s": round(system.per_s, 1),
        "parts_per_s": [round(rate, 1) for rate in rates],
        "parts_ms": {tier: round(ms, 2) for tier, ms in Parts.together([before, after]).median_ms().items()},
        "cpu_ms_per_frame": {"road": _rounded(system.cpu_ms, 1), "parts": round(parts_cpu_ms, 1)},
        "answered": system.answered,
        "ratio": round(system.per_s / statistics.mean(rates), 2),
        "cpu_ratio": _rounded(parts_cpu_ms / system.cpu_ms if system.cpu_ms else None, 2),
        "goal": GOAL,
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


# --- the running system ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SystemFigures:
    """The running system's speed, CPU time a frame, and frames answered by tier."""

    per_s: float
    cpu_ms: float | None
    """CPU time of all processes of the system together for a frame."""
    answered: dict[str, int]


def measure_system(settings: Settings, file: Path, frames: int) -> SystemFigures:
    """Start the system, publish, and wait for the last answer about the last frame."""
    supervisor = Supervisor(settings, file, plan(settings, file), lambda _: None)
    try:
        supervisor.start()
        if not supervisor.wait_ready(READY_WITHIN_S):
            raise Stop(f"the system was not ready within {READY_WITHIN_S:.0f} s: run `tierwise doctor`")
        answers = [topic for tier in Tier for topic in topics.answers_of(SITE, "+", tier)]
        with connect(settings, "bench", answers) as site:
            published = stream_of_frames()
            traffic = Traffic(site)
            traffic.send(itertools.islice(published, WARM * DEVICES))
            traffic.answered()
            began_s, began_cpu_s = time.perf_counter(), children_cpu_s()
            traffic.send(itertools.islice(published, frames))
            took_s, cpu_s = time.perf_counter() - began_s, children_cpu_s()
        cpu_ms = None if cpu_s is None or began_cpu_s is None else 1000 * (cpu_s - began_cpu_s) / frames
        return SystemFigures(frames / took_s, cpu_ms, traffic.answered())
    finally:
        supervisor.stop()


def children_cpu_s() -> float | None:
    """Return the CPU seconds of this process's children so far, or None without ``/proc``."""
    if not Path("/proc/self/stat").exists():
        return None
    ticks = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = file.read_text().rpartition(")")[2].split()  # proc_pid_stat(5), from its third field on
            if int(fields[1]) == os.getpid():
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def stream_of_frames() -> Iterator[tuple[str, bytes]]:
    """Yield topic and JPEG, camera by camera in turns, without an end."""
    cameras = [
        (topics.frame(SITE, device, "garden"), itertools.cycle(pictures(number)))
        for number, device in enumerate(devices())
    ]
    while True:
        for topic, frames in cameras:
            yield topic, ids.in_jpeg(next(frames), str(uuid.uuid4()))


class Traffic:
    """Publishes frames, of which at most `DEVICES` are unanswered at a time."""

    def __init__(self, site: SiteClient) -> None:
        self._site = site
        self._finished: set[str] = set()
        self._sent = 0
        self._answered: set[tuple[Tier, str]] = set()

    def answered(self) -> dict[str, int]:
        """Return how many frames each tier answered since the last call."""
        counts = Counter(tier.value for tier, _ in self._answered)
        self._answered.clear()
        return dict(counts)

    def send(self, frames: Iterator[tuple[str, bytes]]) -> None:
        """Publish all of these, and return when each has its last answer."""
        for topic, jpeg in frames:
            while self._sent - len(self._finished) >= DEVICES:
                self._listen()
            self._site.publish(clear_capture(topic, jpeg))
            self._sent += 1
        while len(self._finished) < self._sent:
            self._listen()

    def _listen(self) -> None:
        received = self._site.take(SILENT_S)
        if not received:
            raise Stop(f"no answer for {SILENT_S:.0f} s, {self._sent - len(self._finished)} frames are unanswered")
        for result in results(message.payload for message in received):
            self._answered.add((result.tier, result.event))
            if result.pending is None:
                self._finished.add(result.event)


def results(payloads: Iterator[bytes] | Sequence[bytes]) -> Iterator[Result]:
    """Yield the payloads that are answers."""
    for payload in payloads:
        try:
            yield messages.decode(Result, payload)
        except Malformed:
            continue
