"""The decisions of a rollout: each rule of the table, and invariants over random sequences of events."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agents.rollout.rules import (
    JUDGED_AT_END_FROM,
    JUDGED_FROM,
    MOST_TRIES,
    RULES,
    SHADOW_EVENTS,
    WORKING,
    RolloutStage,
    StageResult,
    TrialFigures,
    table,
)
from agents.rollout.state import REFUSED_KEPT, RolloutState, advance, named, stream_position, takes
from models.releases.targets import Current

PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "taking-effect.md"
SHOWN = re.compile(r"<!-- update rules -->\n(.*?)\n<!-- end -->", re.DOTALL)

GOOD = TrialFigures(
    events=40, both={"kingdom": 40, "family": 40}, alike={"kingdom": 40, "family": 39}, probability_old=0.9, probability_new=0.9
)  # fmt: skip


def target(version: int = 3, **changes: Any) -> Current:
    return Current(**{"version": version, "canary_s": 100.0, "why": "new species", "by": "trainer"} | changes)


def at(stage: RolloutStage, candidate: Current | None = None, serving: int = 0) -> RolloutState:
    """Return the state of a tier whose candidate reached this stage at time 0."""
    state = named(RolloutState(serving=serving), candidate or target(), 0)
    for reached in (RolloutStage.SMOKE, RolloutStage.SHADOW):
        if state.stage is stage:
            return state
        state = advance(state, StageResult(passed=True), 0)
        assert state.stage is reached
    return (
        state
        if stage is RolloutStage.SHADOW
        else advance(state, StageResult(figures=replace(GOOD, events=SHADOW_EVENTS)), 0)
    )


# --- the way on ------------------------------------------------------------------------------------------------


def test_a_good_release_goes_through_every_stage_and_what_served_is_kept_to_be_gone_back_to() -> None:
    state = at(RolloutStage.CANARY)
    assert (state.stage, state.serving) == (RolloutStage.CANARY, 0)
    assert advance(state, StageResult(figures=GOOD), 99.9) is state
    state = advance(state, StageResult(figures=GOOD), 100)
    assert (state.stage, state.rule, state.serving, state.previous) == (
        RolloutStage.PROMOTED,
        "did-well",
        3,
        0,
    )
    assert state.candidate is None
    assert "40 events compared; alike: kingdom 100% of 40, family 98% of 40" in state.reason


def test_at_a_quiet_site_the_shadow_and_the_canary_end_by_time_and_the_reason_says_so() -> None:
    state = at(RolloutStage.SHADOW)
    assert advance(state, StageResult(), 49) is state
    state = advance(state, StageResult(), 50)
    assert (state.stage, state.rule) == (RolloutStage.CANARY, "shadow-over")
    state = advance(state, StageResult(figures=TrialFigures(events=2, unknown_new=2)), 150)
    assert (state.stage, state.rule) == (RolloutStage.PROMOTED, "quiet")
    assert state.reason == "too few events to judge: 2 events compared"


def test_a_long_canary_has_a_short_shadow() -> None:
    state = at(RolloutStage.SHADOW, target(canary_s=86_400))
    assert advance(state, StageResult(), 120).stage is RolloutStage.CANARY


def test_where_no_canary_is_asked_for_the_smoke_test_decides() -> None:
    state = advance(at(RolloutStage.SMOKE, target(canary_s=0)), StageResult(passed=True), 1)
    assert (state.stage, state.rule, state.serving) == (RolloutStage.PROMOTED, "at-once", 3)


def test_an_older_version_that_is_named_takes_effect_as_soon_as_it_is_verified() -> None:
    state = at(RolloutStage.SMOKE, target(3), serving=4)
    state = advance(state, StageResult(passed=True), 0.1)
    assert (state.stage, state.rule, state.serving, state.previous) == (
        RolloutStage.PROMOTED,
        "older-is-named",
        3,
        4,
    )


def test_a_candidate_that_is_no_longer_named_is_dropped_and_not_refused() -> None:
    state = named(at(RolloutStage.CANARY), target(0, why="it fails at night"), 5)
    assert (state.stage, state.rule, state.candidate, state.refused) == (
        RolloutStage.IDLE,
        "withdrawn",
        None,
        (),
    )
    assert "it fails at night" in state.reason


def test_a_newer_target_of_the_same_release_changes_its_canary_and_not_its_stage() -> None:
    state = named(at(RolloutStage.CANARY), target(canary_share=1.0), 5)
    assert state.stage is RolloutStage.CANARY
    assert takes(state, "home/cam1/garden")


def test_a_target_of_another_release_starts_again() -> None:
    state = named(at(RolloutStage.CANARY), target(4), 5)
    assert (state.stage, state.trying, state.serving) == (RolloutStage.VERIFYING, 4, 0)


# --- the ways back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "figures"),
    [
        ("fails", TrialFigures(errors=2)),
        ("misses-persons", TrialFigures(events=4, persons=4, persons_missed=2)),
        ("kingdoms-disagree", replace(GOOD, both={"kingdom": 20}, alike={"kingdom": 17})),
        ("families-disagree", replace(GOOD, both={"kingdom": 20, "family": 20}, alike={"kingdom": 20, "family": 15})),
        ("species-disagree", replace(GOOD, both={"species": 20}, alike={"species": 13})),
        ("less-sure", replace(GOOD, probability_new=0.7)),
        ("more-unknown", replace(GOOD, unknown_old=1, unknown_new=6)),
        ("slower", replace(GOOD, ms_old=10, ms_new=31)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stage", [RolloutStage.SHADOW, RolloutStage.CANARY])
def test_bad_figures_roll_back_in_the_shadow_and_in_the_canary(
    stage: RolloutStage, rule: str, figures: TrialFigures
) -> None:
    before = at(stage)
    state = advance(before, StageResult(figures=figures), 1)
    assert (state.stage, state.rule, state.serving, state.candidate) == (
        RolloutStage.ROLLED_BACK,
        rule,
        0,
        None,
    )
    assert state.refused[-1].version == 3
    # Also when the time is over: nothing is promoted by refused time alone.
    assert advance(before, StageResult(figures=figures), 1000).rule == rule


def test_rates_over_a_few_events_say_nothing_until_the_time_is_over() -> None:
    few = TrialFigures(events=JUDGED_AT_END_FROM, unknown_new=JUDGED_AT_END_FROM)
    assert advance(at(RolloutStage.CANARY), StageResult(figures=few), 1).stage is RolloutStage.CANARY
    assert advance(at(RolloutStage.CANARY), StageResult(figures=few), 100).rule == "more-unknown"
    many = TrialFigures(events=JUDGED_FROM, unknown_new=JUDGED_FROM)
    assert advance(at(RolloutStage.CANARY), StageResult(figures=many), 1).rule == "more-unknown"


@pytest.mark.parametrize(
    ("stage", "rule"), [(RolloutStage.VERIFYING, "not-verified"), (RolloutStage.SMOKE, "smoke-failed")]
)
def test_what_is_not_verified_or_does_not_pass_its_golden_inputs_is_refused_and_says_why(
    stage: RolloutStage, rule: str
) -> None:
    state = advance(at(stage), StageResult(problem="bad-release", reason="sums.bin: not the bytes"), 1)
    assert (state.stage, state.rule, state.serving) == (RolloutStage.REFUSED, rule, 0)
    assert state.reason == "bad-release: sums.bin: not the bytes"


def test_a_refused_release_is_not_tried_again_unless_a_newer_target_names_it() -> None:
    refused = advance(at(RolloutStage.SMOKE), StageResult(problem="smoke", reason="input 1"), 1)
    assert named(refused, target(), 2) is refused
    again = named(refused, target(why="the smoke test was wrong", by="anna"), 2)
    assert (again.stage, again.trying) == (RolloutStage.VERIFYING, 3)


def test_a_release_that_ends_the_process_again_and_again_is_not_begun_with_again() -> None:
    state = named(RolloutState(serving=0), target(), 0, tries=MOST_TRIES - 1)
    assert advance(state, StageResult(), 0) is state
    state = advance(named(RolloutState(serving=0), target(), 0, tries=MOST_TRIES), StageResult(), 0)
    assert (state.stage, state.rule) == (RolloutStage.REFUSED, "ended-too-often")


def test_only_the_newest_refusals_are_remembered() -> None:
    state = RolloutState(serving=0)
    for version in range(3, 3 + REFUSED_KEPT + 5):
        state = advance(named(state, target(version), 0), StageResult(problem="no", reason="no"), 0)
    assert [refused.version for refused in state.refused] == list(range(8, 8 + REFUSED_KEPT))


# --- which streams ---------------------------------------------------------------------------------------------


def test_the_canary_takes_its_share_of_all_streams_and_always_the_same_ones() -> None:
    state = at(RolloutStage.CANARY, target(canary_share=0.1))
    streams = [f"site{site}/cam{camera}/garden" for site in range(100) for camera in range(10)]
    taken = [stream for stream in streams if takes(state, stream)]
    assert 70 <= len(taken) <= 130
    assert taken == [stream for stream in streams if stream_position(3, stream) < 0.1]
    assert not any(takes(at(RolloutStage.SHADOW, target(canary_share=1)), stream) for stream in streams)


# --- the table -------------------------------------------------------------------------------------------------


def test_every_rule_has_a_name_of_its_own_and_leads_on_from_a_stage_that_works() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(set(rule.stages) <= set(WORKING) for rule in RULES)


def test_the_page_about_taking_effect_shows_the_rules_that_are_in_force() -> None:
    shown = SHOWN.search(PAGE.read_text("utf-8"))
    assert shown is not None, "docs/explanation/taking-effect.md has no <!-- update rules --> ... <!-- end -->"
    assert shown[1].strip() == table()


# --- whatever happens ------------------------------------------------------------------------------------------

FIGURES = st.sampled_from(
    [
        TrialFigures(),
        GOOD,
        replace(GOOD, events=SHADOW_EVENTS),
        TrialFigures(errors=2),
        replace(GOOD, unknown_new=40),
    ]
)


class Updates(RuleBasedStateMachine):
    """A tier that gets any signed target at any time, any stage result, and a process that ends at any point."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.state = RolloutState(serving=0)
        self.passed = {0}
        """Versions that were verified and answered their golden inputs."""
        self.verified = {0}
        self.refused: set[tuple[int, str]] = set()
        self.tries = 0

    def move(self, state: RolloutState) -> None:
        before, self.state = self.state, state
        if state.refused != before.refused:
            last = state.refused[-1]
            self.refused.add((last.version, last.word))
        if state.serving != before.serving:
            assert state.previous == before.serving

    @rule(version=st.integers(0, 5), why=st.sampled_from("ab"), canary_s=st.sampled_from([0.0, 60.0]))
    def name_target(self, version: int, why: str, canary_s: float) -> None:
        current = target(version, why=why, canary_s=canary_s)
        known = self.state.refusal(current) is not None
        tried = self.state.candidate
        self.move(named(self.state, current, self.now_s, self.tries))
        if known:
            assert self.state.candidate != current or tried == current

    @rule(trouble=st.booleans())
    def work(self, trouble: bool) -> None:
        before = self.state
        found = StageResult(passed=not trouble, problem="odd" if trouble else "", figures=GOOD)
        after = advance(before, found, self.now_s)
        if before.trying is not None and not trouble:
            if before.stage is RolloutStage.VERIFYING and after.stage is RolloutStage.SMOKE:
                self.verified.add(before.trying)
            if before.stage is RolloutStage.SMOKE:
                assert before.trying in self.verified
                self.passed.add(before.trying)
        self.move(after)

    @rule(figures=FIGURES, passed_s=st.sampled_from([0.0, 1.0, 30.0, 200.0]))
    def watch(self, figures: TrialFigures, passed_s: float) -> None:
        self.now_s += passed_s
        if self.state.stage in (RolloutStage.SHADOW, RolloutStage.CANARY):
            self.move(advance(self.state, StageResult(figures=figures), self.now_s))

    @rule()
    def end_and_start(self) -> None:
        """Only what is on the disk is known afterwards."""
        self.tries = self.state.tries if self.state.candidate else 0
        self.state = RolloutState(self.state.serving, self.state.previous, self.state.refused)

    @invariant()
    def serves_what_passed_and_never_nothing(self) -> None:
        assert self.state.serving in self.passed

    @invariant()
    def tries_nothing_live_that_did_not_pass(self) -> None:
        if self.state.stage in (RolloutStage.SHADOW, RolloutStage.CANARY):
            assert self.state.trying in self.passed

    @invariant()
    def can_always_go_back(self) -> None:
        """To any older version, in two steps, from wherever it is."""
        for older in range(self.state.serving):
            back = named(self.state, target(older, why="back"), self.now_s)
            back = advance(advance(back, StageResult(passed=True), self.now_s), StageResult(passed=True), self.now_s)
            assert (back.serving, back.stage, back.previous) == (
                older,
                RolloutStage.PROMOTED,
                self.state.serving,
            )

    @invariant()
    def what_was_refused_stays_refused(self) -> None:
        remembered = {(refused.version, refused.word) for refused in self.state.refused}
        assert remembered <= self.refused
        assert len(self.refused) > REFUSED_KEPT or remembered == self.refused


TestUpdates = pytest.mark.slow(pytest.mark.slow(Updates.TestCase))
TestUpdates.settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)
