"""Labels at the edge in any order, any number of times: a model of a few lines says what stands."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sample_edge import SampleEdge
from sample_labels import (
    CAT,
    WOLF,
    answer_of_cloud,
    cat,
    label,
)
from sample_messages import (
    NOW_S,
    event_id,
)

from agents.edge.label_rules import LABELLED, LabelledEvent, agreed
from pipeline import clock, messages
from pipeline.messages import (
    Kind,
    Label,
    Result,
    Vote,
)
from pipeline.privacy.seal import pseudonym

PERSONS = st.sampled_from(["ann", "ben", ""])
WORDS = st.sampled_from([None, "Felis catus", "Felidae", "Canis lupus", "other", "empty", "Felis cattus"])
NUMBERS = st.integers(1, 2)
PATHS = {
    "Felis catus": CAT,
    "Felidae": CAT[:2],
    "Canis lupus": WOLF,
    "other": ("other",),
    "empty": ("other",),
}


class Standing(RuleBasedStateMachine):
    """Persons label two events, in any order of times, again and again, while the cloud answers and time passes; a dict
    by event and person says what stands."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.edge = SampleEdge(Path(self._folder.name))
        self.notified: dict[str, LabelledEvent] = {}
        self.edge.labels.subscribe(lambda each: self.notified.__setitem__(each.event, each))
        self.edge.deliver(cat(1), cat(2))
        self.features = {up.event: up for up in self.edge.take_up()}
        self.published: dict[str, list[Result]] = {event_id(1): [], event_id(2): []}
        self.votes: dict[str, list[tuple[int, Vote]]] = {event_id(1): [], event_id(2): []}
        self.model: dict[tuple[str, str], tuple[int, str | None]] = {}
        self.sent: list[Label] = []
        self.collect()

    def teardown(self) -> None:
        self.edge.spool.close()
        self._folder.cleanup()

    def collect(self) -> None:
        for published in self.edge.take_results():
            self.published[published.event].append(published)
        for up in self.edge.take_up():
            if up.kind is Kind.LABEL:
                self.votes[up.event].append((up.revision, messages.decode(Vote, up.payload)))

    @rule(by=PERSONS, word=WORDS, number=NUMBERS, at=st.integers(0, 9))
    def somebody_labels(self, by: str, word: str | None, number: int, at: int) -> None:
        self._say(label(word, by=by, number=number, at_s=NOW_S - 60 + at))

    @rule(data=st.data())
    def a_label_comes_again(self, data: st.DataObject) -> None:
        if self.sent:
            self._say(data.draw(st.sampled_from(self.sent)))

    def _say(self, given: Label) -> None:
        self.sent.append(given)
        self.edge.label(given)
        self.collect()
        if given.label is None or given.label in PATHS:
            key, at = (given.event, given.by or "anonymous"), round(clock.seconds(given.time))
            if key not in self.model or at >= self.model[key][0]:
                self.model[key] = (at, PATHS[given.label][-1] if given.label else None)

    @rule(number=NUMBERS)
    def cloud_answers(self, number: int) -> None:
        if event_id(number) in self.features:
            self.edge.deliver_answers(answer_of_cloud(self.features[event_id(number)]))
            self.collect()

    @rule()
    def time_passes(self) -> None:
        self.edge.wait_for_early(0.5)
        for overdue in self.edge.store.overdue(self.edge.clock.now() + 1000, 0):
            self.edge.revisions.expire(overdue)
        self.collect()

    def standing(self, event_: str) -> dict[str, str]:
        return {by: word for (of, by), (_, word) in self.model.items() if of == event_ and word is not None}

    @invariant()
    def what_stands_is_what_the_model_says(self) -> None:
        for event_ in self.published:
            words = self.edge.store.labels.standing(event_)
            assert {word.by: word.label for word in words} == self.standing(event_)

    @invariant()
    def what_is_told_is_what_they_agree_on_or_the_models_answer(self) -> None:
        for event_, answers in self.published.items():
            path = agreed([PATHS[word] for word in self.standing(event_).values()])
            assert (answers[-1].rule == LABELLED) == bool(path)
            assert not path or answers[-1].path == path
            assert path or answers[-1].path[:2] == ("animal", "Felidae")

    @invariant()
    def revisions_strictly_increase(self) -> None:
        for answers in self.published.values():
            assert all(earlier.revision < other.revision for earlier, other in itertools.pairwise(answers))
        for votes in self.votes.values():
            assert [revision for revision, _ in votes] == list(range(1, len(votes) + 1))

    @invariant()
    def the_votes_that_went_up_lead_to_the_same_words(self) -> None:
        key = self.edge.keyring.site
        assert key is not None
        for event_, votes in self.votes.items():
            last = {vote.by: vote.label for _, vote in votes}
            assert {by: word for by, word in last.items() if word is not None} == {
                pseudonym(key, by): word for by, word in self.standing(event_).items()
            }

    @invariant()
    def who_learns_was_told_the_same(self) -> None:
        for event_ in self.published:
            path = agreed([PATHS[word] for word in self.standing(event_).values()])
            heard = self.notified.get(event_)
            assert (heard.path if heard else ()) == path


TestStanding = pytest.mark.slow(pytest.mark.slow(Standing.TestCase))
TestStanding.settings = hypothesis_settings(max_examples=20, stateful_step_count=15, deadline=None)
