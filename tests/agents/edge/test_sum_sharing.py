"""What a site tells of what it learned: sums of many edge-private visits, each once, and nothing else whatever is
planted."""

from __future__ import annotations

import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sample_learning import NOW_S, PATHS, PRIVATE, TREE, SampleLearning, feature, general, vector
from sample_messages import result

from agents.edge.learning_store import ShareableLesson
from agents.edge.store import DAY_S, UPLINK, Context
from agents.edge.sum_sharing import SumSharing, fitting, together
from agents.gateway.agent import check_site
from agents.role import outbox
from pipeline import messages, topics
from pipeline.messages import (
    UPLINK_MAX_BYTES,
    Envelope,
    Kind,
    Levels,
    Privacy,
    Rank,
    SumIncrement,
    Tier,
    UplinkBatch,
)
from pipeline.privacy import gate
from pipeline.privacy.sums_rule import DIMENSION, LARGEST_BYTES, LEAST_EVENTS
from pipeline.records import to_record
from pipeline.settings.settings import EdgeSettings
from pipeline.spool import Transaction
from pipeline.stream.router import route
from pipeline.sums.packing import unpack
from pipeline.sums.sums import Sums

SPACE = "space"
PUBLIC = Levels(Privacy.EDGE_PRIVATE, Privacy.PUBLIC, Privacy.PUBLIC)
SECRET = Levels()
"""Of a stream that nobody named: its feature is user-private."""


