"""A full edge whose uplink is away: it refuses new input, goes on talking, and takes input again by itself."""

from __future__ import annotations

import pytest
from kafka_brokers import eventually
from stack import GARDEN, Stack, Stage, cats

from agents.edge.store import UPLINK, EdgeStore
from agents.role.run_file import ask_health, running
from pipeline import clock, ids, messages, topics
from pipeline.clock import SystemClock
from pipeline.messages import Envelope, Feature, Kind, Privacy, Rank, Status, Tier, UplinkAck
from pipeline.spool import Spool

pytestmark = pytest.mark.e2e


def envelope(number: int) -> Envelope:
    now_s = SystemClock().now()
    feature = Feature(bytes(1024), "", Rank.SPECIES, 2, ("animal",), 0.9, 1.0)
    return Envelope(
        event=ids.derived(now_s, str(number)),
        kind=Kind.FEATURE,
        privacy=Privacy.PUBLIC,
        key="home/cam1",
        payload=messages.encode(feature),
        source="home/cam1/garden",
        time=clock.rfc3339(now_s),
        space="lite0",
    )


def fill(stack: Stack) -> list[str]:
    """Fill the edge's spool with records for the cloud; return their ids."""
    envelopes = [envelope(number) for number in range(1500)]
    spool = Spool.open(stack.data / "edge" / "spool.db", limit_bytes=1)
    store = EdgeStore("home", spool, SystemClock())
    store.open()
    with spool.transaction() as tx:
        for each in envelopes:
            store.send_up(each, tx)
    assert spool.backlog(UPLINK) == 1500
    spool.close()
    return [each.id for each in envelopes]


def test_a_full_edge_refuses_new_input_stays_online_and_takes_it_when_the_uplink_returns(
    stage: Stage,
) -> None:
    fresh = stage.fresh(TIERWISE_EDGE__SPOOL_MIB="1")
    held = fill(fresh)
    fresh.start("mqtt", "device", "edge")
    with fresh.listen() as listener:
        event = listener.capture(GARDEN, cats(1)[0])
        listener.wait(lambda: listener.refusals, "the refusal of the event")
        assert {refusal.reason for _, refusal in listener.refusals} == {"store-full"}
        listener.last_word(event, Tier.DEVICE)  # the device keeps its deadline, and keeps the event
        found = running(fresh.data, "edge")
        assert found is not None
        assert found.port is not None
        ready, parts = ask_health(found.port)
        assert ready
        assert parts["store"].startswith("store full: ")
        listener.publish(topics.uplink_ack("home"), messages.encode(UplinkAck(ids=tuple(held))))
        eventually(lambda: any(r.tier is Tier.EDGE for r in listener.answers(event)), 90)
        status = topics.status("home", "edge")
        states = [messages.decode(Status, m.payload).state for m in listener.heard if m.topic == status]
        assert states == ["online"], "the status does not flap"
