"""Work of one stream in its order, several streams side by side: a busy stream does not hold up the others.

>>> done = []
>>> with OrderedPool(workers=2, work=lambda lane, batch: done.extend(batch)) as lanes:
...     lanes.put("a", [1, 2])
...     lanes.put("a", [3])
>>> done
[1, 2, 3]
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class OrderedPool(Generic[T]):
    """Runs `work(lane, batch)` on shared workers: the batches of one lane in turn, in the order of `put`."""

    def __init__(self, workers: int, work: Callable[[str, Sequence[T]], None]) -> None:
        self._work = work
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="lane")
        self._waiting: dict[str, deque[Sequence[T]]] = {}
        """A lane stands here while one of its batches runs or waits."""
        self._batches = 0
        self._failure: BaseException | None = None
        self._closed = False
        self._changed = threading.Condition()

    def put(self, lane: str, batch: Sequence[T]) -> None:
        """Queue a batch behind those of its lane. After `close` it is dropped."""
        with self._changed:
            if self._closed:
                return
            self._batches += 1
            if lane in self._waiting:
                self._waiting[lane].append(batch)
                return
            self._waiting[lane] = deque()
            self._pool.submit(self._run, lane, batch)

    def wait_below(self, batches: int, timeout_s: float | None = None) -> bool:
        """Wait until fewer batches than this run or wait; return False at the timeout.

        Raises the error of a batch that failed. The pool cannot be used after that.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or self._batches < batches, timeout_s)
            if self._failure is not None:
                raise self._failure
            return self._batches < batches

    def close(self) -> None:
        """Wait for the running batches, and drop the waiting ones."""
        with self._changed:
            self._closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> OrderedPool[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait_below(1)
        self.close()

    def _run(self, lane: str, batch: Sequence[T]) -> None:
        try:
            self._work(lane, batch)
        except BaseException as error:  # `wait_below` raises it, on a thread that the role watches
            with self._changed:
                self._failure = self._failure or error
                self._changed.notify_all()
            return
        with self._changed:
            self._batches -= 1
            self._changed.notify_all()
            following = self._waiting[lane].popleft() if self._waiting[lane] else None
            if following is None:
                del self._waiting[lane]
        if following is not None:
            try:
                self._pool.submit(self._run, lane, following)
            except RuntimeError:
                return  # the pool was closed meanwhile
