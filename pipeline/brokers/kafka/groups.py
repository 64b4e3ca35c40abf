"""Consumer groups by Kafka's classic protocol, as a state machine without I/O and clock.

Each method takes a request and the time, and returns a list of answers, to the asking member or to members who have
waited. `Coordinator` in coordinator.py delivers them.

::

                 first join                all have joined, or time is up          the leader's sync
    EMPTY ---------------------> PREPARING ----------------------------> COMPLETING -----------------> STABLE
      ^                            ^   ^                                     |                           |
      |  the last member left      |   +------- join, leave, death ----------+                           |
      +----------------------------+----------------------- join, leave, death --------------------------+

Source: KIP-62 (sessions), KIP-394 (a member first gets its id), Kafka's GroupCoordinator.

Example::

    group = ConsumerGroup("g")
    group.promise("m1", 10_000, now_ms=0)
    answers = group.join(Join("m1", "consumer", {"range": b""}, 10_000, 60_000), now_ms=0)
    answers == [Joined("m1", generation=1, protocol="range", leader="m1", members=(("m1", b""),))]
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from pipeline.brokers.kafka.errors import BrokerError, Code

# Kafka's own limit is 6 s; with ours, a killed member is noticed within a second.
SHORTEST_SESSION_MS = 500
LONGEST_SESSION_MS = 30 * 60 * 1000
# Far more members than partitions; it bounds the memory of a group.
MOST_MEMBERS = 100


@dataclass(frozen=True, slots=True)
class Join:
    """A member's request to join. `protocols` has the member's metadata by name, the preferred protocol first."""

    member: str
    protocol_type: str
    protocols: dict[str, bytes]
    session_timeout_ms: int
    rebalance_timeout_ms: int


@dataclass(frozen=True, slots=True)
class Joined:
    """Answer to a join. Only the leader gets the `members`, each with its metadata."""

    member: str
    generation: int
    protocol: str
    leader: str
    members: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Synced:
    """Answer to a sync: this member's assignment, or an error code if a new rebalance began."""

    member: str
    assignment: bytes = b""
    code: Code = Code.NONE


@dataclass(frozen=True, slots=True)
class Removed:
    """Answer to a removed member that still waits for another answer."""

    member: str


Answer: TypeAlias = Joined | Synced | Removed


