"""What the edge lets in from its devices, from the gateway, and from nobody else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from sample_edge import SampleEdge, sample_edge
from sample_messages import event, event_id, result

from agents.edge.inbox import UplinkDispatch
from agents.edge.store import UPLINK, UPLINK_ACKS
from agents.releases.downloader import Download
from pipeline import messages, topics
from pipeline.errors import Retry
from pipeline.messages import (
    DownlinkAck,
    Envelope,
    EventAck,
    Kind,
    Label,
    Privacy,
    Refusal,
    Report,
    Result,
    Tier,
    UplinkAck,
    downlink_id,
)
from pipeline.mqtt import Message

STILL = result(event_id(1), pending=None, rule="nothing-moved")
GARDEN_EVENTS = topics.event("home", "cam1", "garden")


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[SampleEdge]:
    with sample_edge(tmp_path) as opened:
        yield opened


def cloud_says(event_: str, **changes: object) -> Result:
    fields: dict[str, object] = {"tier": Tier.CLOUD, "revision": 3, "pending": None, "model": "lite0@1"}
    return result(event_, **(fields | changes))


def test_an_event_is_acknowledged_by_its_name_and_revision_also_when_it_is_repeated(edge: SampleEdge) -> None:
    edge.deliver(event(STILL))
    assert EventAck(ids=(f"{event_id(1)}/1",)) in edge.take()
    edge.deliver(event(STILL))
    assert edge.take() == [EventAck(ids=(f"{event_id(1)}/1",))]


def test_events_of_several_devices_are_acknowledged_to_each(edge: SampleEdge) -> None:
    other = msgspec.structs.replace(STILL, event=event_id(2), device="cam2", sighting=None)
    edge.deliver(event(STILL), event(other))
    topics_of_acks = [out.topic for out in edge.spool.outgoing("site", 10, edge.clock.now()) if out.kind == "EventAck"]
    assert topics_of_acks == [topics.event_ack("home", "cam1"), topics.event_ack("home", "cam2")]


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        (GARDEN_EVENTS, b"\xff", "malformed"),
        (GARDEN_EVENTS, b"", "malformed"),
        (GARDEN_EVENTS, messages.encode(msgspec.structs.replace(event(STILL), v=2)), "unknown-version"),
        (topics.event("home", "cam2", "garden"), messages.encode(event(STILL)), "other-source"),
        (topics.event("home", "cam1", "door"), messages.encode(event(STILL)), "other-source"),
    ],
)
def test_what_is_no_event_of_its_topic_is_refused_with_a_reason(
    edge: SampleEdge, topic: str, payload: bytes, reason: str
) -> None:
    edge.deliver_raw(Message(topic, payload, False))
    (sent,) = edge.take()
    assert isinstance(sent, Refusal)
    assert (sent.reason, sent.topic) == (reason, topic)
    assert edge.metrics.value("tierwise_refused_total", reason=reason) == 1


def test_a_bad_event_holds_up_nothing_beside_it(edge: SampleEdge) -> None:
    edge.deliver_raw(
        Message(GARDEN_EVENTS, b"\xff", False), Message(GARDEN_EVENTS, messages.encode(event(STILL)), False)
    )
    assert EventAck(ids=(f"{event_id(1)}/1",)) in edge.take()
    assert edge.store.answer(event_id(1)) is not None


def test_an_event_that_meets_a_bug_of_ours_is_refused_and_holds_up_nothing_beside_it(
    edge: SampleEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = edge.metrics.received

    def buggy(source: str, channel: str) -> None:
        if source == "home/cam2/garden":
            raise LookupError(source)
        received(source, channel)

    monkeypatch.setattr(edge.metrics, "received", buggy)
    other = msgspec.structs.replace(STILL, event=event_id(2), device="cam2", sighting=None)
    edge.deliver(event(other), event(STILL))
    sent = edge.take()
    assert [each.reason for each in sent if isinstance(each, Refusal)] == ["internal-error"]
    assert [each.ids for each in sent if isinstance(each, EventAck)] == [(f"{event_id(1)}/1",)]


def test_an_event_under_the_name_of_another_is_refused_and_acknowledged_so_that_it_does_not_come_again(
    edge: SampleEdge,
) -> None:
    edge.deliver(event(STILL))
    edge.take()
    edge.deliver(event(msgspec.structs.replace(STILL, label="plant", path=("plant",))))
    sent = edge.take()
    assert [each.reason for each in sent if isinstance(each, Refusal)] == ["id-reused"]
    assert EventAck(ids=(f"{event_id(1)}/1",)) in sent
    known = edge.store.answer(event_id(1))
    assert known is not None
    assert known.result.path == ("animal",)


def test_a_full_spool_takes_no_event_until_the_cloud_took_what_waits_in_it(tmp_path: Path) -> None:
    with sample_edge(tmp_path, limit_bytes=200) as edge:
        waiting = msgspec.structs.replace(feature(0), payload=b"x" * 200)
        with edge.spool.transaction() as tx:
            edge.store.send_up(waiting, tx)
        edge.deliver(event(STILL))
        (refusal,) = edge.take()
        assert isinstance(refusal, Refusal)
        assert (refusal.reason, refusal.topic) == ("store-full", GARDEN_EVENTS)
        assert "edge.spool_mib" in refusal.detail
        assert edge.store.answer(event_id(1)) is None
        assert edge.metrics.value("tierwise_refused_total", reason="store-full") == 1
        ack = UplinkAck(ids=(waiting.id,))
        edge.deliver_uplink(topics.uplink_ack("home"), messages.encode(ack))
        edge.deliver(event(STILL))
        assert EventAck(ids=(f"{event_id(1)}/1",)) in edge.take()


def test_a_full_spool_still_acknowledges_repeats_and_refuses_a_label(tmp_path: Path) -> None:
    with sample_edge(tmp_path, limit_bytes=2000) as edge:
        edge.deliver(event(STILL))
        edge.take()
        with edge.spool.transaction() as tx:
            edge.store.send_up(msgspec.structs.replace(feature(0), payload=b"x" * 2000), tx)
        edge.deliver(event(STILL))
        assert edge.take() == [EventAck(ids=(f"{event_id(1)}/1",))]
        edge.label(Label(event=event_id(1), label="cat", by="ann"))
        assert [each.reason for each in edge.take() if isinstance(each, Refusal)] == ["store-full"]


BAD_TIMES = ("nonsense", "", "2026-02-30T00:00:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z")


@pytest.mark.parametrize("body", [None, Report(21.0, "Cel", 1, 21.0, 21.0, 21.0)])
@pytest.mark.parametrize("time", BAD_TIMES)
def test_an_event_with_a_bad_time_is_malformed_and_acknowledged_so_that_it_does_not_come_again(
    edge: SampleEdge, time: str, body: Report | None
) -> None:
    edge.deliver(event(msgspec.structs.replace(STILL, time=time), body=body, room="kitchen"))
    acknowledgement, refusal = edge.take()
    assert acknowledgement == EventAck(ids=(f"{event_id(1)}/1",))
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "malformed"


@pytest.mark.parametrize("received_s", [float("nan"), float("inf"), -1.0, 1e300])
def test_an_event_received_at_an_impossible_time_is_malformed(edge: SampleEdge, received_s: float) -> None:
    edge.deliver(event(STILL, received_s=received_s))
    assert [each.reason for each in edge.take() if isinstance(each, Refusal)] == ["malformed"]


@pytest.mark.parametrize("changes", [{"value": float("nan")}, {"total": float("inf")}, {"count": 0}])
def test_a_report_of_impossible_numbers_is_malformed(edge: SampleEdge, changes: dict[str, float]) -> None:
    fields = {"value": 21.0, "unit": "Cel", "count": 1, "total": 21.0, "low": 21.0, "high": 21.0}
    edge.deliver(event(STILL, body=Report(**(fields | changes)), room="kitchen"))
    assert [each.reason for each in edge.take() if isinstance(each, Refusal)] == ["malformed"]


@pytest.mark.parametrize("time", BAD_TIMES)
def test_an_answer_of_the_cloud_with_a_bad_time_is_malformed_and_acknowledged(edge: SampleEdge, time: str) -> None:
    edge.deliver_answers(cloud_says(event_id(1), time=time))
    assert edge.take() == []
    assert edge.metrics.value("tierwise_refused_total", reason="malformed") == 1
    assert len(edge.take(UPLINK_ACKS)) == 1


# --- over the uplink -------------------------------------------------------------------------------------------


def feature(number: int) -> Envelope:
    return Envelope(
        event=event_id(number),
        kind=Kind.FEATURE,
        privacy=Privacy.PUBLIC,
        key="home/cam1",
        payload=b"x",
        source="home/cam1/garden",
    )


def test_what_kafka_has_is_settled_and_what_it_will_never_take_too(edge: SampleEdge) -> None:
    with edge.spool.transaction() as tx:
        for number in range(3):
            edge.store.send_up(feature(number), tx)
    ack = UplinkAck(ids=(feature(0).id,), refused=(feature(1).id,))
    edge.deliver_uplink(topics.uplink_ack("home"), messages.encode(ack))
    assert edge.take(UPLINK) == [feature(2)]
    assert edge.metrics.value("tierwise_refused_total", reason="refused-by-the-cloud") == 1


def test_answers_of_the_cloud_are_acknowledged_after_they_are_taken(edge: SampleEdge) -> None:
    answer = cloud_says(event_id(1))
    edge.deliver_answers(answer)
    assert edge.take(UPLINK_ACKS) == [DownlinkAck(ids=(downlink_id(answer),))]
    assert edge.take_results() == [answer]


def test_the_same_answer_again_is_acknowledged_again_and_changes_nothing(edge: SampleEdge) -> None:
    answer = cloud_says(event_id(1))
    edge.deliver_answers(answer)
    edge.take(UPLINK_ACKS)
    edge.take()
    edge.deliver_answers(answer)
    assert edge.take(UPLINK_ACKS) == [DownlinkAck(ids=(downlink_id(answer),))]
    assert edge.take_results() == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"time": "garbage"}, "malformed"),
        ({"device": "+"}, "odd-name"),
        ({"stream": "a/b"}, "odd-name"),
    ],
)
def test_an_answer_that_cannot_be_taken_is_refused_acknowledged_and_holds_up_none_beside_it(
    edge: SampleEdge, changes: dict[str, str], reason: str
) -> None:
    good, bad = cloud_says(event_id(1)), cloud_says(event_id(2), **changes)
    edge.deliver_answers(bad, good)
    assert edge.take_results() == [good]
    assert edge.take(UPLINK_ACKS) == [DownlinkAck(ids=(downlink_id(bad), downlink_id(good)))]
    assert edge.metrics.value("tierwise_refused_total", reason=reason) == 1


def test_a_full_disk_is_no_messages_fault(edge: SampleEdge, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr(edge.store, "acknowledge_downlink", full)
    with pytest.raises(Retry):
        edge.deliver_answers(cloud_says(event_id(1)))
    assert edge.take() == []


def test_an_answer_about_another_site_is_not_published_here(edge: SampleEdge) -> None:
    edge.deliver_answers(cloud_says(event_id(1), site="elsewhere"))
    assert edge.take_results() == []


@pytest.mark.parametrize("topic", [topics.uplink_ack("home"), topics.downlink("home")])
def test_a_message_of_the_gateway_that_is_not_understood_is_counted(edge: SampleEdge, topic: str) -> None:
    edge.deliver_uplink(topic, b"\xff")
    assert edge.metrics.value("tierwise_refused_total", reason="malformed") == 1
    assert edge.take(UPLINK_ACKS) == []


def test_a_topic_that_is_not_the_sites_own_is_let_pass_by(edge: SampleEdge) -> None:
    edge.deliver_uplink(topics.downlink("elsewhere"), b"\xff")
    assert edge.metrics.value("tierwise_refused_total", reason="malformed") == 0


class Answers:
    """A handler that keeps what it receives."""

    def __init__(self) -> None:
        self.received_messages: list[Message] = []
        self.mark = 0

    def connected(self, session_present: bool) -> int:
        return 7

    def received(self, batch: Sequence[Message]) -> int:
        self.received_messages += batch
        return 8

    def confirmed(self, mark: int) -> None:
        self.mark = mark


def test_each_message_of_the_uplink_goes_to_the_part_that_its_topic_names(edge: SampleEdge) -> None:
    answers = Answers()
    download = Download(edge.settings, lambda: edge.settings.releases_root, edge.clock)
    uplink = UplinkDispatch(answers, download)
    metadata = Message(topics.release_metadata("1.root.json"), b"{}", True)
    answer = Message(topics.downlink("home"), b"...", False)
    chunk = Message(topics.release_chunk("home"), b"junk", False)
    assert uplink.connected(session_present=False) == 7
    assert uplink.received([metadata, answer, chunk]) == 8
    assert answers.received_messages == [answer]
    assert download.source.arrived.is_set()
    uplink.confirmed(3)
    assert answers.mark == 3
