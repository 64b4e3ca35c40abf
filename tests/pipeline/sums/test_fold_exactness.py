"""Streamed sums equal batch sums, bit for bit: random partitions, batches, kills, redeliveries, corrections,
forgetting."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from fold_samples import (
    DIMENSION,
    SPACE,
    Died,
    SmallTree,
    entry,
    increment,
    labelled,
    names,
    twin,
    vector,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pipeline.messages import Labelled, Vote
from pipeline.sums.fold import Fold, FoldRecord

PARTITIONS = 3
EVENTS = names(6, 2)
SOURCES = ("home/cam1/garden", "home/cam2/door", "barn/cam1/yard")
WORDS = st.tuples(
    st.integers(0, len(EVENTS) - 1),
    st.sampled_from(["ann", "bob", "eve"]),
    st.sampled_from(["cat", "fox", ""]),
)


class FoldMachine(RuleBasedStateMachine):
    """Logs of three partitions, a fold that reads them as it likes, and what the sums must be in the end."""

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.logs: list[list[FoldRecord]] = [[] for _ in range(PARTITIONS)]
        self.votes: dict[str, dict[str, str]] = {}
        self.revisions: dict[str, int] = {}
        self.last: dict[str, Labelled] = {}
        self.shared: dict[str, list[list[tuple[bytes, str]]]] = {}
        self.forgotten: set[tuple[str, str]] = set()
        self.tree = SmallTree()
        self.fold = self._opened()

    def _opened(self) -> Fold:
        return Fold(self.folder / "fold.db", SPACE, DIMENSION, self.tree)

    @rule(words=st.lists(WORDS, min_size=1, max_size=12))
    def people_say(self, words: Sequence[tuple[int, str, str]]) -> None:
        for at, by, said in words:
            self._say(at, by, said)

    def _say(self, at: int, by: str, said: str) -> None:
        event, source, log = EVENTS[at], SOURCES[at % len(SOURCES)], self.logs[at % PARTITIONS]
        votes = self.votes.setdefault(event, {})
        votes.pop(by, None)
        if said:
            votes[by] = said
        self.revisions[event] = self.revisions.get(event, 0) + 1
        words = (Vote(label, who) for who, label in votes.items())
        self.last[event] = labelled(event, *words, revision=self.revisions[event], source=source)
        log.append(entry(self.last[event], len(log), at % PARTITIONS))

    @rule(again=st.lists(st.tuples(st.integers(0, PARTITIONS - 1), st.integers(0, 20)), min_size=1, max_size=6))
    def older_words_come_again_behind_newer_ones(self, again: Sequence[tuple[int, int]]) -> None:
        for partition, at in again:
            log = self.logs[partition]
            if log:
                log.append(log[at % len(log)]._replace(offset=len(log)))

    @rule(site=st.sampled_from(["home", "barn"]), size=st.integers(1, 3))
    def a_site_tells_sums(self, site: str, size: int) -> None:
        shared = self.shared.setdefault(site, [])
        shared.append([(vector(f"{site}{len(shared)}{n}"), "cat") for n in range(size)])
        log = self.logs[0]
        log.append(FoldRecord("labelled", 0, len(log), increment(len(shared), shared[-1]), site))

    @rule(
        partition=st.integers(0, PARTITIONS - 1),
        back=st.integers(0, 8),
        size=st.integers(1, 20),
        lives=st.integers(-1, 8),
    )
    def it_reads(self, partition: int, back: int, size: int, lives: int) -> None:
        """From where it stands or before, as after a rebalance; and may die in the middle."""
        start = max(0, self.fold.next("labelled", partition) - back)
        self.tree.lives = lives
        try:
            self.fold.take(self.logs[partition][start : start + size])
        except Died:
            self.it_dies()
        self.tree.lives = -1

    @rule()
    def it_dies(self) -> None:
        self.fold.close()
        self.fold = self._opened()

    @rule(partition=st.integers(0, PARTITIONS - 1))
    def its_offset_is_lost(self, partition: int) -> None:
        self.fold.rewind("labelled", partition)

    @rule(what=st.sampled_from([("event", EVENTS[0]), ("device", "home/cam2"), ("site", "barn")]))
    def it_forgets(self, what: tuple[str, str]) -> None:
        self.forgotten.add(what)
        self.fold.forget(**dict([what]))

    def _counts(self, each: Labelled) -> bool:
        site, device, _ = each.source.split("/")
        names = {("event", each.event), ("device", f"{site}/{device}"), ("site", site)}
        return not names & self.forgotten

    @invariant()
    def what_was_read_to_its_end_equals_what_is_added_up_at_once(self) -> None:
        if not hasattr(self, "fold"):
            return
        if any(self.fold.next("labelled", n) < len(log) for n, log in enumerate(self.logs)):
            return
        shared = [each for site, some in self.shared.items() if ("site", site) not in self.forgotten for each in some]
        expected = twin((each for each in self.last.values() if self._counts(each)), shared)
        assert self.fold.snapshot().learned.snapshot() == expected.snapshot()

    def teardown(self) -> None:
        if hasattr(self, "fold"):
            for partition, log in enumerate(self.logs):
                self.fold.take(log[self.fold.next("labelled", partition) :])
            self.what_was_read_to_its_end_equals_what_is_added_up_at_once()
            self.fold.close()
            shutil.rmtree(self.folder)


TestFold = pytest.mark.slow(pytest.mark.slow(FoldMachine.TestCase))
TestFold.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