class GroupState(Enum):
    """The states of a group, under Kafka's own names."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"


@dataclass(slots=True)
class Member:
    """A member of a group, and the answer that it waits for."""

    join: Join
    deadline_ms: int
    joining: bool = True
    syncing: bool = False
    assignment: bytes = b""

    @property
    def waiting(self) -> bool:
        """Return whether the member waits for an answer."""
        return self.joining or self.syncing


@dataclass(slots=True)
class ConsumerGroup:
    """One group. Any method may raise `BrokerError`; then nothing has changed."""

    name: str
    state: GroupState = GroupState.EMPTY
    generation: int = 0
    protocol: str = ""
    leader: str = ""
    members: dict[str, Member] = field(default_factory=dict)
    # Ids given to members who have not joined yet, and until when they may join.
    promised: dict[str, int] = field(default_factory=dict)
    _rebalance_deadline_ms: int = 0

    def promise(self, member: str, session_timeout_ms: int, now_ms: int) -> None:
        """Give an id to a new member. It joins with this id, so a repeated join makes no second member (KIP-394)."""
        if not SHORTEST_SESSION_MS <= session_timeout_ms <= LONGEST_SESSION_MS:
            raise BrokerError(
                Code.INVALID_SESSION_TIMEOUT,
                f"session timeout {session_timeout_ms} ms: use {SHORTEST_SESSION_MS} to {LONGEST_SESSION_MS}",
            )
        if len(self.promised) + len(self.members) >= MOST_MEMBERS:
            raise BrokerError(Code.GROUP_MAX_SIZE_REACHED, f"group {self.name} has {MOST_MEMBERS} members")
        self.promised[member] = now_ms + session_timeout_ms

    def join(self, join: Join, now_ms: int) -> list[Answer]:
        """Let a member join, or join again. The answer may have to wait until the others have joined, too."""
        self._check_join(join)
        self.promised.pop(join.member, None)
        known = self.members.get(join.member)
        if known is None:
            self.members[join.member] = Member(join, now_ms + join.session_timeout_ms)
            return self._rebalance(now_ms)
        unchanged = known.join.protocols == join.protocols
        known.join, known.deadline_ms = join, now_ms + join.session_timeout_ms
        known.syncing = False
        if self.state is GroupState.PREPARING:
            known.joining = True
            return self._completed_if_all_joined(now_ms)
        repeats = self.state is GroupState.COMPLETING or join.member != self.leader
        if unchanged and repeats:
            # The answer was lost on the way: send the same again.
            return [self._joined(join.member)]
        known.joining = True
        return self._rebalance(now_ms)

    def sync(self, member: str, generation: int, assignments: dict[str, bytes], now_ms: int) -> list[Answer]:
        """Answer a member with its assignment; the leader's request brings the assignments of all."""
        known = self._fenced(member, generation, now_ms)
        if self.state is GroupState.PREPARING:
            raise BrokerError(Code.REBALANCE_IN_PROGRESS, "join again")
        if self.state is GroupState.STABLE:
            return [Synced(member, known.assignment)]
        known.syncing = True
        if member != self.leader:
            return []
        self.state = GroupState.STABLE
        answers: list[Answer] = []
        for name, other in self.members.items():
            other.assignment = assignments.get(name, b"")
            other.deadline_ms = now_ms + other.join.session_timeout_ms
            if other.syncing:
                other.syncing = False
                answers.append(Synced(name, other.assignment))
        return answers

    def heartbeat(self, member: str, generation: int, now_ms: int) -> None:
        """Note that a member lives. Raises `BrokerError` (REBALANCE_IN_PROGRESS) if it has to join again."""
        self._fenced(member, generation, now_ms)
        if self.state is GroupState.PREPARING:
            raise BrokerError(Code.REBALANCE_IN_PROGRESS, "join again")

    def leave(self, member: str, now_ms: int) -> list[Answer]:
        """Remove a member at its own request."""
        if member not in self.members:
            raise BrokerError(Code.UNKNOWN_MEMBER_ID, f"{member} is not a member of {self.name}")
        return self._removed([member], now_ms)

    def check_commit(self, member: str, generation: int, now_ms: int) -> None:
        """Check that this member may commit. A commit without a generation is allowed if the group has no members."""
        if generation < 0 and not self.members:
            return
        self._fenced(member, generation, now_ms)
        if self.state is GroupState.COMPLETING:
            raise BrokerError(Code.REBALANCE_IN_PROGRESS, "commit after the rebalance")

    def expire(self, now_ms: int) -> list[Answer]:
        """Remove members that were silent for a session timeout, and end a rebalance whose time is over."""
        self.promised = {name: until for name, until in self.promised.items() if until > now_ms}
        late = self.state is GroupState.PREPARING and self._rebalance_deadline_ms <= now_ms
        dead = [
            name
            for name, member in self.members.items()
            if not member.waiting and (late or member.deadline_ms <= now_ms)
        ]
        return self._removed(dead, now_ms)

    def _check_join(self, join: Join) -> None:
        if join.member not in self.members and join.member not in self.promised:
            raise BrokerError(
                Code.UNKNOWN_MEMBER_ID, f"{join.member} is not a member of {self.name}: join without an id"
            )
        others = [m.join for name, m in self.members.items() if name != join.member]
        common = set(join.protocols).intersection(*(other.protocols for other in others))
        if not join.protocol_type or not common or any(o.protocol_type != join.protocol_type for o in others):
            raise BrokerError(
                Code.INCONSISTENT_GROUP_PROTOCOL, f"the members of {self.name} have no assignor in common"
            )

    def _fenced(self, member: str, generation: int, now_ms: int) -> Member:
        known = self.members.get(member)
        if known is None:
            raise BrokerError(Code.UNKNOWN_MEMBER_ID, f"{member} is not a member of {self.name}: join again")
        if generation != self.generation:
            raise BrokerError(
                Code.ILLEGAL_GENERATION,
                f"generation {generation} is over; the current one is {self.generation}",
            )
        known.deadline_ms = now_ms + known.join.session_timeout_ms
        return known

    def _rebalance(self, now_ms: int) -> list[Answer]:
        answers: list[Answer] = []
        if self.state is not GroupState.PREPARING:
            self.state = GroupState.PREPARING
            longest_ms = max(m.join.rebalance_timeout_ms for m in self.members.values())
            self._rebalance_deadline_ms = now_ms + longest_ms
            for name, member in self.members.items():
                if member.syncing:
                    member.syncing = False
                    member.deadline_ms = now_ms + member.join.session_timeout_ms
                    answers.append(Synced(name, code=Code.REBALANCE_IN_PROGRESS))
        return answers + self._completed_if_all_joined(now_ms)

    def _completed_if_all_joined(self, now_ms: int) -> list[Answer]:
        if not all(member.joining for member in self.members.values()):
            return []
        self.generation += 1
        self.state = GroupState.COMPLETING
        if self.leader not in self.members:
            self.leader = next(iter(self.members))
        common = set.intersection(*(set(m.join.protocols) for m in self.members.values()))
        preferred = self.members[self.leader].join.protocols
        self.protocol = next(name for name in preferred if name in common)
        for member in self.members.values():
            member.joining = False
            member.assignment = b""
            member.deadline_ms = now_ms + member.join.session_timeout_ms
        return [self._joined(name) for name in self.members]

    def _joined(self, member: str) -> Joined:
        everybody = tuple((name, m.join.protocols[self.protocol]) for name, m in self.members.items())
        return Joined(member, self.generation, self.protocol, self.leader, everybody if member == self.leader else ())

    def _removed(self, members: list[str], now_ms: int) -> list[Answer]:
        if not members:
            return []
        answers: list[Answer] = [Removed(name) for name in members]
        for name in members:
            del self.members[name]
        if not self.members:
            self.state = GroupState.EMPTY
            self.leader = ""
            return answers
        return answers + self._rebalance(now_ms)
