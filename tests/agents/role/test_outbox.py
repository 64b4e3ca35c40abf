"""What waits in an outbox is read back as it was put there, or refused."""

from __future__ import annotations

import msgspec
import pytest
from sample_messages import NOW_S, event_id, result

from agents.role import outbox
from pipeline.errors import Rejected
from pipeline.messages import Event, EventAck, Tier
from pipeline.spool import Outgoing

ACK = EventAck(ids=("1",))


def waiting() -> Outgoing:
    return outbox.outgoing(ACK, hop="edge", topic="t", id="1", now_s=NOW_S)


def test_a_message_is_read_back_as_it_was_put() -> None:
    assert outbox.opened(waiting()) == ACK
    assert outbox.opened_as(EventAck, waiting()) == ACK


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "Telegram"},
        {"kind": ""},
        {"kind": Event.__name__},
        {"payload": msgspec.msgpack.encode({"ids": ["1"], "v": 2})},
        {"payload": b"\xff"},
    ],
)
def test_what_another_release_put_there_is_refused_by_name(changed: dict[str, object]) -> None:
    odd = msgspec.structs.replace(waiting(), **changed)
    for read in (outbox.opened, lambda out: outbox.cleared(out, to=Tier.EDGE)):
        with pytest.raises(Rejected, match="1 for edge waited in the outbox") as caught:
            read(odd)
        assert caught.value.reason == "outdated"


def test_a_message_of_another_kind_than_expected_is_refused() -> None:
    told = outbox.outgoing(result(event_id(1)), hop="edge", topic="t", id="1", now_s=NOW_S)
    with pytest.raises(Rejected) as caught:
        outbox.opened_as(EventAck, told)
    assert caught.value.reason == "outdated"