class Site(SampleLearning):
    """A site that shares its sums, with vectors as long as the released ones."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, general(dimension=DIMENSION))
        self.learning.open()
        self.sharing = SumSharing("home", self.store, self.clock)
        self.vectors: dict[str, np.ndarray] = {}

    def seen(self, name: str, at: int, levels: Levels = PRIVATE, visit: str = "") -> None:
        data = vector(at, len(self.vectors), DIMENSION)
        self.vectors[name] = data
        self.label(feature(name, data.tobytes(), levels, visit), PATHS[at])
        self.learning.work()

    def share(self) -> SumIncrement | None:
        return self.sharing.share(SPACE, TREE)

    def taken(self) -> list[Envelope]:
        records = self.spool.outgoing(UPLINK, 100, self.clock.now())
        self.spool.settle(UPLINK, [record.id for record in records])
        return [outbox.opened_as(Envelope, record) for record in records]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_nobody_shares_sums_without_having_said_so() -> None:
    assert EdgeSettings().share_sums is False


@pytest.mark.slow
def test_twenty_visits_of_a_label_are_told_once_and_as_they_were(site: Site) -> None:
    for number in range(LEAST_EVENTS - 1):
        site.seen(f"e{number}", 0)
    assert site.share() is None
    site.seen("last", 0)
    for number in range(5):
        site.seen(f"other{number}", 2)
    refused = {lesson.event for lesson in site.store.learning.lessons(SPACE) if lesson.rule == "refused"}
    assert not refused
    increment = site.share()
    assert increment is not None
    assert (increment.number, increment.counts) == (1, (("Felidae", LEAST_EVENTS),))
    mine = np.stack([data for name, data in site.vectors.items() if not name.startswith("other")])
    expected = Sums.empty(SPACE, DIMENSION, ("Felidae",)).add(mine, np.zeros(len(mine), np.int64))
    assert unpack(increment.sums, DIMENSION).snapshot() == expected.snapshot()
    site.spool.close()


@pytest.mark.slow
def test_an_increment_passes_gate_gateway_and_router_and_fits_a_batch(site: Site) -> None:
    for number in range(LEAST_EVENTS):
        site.seen(f"e{number}", 0)
    site.share()
    (up,) = site.taken()
    batch = UplinkBatch(site="home", envelopes=(up,))
    cleared = gate.clear(batch, topics.uplink("home"), to=Tier.CLOUD)
    assert len(cleared.payload) <= UPLINK_MAX_BYTES
    check_site(up, "home", "home")
    assert route(to_record(up).headers).topic == topics.SUMS
    assert gate.clear_record(up).key == b"home/sums-1"
    assert (up.kind, up.privacy) == (Kind.SUM, Privacy.PUBLIC)
    site.spool.close()


@pytest.mark.slow
def test_each_event_is_told_once_and_a_day_passes_between_two_increments(site: Site) -> None:
    for number in range(LEAST_EVENTS):
        site.seen(f"e{number}", 0)
    assert site.share() is not None
    for number in range(LEAST_EVENTS):
        site.seen(f"more{number}", 0)
    assert site.share() is None, "not twice a day"
    site.clock.turn(DAY_S)
    second = site.share()
    assert second is not None
    assert (second.number, second.counts) == (2, (("Felidae", LEAST_EVENTS),))
    site.clock.turn(DAY_S)
    assert site.share() is None, "nothing is told a second time"
    # Taken back and said again, an event is the same event.
    site.label(feature("e1", site.vectors["e1"].tobytes()), (), 2)
    site.label(feature("e1", site.vectors["e1"].tobytes()), PATHS[0], 3)
    site.learning.work()
    with site.spool.transaction() as tx:
        assert site.store.learning.shareable(SPACE, tx) == []
    site.spool.close()


def test_of_a_visit_one_event_counts() -> None:
    rows = [ShareableLesson(f"e{n}", f"v{n // 3}", PATHS[0], b"") for n in range(3 * LEAST_EVENTS)]
    assert [lesson.event for lesson in together(rows)] == [f"e{3 * n}" for n in range(LEAST_EVENTS)]
    assert together(rows[:-3]) == []


@pytest.mark.slow
def test_what_is_too_large_for_one_increment_waits_for_the_next() -> None:
    rng = np.random.default_rng(0)
    chosen = [
        ShareableLesson(f"e{label}-{n}", f"v{label}-{n}", ("animal", f"F{label}"), rng.integers(0, 256, DIMENSION).astype(np.uint8).tobytes())
        for label in range(120)
        for n in range(LEAST_EVENTS + label % 2)
    ]  # fmt: skip
    sums, kept = fitting(SPACE, chosen)
    assert 0 < len(kept) < len(chosen)
    assert sums.events == len(kept)
    assert min(Counter(lesson.path[-1] for lesson in kept).values()) >= LEAST_EVENTS
    assert LARGEST_BYTES < UPLINK_MAX_BYTES


LEVELS = {"public": PUBLIC, "edge": PRIVATE, "secret": SECRET}


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(LEVELS)), st.sampled_from([0, 0, 0, 1])), min_size=20, max_size=60))
def test_whatever_is_planted_only_sums_of_many_edge_private_events_leave(
    tmp_path_factory: pytest.TempPathFactory, planted: list[tuple[str, int]]
) -> None:
    site = Site(tmp_path_factory.mktemp("site"))
    for number, (level, at) in enumerate(planted):
        site.seen(f"{level}-{number}", at, LEVELS[level])
    increment = site.share()
    may = [
        (lesson.event, lesson.path[-1])
        for lesson in site.store.learning.lessons(SPACE)
        if lesson.rule != "refused" and lesson.event.startswith("edge-")
    ]
    by_label = Counter(label for _, label in may)
    many = sorted(label for label, count in by_label.items() if count >= LEAST_EVENTS)
    ups = site.taken()
    # Nothing that is user-private was ever learned from.
    kept = {lesson.event.split("-")[0] for lesson in site.store.learning.lessons(SPACE)}
    assert "secret" not in kept
    if not many:
        assert (increment, ups) == (None, [])
    else:
        assert increment is not None
        assert increment.counts == tuple((label, by_label[label]) for label in many)
        chosen = [(event, label) for event, label in may if label in many]
        expected = Sums.empty(SPACE, DIMENSION, many).add(
            np.stack([site.vectors[event] for event, _ in chosen]),
            np.array([many.index(label) for _, label in chosen]),
        )
        assert unpack(increment.sums, DIMENSION).snapshot() == expected.snapshot()
        (up,) = ups
        gate.clear_record(up)
        packed = zlib.decompress(messages.decode(SumIncrement, up.payload).sums)
        for name, data in site.vectors.items():
            assert data.tobytes()[:48] not in up.payload + packed, name
    site.spool.close()


@pytest.mark.slow
@pytest.mark.parametrize("levels", [SECRET, replace(PRIVATE, result=Privacy.USER_PRIVATE)])
def test_an_event_whose_level_rose_a_moment_ago_is_left_out(site: Site, levels: Levels) -> None:
    for number in range(LEAST_EVENTS):
        site.seen(f"e{number}", 0)
    with site.spool.transaction() as tx:
        site.store.labels.drop_feature("e0", tx)
        _answered(site, "e0", levels, tx)
    assert site.share() is None
    site.spool.close()


def _answered(site: Site, event: str, levels: Levels, tx: Transaction) -> None:
    site.store.keep(result(event), Context(NOW_S, levels, Rank.SPECIES), tx)
