"""The cascade: every situation gets exactly one decision, and a person never goes forward."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.answering.cascade import (
    NOTHING_LIVING,
    RISK_MARGIN,
    RULES,
    Situation,
    decide,
    deeper,
    rank_of,
    table,
)
from pipeline.messages import RANKS, UNKNOWN, Rank, Task, Tier

PATHS = (
    (),
    ("animal",),
    ("person",),
    ("other",),
    ("plant",),
    ("animal", "Felidae"),
    ("animal", "Canidae"),
    ("animal", "Felidae", "Panthera tigris"),
)
paths = st.sampled_from(PATHS)
shares = st.floats(0, 1)
situations = st.builds(
    Situation,
    tier=st.sampled_from(list(Tier)),
    wants=st.sampled_from(RANKS[Task.WILDLIFE]),
    path=paths,
    probability=shares,
    margin=shares,
    person=shares,
    person_raised=st.booleans(),
    may_leave=st.booleans(),
    advice=st.sampled_from(["", "name the stream"]),
    asked=st.none() | st.just("0193"),
    stands=st.none() | st.just("0192"),
    person_ago_s=st.none() | st.floats(0, 10),
    person_miss_rate=shares,
    person_miss_rate_accepted=shares,
)

CAT = Situation(tier=Tier.EDGE, wants=Rank.SPECIES, path=("animal", "Felidae"), probability=0.9, margin=0.8)
RULE = {rule.name: rule for rule in RULES}


def at(tier: Tier, situation: Situation = CAT, **changes: object) -> Situation:
    return dataclasses.replace(situation, tier=tier, **changes)  # type: ignore[arg-type]


@given(situations)
def test_every_situation_gets_exactly_one_decision_of_a_rule_of_its_tier(situation: Situation) -> None:
    decision = decide(situation)
    rule = RULE[decision.rule]
    assert situation.tier in rule.tiers
    assert decision.forward is rule.forward
    assert decision.reason
    assert decide(situation) == decision


@given(situations)
def test_a_raised_person_never_goes_forward(situation: Situation) -> None:
    assert not decide(dataclasses.replace(situation, person_raised=True)).forward


@given(situations)
def test_what_policy_keeps_never_goes_forward(situation: Situation) -> None:
    assert not decide(dataclasses.replace(situation, may_leave=False)).forward


@given(situations)
def test_a_device_that_misses_more_persons_than_accepted_sends_nothing(situation: Situation) -> None:
    weak = at(Tier.DEVICE, situation, person_miss_rate=0.1, person_miss_rate_accepted=0.09)
    assert not decide(weak).forward


@given(situations)
def test_nothing_goes_beyond_the_cloud(situation: Situation) -> None:
    assert not decide(at(Tier.CLOUD, situation)).forward


@given(situations)
def test_a_stream_that_wants_the_kingdom_alone_stops_at_the_device(situation: Situation) -> None:
    assert not decide(at(Tier.DEVICE, situation, wants=Rank.KINGDOM)).forward


def test_names_of_rules_are_unique() -> None:
    assert len(RULE) == len(RULES)


@pytest.mark.parametrize("tier", list(Tier))
def test_the_last_rule_of_each_tier_holds_always(tier: Tier) -> None:
    last = [rule for rule in RULES if tier in rule.tiers][-1]
    assert last.applies(dataclasses.replace(CAT, tier=tier))


@pytest.mark.parametrize(
    ("situation", "rule"),
    [
        (at(Tier.DEVICE, stands="0192"), "nothing-moved"),
        (at(Tier.DEVICE, person_raised=True), "person-in-frame"),
        (at(Tier.DEVICE, wants=Rank.KINGDOM), "wants-no-deeper"),
        (at(Tier.DEVICE, path=("other",), probability=NOTHING_LIVING), "nothing-living"),
        (at(Tier.DEVICE, path=("other",), probability=NOTHING_LIVING - 0.01), "ask-the-edge"),
        (at(Tier.DEVICE, may_leave=False), "policy-keeps-pixels"),
        (at(Tier.DEVICE, person_miss_rate=0.1, person_miss_rate_accepted=0.05), "person-check-too-weak"),
        (at(Tier.DEVICE, person_miss_rate=0.1, person_miss_rate_accepted=0.1), "ask-the-edge"),
        (at(Tier.DEVICE), "ask-the-edge"),
        (at(Tier.DEVICE, path=()), "ask-the-edge"),
        (at(Tier.EDGE), "wants-species"),
        (at(Tier.EDGE, wants=Rank.FAMILY, margin=RISK_MARGIN), "sure-of-family"),
        (at(Tier.EDGE, wants=Rank.FAMILY, margin=RISK_MARGIN - 0.01), "margin-below-risk"),
        (at(Tier.EDGE, wants=Rank.FAMILY, path=("animal",), margin=0.9), "margin-below-risk"),
        (at(Tier.EDGE, wants=Rank.FAMILY, path=("other",), probability=0.8), "sure-of-family"),
        (at(Tier.EDGE, wants=Rank.FAMILY, path=("other",), probability=0.5, margin=0.1), "margin-below-risk"),
        (at(Tier.EDGE, known_here=CAT.path), "wants-species"),
        (at(Tier.EDGE, known_here=CAT.path, wants=Rank.FAMILY), "site-knows"),
        (at(Tier.EDGE, known_here=("animal", "Felidae", "Felis catus")), "site-knows"),
        (at(Tier.EDGE, known_here=("other",)), "site-knows"),
        (at(Tier.EDGE, known_here=("other",), person_raised=True), "person-in-frame"),
        (at(Tier.EDGE, asked="0193"), "already-asked"),
        (at(Tier.EDGE, may_leave=False), "policy-keeps-feature"),
        (at(Tier.CLOUD, path=("animal", "Felidae", "Felis catus")), "species-named"),
        (at(Tier.CLOUD), "rolled-up"),
    ],
)
def test_the_rule_that_decides(situation: Situation, rule: str) -> None:
    assert decide(situation).rule == rule


def test_each_rule_decides_some_situation() -> None:
    decided = {
        decide(
            Situation(
                tier=tier,
                wants=wants,
                path=path,
                probability=0.9,
                margin=margin,
                person_raised=person,
                may_leave=leave,
                asked=asked,
                stands=stands,
                person_ago_s=ago,
                person_miss_rate=missed,
                known_here=path if knows else (),
                damage=damage,
            )
        ).rule
        for tier in Tier
        for wants in RANKS[Task.WILDLIFE]
        for path in PATHS
        for margin in (0.0, 1.0)
        for person in (False, True)
        for leave in (False, True)
        for asked in (None, "0193")
        for stands in (None, "0192")
        for ago in (None, 3.0)
        for missed in (0.0, 0.1)
        for knows in (False, True)
        for damage in ("", "48% of the picture is missing")
    }
    assert decided == set(RULE)


def test_a_kept_picture_tells_what_its_owner_would_change() -> None:
    decision = decide(at(Tier.DEVICE, may_leave=False, advice='[streams."cam9/yard"]'))
    assert decision.reason.endswith('; [streams."cam9/yard"]')


def test_an_answer_that_stands_names_its_event() -> None:
    assert "0192" in decide(at(Tier.DEVICE, stands="0192")).reason


def test_the_table_renders_every_rule_in_the_order_in_which_they_are_tried() -> None:
    head, line, *rows = table().splitlines()
    assert (head.count("|"), line.count("|")) == (5, 5)
    assert [row.split("`")[1] for row in rows] == [rule.name for rule in RULES]
    assert all(row.count("|") == 5 for row in rows)


@given(paths, paths)
def test_a_refined_answer_is_one_of_both_and_never_loses_depth_on_its_own_path(
    before: tuple[str, ...], now: tuple[str, ...]
) -> None:
    refined = deeper(before, now)
    assert refined in (before, now)
    if before[: len(now)] == now:
        assert refined == before
    else:
        assert refined == now


def test_ranks_of_wildlife_paths() -> None:
    assert [rank_of(path) for path in ((), ("animal",), ("animal", "a"), ("animal", "a", "b"))] == [
        Rank.KINGDOM,
        Rank.KINGDOM,
        Rank.FAMILY,
        Rank.SPECIES,
    ]


def test_what_the_cloud_will_not_guess_is_called_so_in_the_reason() -> None:
    assert decide(at(Tier.CLOUD, path=(), probability=0.0)).reason.endswith(f"answered as {UNKNOWN} (0.00)")
    assert decide(at(Tier.CLOUD)).reason.endswith("answered as Felidae (0.90)")
