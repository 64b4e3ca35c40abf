"""Consumer groups as a state machine: time is a number, members are strings, nothing waits."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipeline.brokers.kafka.errors import BrokerError, Code
from pipeline.brokers.kafka.groups import (
    MOST_MEMBERS,
    Answer,
    ConsumerGroup,
    GroupState,
    Join,
    Joined,
    Removed,
    Synced,
)

SESSION_MS, REBALANCE_MS = 10_000, 60_000


def a_join(member: str, protocols: dict[str, bytes] | None = None, session_ms: int = SESSION_MS) -> Join:
    return Join(member, "consumer", protocols or {"range": member.encode()}, session_ms, REBALANCE_MS)


def join(group: ConsumerGroup, member: str, now_ms: int = 0) -> list[Answer]:
    if member not in group.members:
        group.promise(member, SESSION_MS, now_ms)
    return group.join(a_join(member), now_ms)


def stable(*members: str) -> ConsumerGroup:
    """A group in which all `members` have joined and have their shares."""
    group = ConsumerGroup("g")
    for number, member in enumerate(members):
        join(group, member)
        for earlier in members[:number]:
            join(group, earlier)
    for member in members:
        group.sync(member, group.generation, {name: name.encode() for name in members}, 0)
    assert group.state is GroupState.STABLE
    return group


def refusal(call: object, *arguments: object) -> Code:
    with pytest.raises(BrokerError) as refused:
        call(*arguments)  # type: ignore[operator]
    return refused.value.code


def test_the_first_member_leads_and_gets_its_share() -> None:
    group = ConsumerGroup("g")
    assert join(group, "a") == [Joined("a", 1, "range", "a", (("a", b"a"),))]
    assert group.sync("a", 1, {"a": b"all"}, 0) == [Synced("a", b"all")]


def test_a_second_member_waits_until_the_first_joined_again() -> None:
    group = stable("a")
    assert join(group, "b") == []
    assert refusal(group.heartbeat, "a", 1, 0) is Code.REBALANCE_IN_PROGRESS
    answers = join(group, "a")
    assert answers == [Joined("a", 2, "range", "a", (("a", b"a"), ("b", b"b"))), Joined("b", 2, "range", "a")]
    assert group.sync("b", 2, {}, 0) == []
    assert group.sync("a", 2, {"a": b"1", "b": b"2"}, 0) == [Synced("a", b"1"), Synced("b", b"2")]


def test_a_member_that_leaves_makes_the_others_join_again() -> None:
    group = stable("a", "b")
    assert group.leave("b", 0) == [Removed("b")]
    assert refusal(group.heartbeat, "a", 2, 0) is Code.REBALANCE_IN_PROGRESS
    assert join(group, "a") == [Joined("a", 3, "range", "a", (("a", b"a"),))]


def test_when_the_leader_dies_another_member_leads() -> None:
    group = stable("a", "b")
    group.heartbeat("b", 2, SESSION_MS - 1)
    assert group.expire(SESSION_MS) == [Removed("a")]
    (answer,) = join(group, "b", SESSION_MS)
    assert isinstance(answer, Joined)
    assert (answer.leader, answer.members) == ("b", (("b", b"b"),))


def test_a_heartbeat_keeps_a_member_alive() -> None:
    group = stable("a")
    for now_ms in range(0, 100_000, SESSION_MS - 1):
        group.heartbeat("a", 1, now_ms)
        assert group.expire(now_ms) == []
    assert group.expire(200_000) == [Removed("a")]
    assert group.state is GroupState.EMPTY


def test_a_rebalance_goes_on_without_who_does_not_join_in_time() -> None:
    group = stable("a", "b")
    join(group, "c", 0)
    join(group, "a", 0)
    for now_ms in range(0, REBALANCE_MS, SESSION_MS // 2):
        assert refusal(group.heartbeat, "b", 2, now_ms) is Code.REBALANCE_IN_PROGRESS
        assert group.expire(now_ms) == []
    answers = group.expire(REBALANCE_MS)
    assert answers[0] == Removed("b")
    assert {answer.member for answer in answers[1:]} == {"a", "c"}


def test_followers_that_wait_for_their_share_are_told_when_the_leader_dies() -> None:
    group = stable("a", "b")
    join(group, "c")
    join(group, "a")
    join(group, "b")
    assert group.sync("b", 3, {}, 0) == []
    group.heartbeat("c", 3, SESSION_MS - 1)
    assert group.expire(SESSION_MS) == [Removed("a"), Synced("b", code=Code.REBALANCE_IN_PROGRESS)]


def test_a_repeated_join_of_a_follower_gets_the_same_answer_again() -> None:
    group = stable("a", "b")
    assert join(group, "b") == [Joined("b", 2, "range", "a")]
    assert group.state is GroupState.STABLE


def test_the_leader_that_joins_again_asks_for_a_rebalance() -> None:
    group = stable("a", "b")
    assert join(group, "a") == []
    assert group.state is GroupState.PREPARING


def test_strangers_and_old_generations_are_refused() -> None:
    group = stable("a")
    assert refusal(group.join, a_join("ghost"), 0) is Code.UNKNOWN_MEMBER_ID
    assert refusal(group.heartbeat, "ghost", 1, 0) is Code.UNKNOWN_MEMBER_ID
    assert refusal(group.heartbeat, "a", 0, 0) is Code.ILLEGAL_GENERATION
    assert refusal(group.sync, "a", 9, {}, 0) is Code.ILLEGAL_GENERATION
    assert refusal(group.leave, "ghost", 0) is Code.UNKNOWN_MEMBER_ID
    assert refusal(group.promise, "b", 1, 0) is Code.INVALID_SESSION_TIMEOUT


def test_members_without_a_common_assignor_are_refused_and_nothing_changes() -> None:
    group = stable("a")
    group.promise("b", SESSION_MS, 0)
    assert refusal(group.join, a_join("b", {"sticky": b""}), 0) is Code.INCONSISTENT_GROUP_PROTOCOL
    assert group.state is GroupState.STABLE


def test_the_assignor_that_all_know_is_taken() -> None:
    group = ConsumerGroup("g")
    group.promise("a", SESSION_MS, 0)
    group.promise("b", SESSION_MS, 0)
    group.join(a_join("a", {"sticky": b"", "range": b""}), 0)
    group.join(a_join("b", {"range": b"", "other": b""}), 0)
    answers = group.join(a_join("a", {"sticky": b"", "range": b""}), 0)
    assert {answer.protocol for answer in answers if isinstance(answer, Joined)} == {"range"}


def test_offsets_are_committed_by_members_or_while_the_group_is_empty() -> None:
    group = stable("a")
    group.check_commit("a", 1, 0)
    assert refusal(group.check_commit, "", -1, 0) is Code.UNKNOWN_MEMBER_ID
    assert refusal(group.check_commit, "a", 0, 0) is Code.ILLEGAL_GENERATION
    group.leave("a", 0)
    group.check_commit("", -1, 0)


def test_a_group_takes_no_more_members_than_it_may() -> None:
    group = ConsumerGroup("g")
    for number in range(MOST_MEMBERS):
        group.promise(f"m{number}", SESSION_MS, 0)
    assert refusal(group.promise, "one more", SESSION_MS, 0) is Code.GROUP_MAX_SIZE_REACHED
    group.expire(SESSION_MS)
    group.promise("one more", SESSION_MS, SESSION_MS)


class AnyOrder(RuleBasedStateMachine):
    """Members do anything at any time: everybody who waits is answered or still in the group."""

    def __init__(self) -> None:
        super().__init__()
        self.group = ConsumerGroup("g")
        self.now_ms = 0
        self.waiting: set[str] = set()
        self.generations: dict[str, int] = {}
        self.shares: dict[str, int] = {}  # member -> generation of its share

    def deliver(self, answers: list[Answer]) -> None:
        for answer in answers:
            if isinstance(answer, Joined):
                assert answer.member in self.waiting
                self.generations[answer.member] = answer.generation
            elif isinstance(answer, Synced):
                assert answer.member in self.waiting
                if answer.code is Code.NONE and answer.assignment:
                    self.shares[answer.member] = self.group.generation
            self.waiting.discard(answer.member)

    def ask(self, member: str, call: object, *arguments: object) -> None:
        try:
            answers = call(*arguments)  # type: ignore[operator]
        except BrokerError:
            return
        if answers is not None:
            self.waiting.add(member)
            self.deliver(answers)

    @rule(member=st.sampled_from("abc"))
    def join(self, member: str) -> None:
        if member not in self.group.members:
            self.group.promise(member, SESSION_MS, self.now_ms)
        self.ask(member, self.group.join, a_join(member), self.now_ms)

    @rule(member=st.sampled_from("abc"))
    def sync(self, member: str) -> None:
        shares = dict.fromkeys(self.group.members, b"share")
        self.ask(member, self.group.sync, member, self.generations.get(member, -1), shares, self.now_ms)

    @rule(member=st.sampled_from("abc"))
    def heartbeat(self, member: str) -> None:
        self.ask(member, self.group.heartbeat, member, self.generations.get(member, -1), self.now_ms)

    @rule(member=st.sampled_from("abc"))
    def leave(self, member: str) -> None:
        if member in self.group.members:
            self.deliver(self.group.leave(member, self.now_ms))

    @rule(passed_ms=st.integers(1, REBALANCE_MS))
    def time_passes(self, passed_ms: int) -> None:
        self.now_ms += passed_ms
        self.deliver(self.group.expire(self.now_ms))

    @precondition(lambda self: self.group.members)
    @rule()
    def everybody_joins_and_syncs(self) -> None:
        for member in list(self.group.members):
            self.join(member)
        for member in list(self.group.members):
            self.join(member)
        for member in list(self.group.members):
            self.sync(member)
        assert self.group.state is GroupState.STABLE
        assert all(self.shares.get(member) == self.group.generation for member in self.group.members)

    @invariant()
    def who_waits_is_in_the_group(self) -> None:
        assert self.waiting == {name for name, member in self.group.members.items() if member.waiting}

    @invariant()
    def an_empty_group_is_empty(self) -> None:
        assert (self.group.state is GroupState.EMPTY) == (not self.group.members)

    @invariant()
    def a_group_that_is_not_rebalancing_has_a_leader(self) -> None:
        if self.group.state in (GroupState.COMPLETING, GroupState.STABLE):
            assert self.group.leader in self.group.members


AnyOrder.TestCase.settings = settings(deadline=None, max_examples=50, stateful_step_count=30)
TestAnyOrder = pytest.mark.slow(pytest.mark.slow(AnyOrder.TestCase))
