"""The window: bounded, and it finds the message that a broker hangs up on."""

from __future__ import annotations

from collections import Counter
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import topics
from pipeline.errors import Rejected, Retry
from pipeline.mqtt.window import INFLIGHT_MAX, STRIKES, SUSPECT_MIN_BYTES, Publication, Window
from pipeline.privacy.gate import Cleared, clear_capture


def publication(payload: bytes, delivered: Counter[bytes] | None = None) -> Publication:
    outcomes = Counter[bytes]() if delivered is None else delivered
    cleared = clear_capture(topics.frame("home", "cam1", "garden"), payload)
    return Publication(cleared, lambda: outcomes.update([payload]), lambda _: None)


def large(n: int) -> bytes:
    return bytes([n]) * SUSPECT_MIN_BYTES


class Broker:
    """Numbers what it is sent."""

    def __init__(self) -> None:
        self.ids = count(1)
        self.sent: dict[int, bytes] = {}

    def publish(self, cleared: Cleared) -> int:
        packet_id = next(self.ids)
        self.sent[packet_id] = cleared.payload
        return packet_id


def test_without_a_connection_nothing_is_taken() -> None:
    window = Window()
    with pytest.raises(Retry, match="not started"):
        window.put(publication(b"1"))


def test_no_more_is_taken_than_may_be_unacknowledged() -> None:
    window, broker = Window(), Broker()
    window.opened("")
    for n in range(INFLIGHT_MAX):
        window.put(publication(b"%d" % n))
    assert not window.wait_writable(0)
    with pytest.raises(Retry, match="has not acknowledged"):
        window.put(publication(b"more"))
    window.send(broker.publish)
    window.acknowledged(1)
    window.put(publication(b"more"))


def test_what_was_lost_with_the_connection_is_forgotten() -> None:
    window, broker, outcomes = Window(), Broker(), Counter[bytes]()
    window.opened("")
    window.put(publication(b"1", outcomes))
    window.send(broker.publish)
    window.put(publication(b"2", outcomes))
    assert window.closed("gone") is None
    window.opened("")
    window.send(broker.publish)
    window.acknowledged(1)
    assert not outcomes
    assert broker.sent == {1: b"1"}


@given(poison=st.integers(0, 5), together=st.integers(1, 6))
def test_only_the_message_that_the_broker_hangs_up_on_is_given_up(poison: int, together: int) -> None:
    window, broker, outcomes = Window(), Broker(), Counter[bytes]()
    outbox = [large(n) for n in range(6)]
    given_up: list[bytes] = []
    for _ in range(6 * STRIKES * 6):
        window.opened("")
        for payload in list(outbox):
            if payload in outcomes or payload in given_up:
                continue
            try:
                window.put(publication(payload, outcomes))
            except Retry:
                continue
            if len(window._to_send) == together:
                break
        window.send(broker.publish)
        hung_up = False
        for packet_id, payload in sorted(broker.sent.items()):
            if payload == large(poison):
                hung_up = True
                break
            window.acknowledged(packet_id)
        broker.sent.clear()
        if hung_up and (refused := window.closed("hung up")) is not None:
            given_up.append(refused.cleared.payload)
    assert given_up == [large(poison)]
    assert outcomes == Counter(payload for payload in outbox if payload != large(poison))


def test_what_cannot_be_published_is_told_and_the_next_one_goes() -> None:
    window, broker = Window(), Broker()
    outcomes: list[str] = []

    def publish(cleared: Cleared) -> int:
        if cleared.payload == b"odd":
            raise Rejected("topic-invalid", "no such topic")
        return broker.publish(cleared)

    window.opened("")
    window.put(publication(b"odd")._replace(refused=lambda error: outcomes.append(error.reason)))
    window.put(publication(b"good"))
    window.send(publish)
    assert outcomes == ["topic-invalid"]
    assert broker.sent == {1: b"good"}


def test_a_small_message_is_never_given_up() -> None:
    window, broker = Window(), Broker()
    for _ in range(STRIKES + 1):
        window.opened("")
        window.put(publication(b"small"))
        window.send(broker.publish)
        assert window.closed("gone") is None
