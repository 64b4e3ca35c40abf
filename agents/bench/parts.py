"""The tiers without brokers between them: `models.answering.tier_chain` on the frames that the running system gets.

Nothing is stored or sent, so this is what the machine could answer if brokers, commits and acknowledgements cost
nothing.
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
from models.answering.tier_chain import ChainAnswer, TierChain
from pipeline.errors import Stop
from pipeline.messages import Tier
from pipeline.settings.settings import Settings
from pipeline.topics import Parsed

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Barrier

LOADED_WITHIN_S: Final = 60.0


@dataclass(slots=True)
class Parts:
    """One process's frames a second, CPU time a frame, and milliseconds of each answer by tier."""

    per_s: float = 0.0
    cpu_ms: float = 0.0
    ms: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def together(cls, parts: Sequence[Parts]) -> Parts:
        """Combine processes that ran at once."""
        ms = {tier.value: [ms for each in parts for ms in each.ms.get(tier, ())] for tier in Tier}
        return cls(sum(each.per_s for each in parts), statistics.mean(each.cpu_ms for each in parts), ms)

    def median_ms(self) -> dict[str, float]:
        """Return the median milliseconds of an answer by tier."""
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
    """Answer one camera's frames, over and over, for so long; all processes start together."""
    chain, origin = TierChain.open(settings), camera(device)
    frames = itertools.cycle(pictures(device))
    answer: ChainAnswer | None = None
    for data in itertools.islice(frames, WARM):
        answer = chain.answer(data, origin, before=answer)
    parts = Parts(ms={tier.value: [] for tier in Tier})
    start.wait(LOADED_WITHIN_S)
    count, began_s, began_cpu_s = 0, time.perf_counter(), time.process_time()
    while (took_s := time.perf_counter() - began_s) < seconds:
        answer = chain.answer(next(frames), origin, before=answer)
        for tier, ms in answer.ms.items():
            parts.ms[tier].append(ms)
        count += 1
    parts.per_s, parts.cpu_ms = count / took_s, 1000 * (time.process_time() - began_cpu_s) / count
    found.put(parts)


def camera(device: int) -> Parsed:
    """Return the topic of a device's frames."""
    return Parsed(SITE, devices()[device], "frame", "garden")
