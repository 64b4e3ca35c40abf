"""The loops of device and edge: each batch is answered, time goes on although the store is busy, and all of them
end."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from sample_messages import NOW_S, event_id, result

from agents.role.spool_loops import SpoolLoops, past_deadline
from agents.role.telemetry import Metrics
from pipeline.clock import HandClock
from pipeline.errors import Rejected, Retry, Withheld
from pipeline.messages import Tier
from pipeline.spool import Arrival, Item, Outgoing, Spool

PATIENCE_S = 20


class Sample:
    """Loops over an empty spool."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.metrics, self.stop = HandClock(NOW_S), Metrics(), threading.Event()
        self.spool = Spool.open(folder / "spool.db", limit_bytes=1 << 26)
        self.loops = SpoolLoops(self.spool, self.clock, self.metrics, self.stop)


@pytest.fixture
def sample(tmp_path: Path) -> Iterator[Sample]:
    sample = Sample(tmp_path)
    yield sample
    sample.stop.set()
    sample.spool.arrivals.ring()
    sample.loops.join(PATIENCE_S)
    sample.spool.close()


def test_records_are_answered_whenever_they_arrive(sample: Sample) -> None:
    answered, done = [], threading.Event()

    def answer(items: Sequence[Item]) -> None:
        for item in items:
            with sample.spool.transaction() as tx:
                tx.finish(item)
            answered.append(item.payload)
            done.set()

    sample.loops.start("answer", partial(sample.loops.answer, answer))
    for payload in (b"first", b"second"):
        done.clear()
        sample.spool.receive([Arrival("topic", payload, NOW_S)], link="")
        assert done.wait(PATIENCE_S)
    assert answered == [b"first", b"second"]


def test_a_loop_that_is_busy_holds_up_no_loop_over_other_topics(sample: Sample) -> None:
    answered, held = threading.Event(), threading.Event()
    slow = partial(sample.loops.answer, lambda items: held.wait() if items else None, wanted=lambda topic: topic == "a")
    fast = partial(
        sample.loops.answer, lambda items: answered.set() if items else None, wanted=lambda topic: topic == "b"
    )
    for name, loop in (("slow", slow), ("fast", fast)):
        sample.loops.start(name, loop)
    sample.spool.receive([Arrival("a", b"%d" % n, NOW_S) for n in range(50)], link="")
    sample.spool.receive([Arrival("b", b"", NOW_S)], link="")
    assert answered.wait(PATIENCE_S)
    held.set()


def test_nothing_is_taken_while_there_is_no_room(sample: Sample) -> None:
    asked = threading.Event()

    def has_room() -> bool:
        asked.set()
        sample.stop.wait(0.01)
        return False

    sample.spool.receive([Arrival("topic", b"", NOW_S)], link="")
    sample.loops.start("answer", partial(sample.loops.answer, lambda _: pytest.fail("taken"), has_room))
    assert asked.wait(PATIENCE_S)
    assert len(sample.spool.waiting(1)) == 1


def test_a_busy_store_delays_a_tick_and_the_tidying_and_ends_neither(sample: Sample) -> None:
    ticks, tidied = [], threading.Event()

    def tick(now_s: float) -> None:
        ticks.append(now_s)
        if len(ticks) == 1:
            raise Retry("busy")

    sample.loops.start("tick", partial(sample.loops.tick, tick, lambda _: tidied.set()))
    assert tidied.wait(PATIENCE_S)
    assert ticks[:2] == [NOW_S, NOW_S]


@pytest.mark.parametrize(("error", "withheld"), [(Withheld("private"), 1.0), (Rejected("outdated", "old"), 0.0)])
def test_a_record_that_may_not_leave_is_counted(sample: Sample, error: Rejected, withheld: float) -> None:
    sample.loops._refused(Outgoing(id="id", hop="site", topic="topic", payload=b"", created_at=NOW_S), error)
    assert sample.metrics.value("tierwise_withheld_total") == withheld
    assert sample.metrics.value("tierwise_refused_total", reason=error.reason) == 1.0


def test_a_missed_deadline_is_the_next_revision_and_awaits_nothing() -> None:
    late = past_deadline(result(event_id(), pending=Tier.CLOUD, revision=2), Tier.CLOUD, 5)
    assert (late.revision, late.pending, late.rule) == (3, None, "deadline")
    assert late.reason == "cloud out of reach for 5 s; a later answer supersedes"
