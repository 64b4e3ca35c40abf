"""The parts of the road, with no road between: the classes that the roles run, called in a row on the same frames.

Nothing is stored or sent, so this is what the machine could answer if brokers, commits and acknowledgements cost nothing.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import queue
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from agents.bench.meadow import DEVICES, SITE, WARM, devices, pictures
from models.answering.cloud import species_answer
from models.answering.device import Frames
from models.answering.edge import Families
from models.answering.frame_gate import Scene
from models.answering.sightings import Visit
from models.answering.tier_eye import Fixed
from models.labels.taxonomy import load_taxonomy
from models.shipped import load_zoo
from pipeline import ids
from pipeline.clock import SystemClock
from pipeline.errors import Stop
from pipeline.messages import Tier
from pipeline.privacy.policy import Policy
from pipeline.privacy.seal import Keyring
from pipeline.settings.settings import Settings
from pipeline.topics import Parsed

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Barrier

LOADED_WITHIN_S: Final = 60.0


@dataclass(slots=True)
class Parts:
    """What one process answered: frames a second, CPU time a frame, and milliseconds of each answer by tier."""

    per_s: float = 0.0
    cpu_ms: float = 0.0
    ms: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def together(cls, parts: Sequence[Parts]) -> Parts:
        """Of processes that ran at once."""
        ms = {tier.value: [one for each in parts for one in each.ms.get(tier, ())] for tier in Tier}
        return cls(sum(each.per_s for each in parts), statistics.mean(each.cpu_ms for each in parts), ms)

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
        return Parts.together([found.get(timeout=LOADED_WITHIN_S + seconds) for _ in workers])
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
    start.wait(LOADED_WITHIN_S)
    count, began_s, began_cpu_s = 0, time.perf_counter(), time.process_time()
    while (took_s := time.perf_counter() - began_s) < seconds:
        for tier, ms in chain.answer(next(frames)).items():
            parts.ms[tier].append(ms)
        count += 1
    parts.per_s, parts.cpu_ms = count / took_s, 1000 * (time.process_time() - began_cpu_s) / count
    found.put(parts)


class Chain:
    """The tiers' classes in a row, for one camera."""

    def __init__(self, settings: Settings, device: int) -> None:
        zoo, tree, policy = load_zoo(), load_taxonomy(), Policy(settings)
        edge_eye = zoo.edge_eye()
        self._frames = Frames(settings, policy, tree, zoo.device_eye(), Keyring(), lambda: edge_eye)
        self._families = Families(policy, Fixed(edge_eye), Keyring(), ())
        self._cloud = Fixed(zoo.cloud_eye())
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
                species_answer(self._cloud, edge.feature, now_s, self._now)
                moments.append(time.perf_counter())
        took = (1000 * (later - earlier) for earlier, later in itertools.pairwise(moments))
        return dict(zip((tier.value for tier in Tier), took, strict=False))
