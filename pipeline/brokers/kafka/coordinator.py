"""Requests about consumer groups: passes them to the state machines of groups.py, and the answers to waiting members.

A join waits for the other members, a sync for the leader's sync. A member waits for one answer at a time.

Example::

    groups = Coordinator(store)
    response = await groups.join(request)      # returns when the rebalance is over
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any

from kafka.protocol import consumer

from pipeline.brokers.kafka.errors import BrokerError, Code
from pipeline.brokers.kafka.groups import Answer, ConsumerGroup, GroupState, Join, Joined, Removed, Synced
from pipeline.brokers.kafka.store import BrokerStore, Committed, OffsetKey

# How late a dead member may be noticed beyond its session timeout.
EXPIRY_INTERVAL_S = 0.5
# From this version on a new member first gets its id and then joins with it (KIP-394).
JOIN_WITH_ID_VERSION = 4
# Longest metadata of a committed offset, as in Kafka.
LONGEST_METADATA = 4096


def now_ms() -> int:
    """Return the monotonic time in milliseconds."""
    return time.monotonic_ns() // 1_000_000


class Coordinator:
    """All consumer groups. Members are in memory only and join again after a restart; offsets are in the store."""

    def __init__(self, store: BrokerStore) -> None:
        self._store = store
        self._groups: dict[str, ConsumerGroup] = {}
        self._waiting: dict[tuple[str, str], asyncio.Future[Answer]] = {}

    async def expire_forever(self) -> None:
        """Remove dead members and forget groups without members, for ever."""
        while True:
            await asyncio.sleep(EXPIRY_INTERVAL_S)
            for group in list(self._groups.values()):
                self._deliver(group, group.expire(now_ms()))
                if group.state is GroupState.EMPTY and not group.promised:
                    del self._groups[group.name]

    async def join(self, request: Any) -> Any:
        """Let a member join its group; answer when the rebalance is over."""
        member, code, answer = request.member_id, Code.NONE, Joined(request.member_id, -1, "", "")
        try:
            if not request.group_id:
                raise BrokerError(Code.INVALID_GROUP_ID, "a group needs a name")
            group = self._groups.setdefault(request.group_id, ConsumerGroup(request.group_id))
            if not member:
                member = f"{request.header.client_id or 'member'}-{uuid.uuid4()}"
                group.promise(member, request.session_timeout_ms, now_ms())
                if request.API_VERSION >= JOIN_WITH_ID_VERSION:
                    raise BrokerError(Code.MEMBER_ID_REQUIRED, "join with this id")
            rebalance_ms = request.rebalance_timeout_ms if request.API_VERSION >= 1 else request.session_timeout_ms
            join = Join(
                member,
                request.protocol_type,
                {protocol.name: bytes(protocol.metadata) for protocol in request.protocols},
                request.session_timeout_ms,
                rebalance_ms,
            )
            outcome = await self._answer(group, member, lambda: group.join(join, now_ms()))
            if not isinstance(outcome, Joined):
                raise BrokerError(Code.UNKNOWN_MEMBER_ID, "removed while joining")
            answer = outcome
        except BrokerError as error:
            code = error.code
        row = consumer.JoinGroupResponse.JoinGroupResponseMember
        return consumer.JoinGroupResponse(
            throttle_time_ms=0,
            error_code=code,
            generation_id=answer.generation,
            protocol_name=answer.protocol,
            leader=answer.leader,
            member_id=member,
            members=[row(member_id=name, metadata=protocol) for name, protocol in answer.members],
        )

    async def sync(self, request: Any) -> Any:
        """Answer with the member's assignment, once the leader has sent it."""
        code, assignment = Code.NONE, b""
        try:
            group = self._known(request.group_id)
            shares = {share.member_id: bytes(share.assignment) for share in request.assignments}
            outcome = await self._answer(
                group,
                request.member_id,
                lambda: group.sync(request.member_id, request.generation_id, shares, now_ms()),
            )
            if not isinstance(outcome, Synced):
                raise BrokerError(Code.UNKNOWN_MEMBER_ID, "removed while waiting for the leader")
            code, assignment = outcome.code, outcome.assignment
        except BrokerError as error:
            code = error.code
        return consumer.SyncGroupResponse(throttle_time_ms=0, error_code=code, assignment=assignment)

    async def heartbeat(self, request: Any) -> Any:
        """Note that a member lives; answer whether it has to join again."""
        code = Code.NONE
        try:
            self._known(request.group_id).heartbeat(request.member_id, request.generation_id, now_ms())
        except BrokerError as error:
            code = error.code
        return consumer.HeartbeatResponse(throttle_time_ms=0, error_code=code)

    async def leave(self, request: Any) -> Any:
        """Let a member leave its group."""
        code = Code.NONE
        try:
            group = self._known(request.group_id)
            self._deliver(group, group.leave(request.member_id, now_ms()))
        except BrokerError as error:
            code = error.code
        return consumer.LeaveGroupResponse(throttle_time_ms=0, error_code=code)

    async def commit(self, request: Any) -> Any:
        """Commit offsets; they are on disk before the answer."""
        codes: dict[tuple[str, int], Code] = {}
        accepted: dict[OffsetKey, Committed | None] = {}
        for topic in request.topics:
            for sent in topic.partitions:
                metadata = sent.committed_metadata or ""
                if self._store.find(topic.name, sent.partition_index) is None:
                    codes[topic.name, sent.partition_index] = Code.UNKNOWN_TOPIC_OR_PARTITION
                elif len(metadata) > LONGEST_METADATA:
                    codes[topic.name, sent.partition_index] = Code.OFFSET_METADATA_TOO_LARGE
                else:
                    key = (request.group_id, topic.name, sent.partition_index)
                    accepted[key] = Committed(sent.committed_offset, metadata)
        whole = Code.NONE
        try:
            group = self._groups.get(request.group_id, ConsumerGroup(request.group_id))
            group.check_commit(request.member_id, request.generation_id_or_member_epoch, now_ms())
            await self._store.commit_offsets(accepted)
        except BrokerError as error:
            whole = error.code
        row = consumer.OffsetCommitResponse.OffsetCommitResponseTopic
        topics = [
            row(
                name=topic.name,
                partitions=[
                    row.OffsetCommitResponsePartition(
                        partition_index=sent.partition_index,
                        error_code=whole or codes.get((topic.name, sent.partition_index), Code.NONE),
                    )
                    for sent in topic.partitions
                ],
            )
            for topic in request.topics
        ]
        return consumer.OffsetCommitResponse(throttle_time_ms=0, topics=topics)

    async def committed(self, request: Any) -> Any:
        """Return the committed offsets; -1 for a partition without one."""
        row = consumer.OffsetFetchResponse.OffsetFetchResponseTopic
        wanted: dict[str, list[int]] = {}
        if request.topics is None:
            for group, topic, partition in self._store.committed:
                if group == request.group_id:
                    wanted.setdefault(topic, []).append(partition)
        else:
            wanted = {topic.name: topic.partition_indexes for topic in request.topics}
        nothing = Committed(-1, "")
        topics = []
        for topic, partitions in wanted.items():
            found = [
                (partition, self._store.committed.get((request.group_id, topic, partition), nothing))
                for partition in partitions
            ]
            topics.append(
                row(
                    name=topic,
                    partitions=[
                        row.OffsetFetchResponsePartition(
                            partition_index=partition,
                            committed_offset=committed.offset,
                            committed_leader_epoch=-1,
                            metadata=committed.metadata,
                            error_code=Code.NONE,
                        )
                        for partition, committed in found
                    ],
                )
            )
        return consumer.OffsetFetchResponse(throttle_time_ms=0, error_code=Code.NONE, topics=topics)

    def _known(self, name: str) -> ConsumerGroup:
        group = self._groups.get(name)
        if group is None:
            raise BrokerError(Code.UNKNOWN_MEMBER_ID, f"group {name!r} has no members: join first")
        return group

    async def _answer(self, group: ConsumerGroup, member: str, ask: Callable[[], list[Answer]]) -> Answer:
        """Pass a request to the group and wait for the answer, which may need another member's request."""
        key = (group.name, member)
        waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        answers = ask()
        replaced = self._waiting.pop(key, None)
        if replaced is not None:
            # The member asked again over another connection, so the first answer has no reader.
            replaced.set_result(Removed(member))
        self._waiting[key] = waiter
        self._deliver(group, answers)
        try:
            return await waiter
        finally:
            if self._waiting.get(key) is waiter:
                del self._waiting[key]

    def _deliver(self, group: ConsumerGroup, answers: list[Answer]) -> None:
        for answer in answers:
            waiter = self._waiting.pop((group.name, answer.member), None)
            if waiter is not None and not waiter.done():
                waiter.set_result(answer)
