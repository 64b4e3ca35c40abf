"""Work in turns, in this process or in several that each open their own models."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

import cv2

from pipeline.errors import Stop

T = TypeVar("T")
R = TypeVar("R")

ITEMS_A_PROCESS = 64
"""A further process has to load all models (1.5 s, 130 MB): worth it from so many photos on."""

ITEMS_A_TURN = 16
"""Number of photos that a process gets at once: few, so that the progress moves."""


TURNS_AHEAD = 4
"""Turns of each process that wait: enough to keep it at work where another's turn takes long."""


def in_turns(items: Sequence[T]) -> list[Sequence[T]]:
    """Cut a sequence into turns of `ITEMS_A_TURN`."""
    return [items[at : at + ITEMS_A_TURN] for at in range(0, len(items), ITEMS_A_TURN)]


def process_count(workers: int | None, items: int, turns: int) -> int:
    """Return how many processes to use: `workers`, otherwise as many as are worth their start, at most one a turn."""
    worth = min(os.cpu_count() or 1, max(1, items // ITEMS_A_PROCESS))
    return min(workers or worth, turns)


def work_through(turns: Sequence[T], opener: Callable[[], Callable[[T], R]], count: int) -> Generator[R, None, None]:
    """Yield each turn's outcome, in order. `opener` opens the worker, in each process anew; it has to be picklable.

    Raises
    ------
    Stop
        A process was killed.
    """
    if count <= 1:
        yield from map(opener(), turns)
        return
    # Spawned, not forked: ONNX Runtime's and OpenCV's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(count, context, _open, (opener,)) as pool:
            others = set(multiprocessing.active_children())
            try:
                ahead = iter(turns)
                with _ctrl_c_ignored():  # the processes inherit it: this one ends them
                    waiting = deque(pool.submit(_work, turn) for turn in islice(ahead, TURNS_AHEAD * count))
                while waiting:
                    outcome = waiting.popleft().result()
                    waiting.extend(pool.submit(_work, turn) for turn in islice(ahead, 1))
                    yield outcome
            except BaseException:
                # Not cancelled: the pool's own thread would fail on futures that are. The work is not waited for.
                for process in set(multiprocessing.active_children()) - others:
                    process.terminate()
                raise
    except BrokenProcessPool as error:
        raise Stop(f"one of {count} processes was killed, perhaps for memory: try --workers 1") from error


@contextlib.contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread may change it
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_worker: list[Callable[[Any], Any]] = []
"""The one worker of a process of the pool."""


def _open(opener: Callable[[], Callable[[Any], Any]]) -> None:
    cv2.setNumThreads(0)
    _worker.append(opener())


def _work(turn: Any) -> Any:
    return _worker[0](turn)
