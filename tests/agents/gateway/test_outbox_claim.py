"""Gateways that share a folder: each has an outbox of its own, and none is left behind."""

from __future__ import annotations

from pathlib import Path

from sample_messages import NOW_S

from agents.gateway import outbox_claim
from pipeline.messages import Privacy
from pipeline.spool import Outgoing, Spool

LIMIT = 1 << 20


def answer(number: int) -> Outgoing:
    return Outgoing(
        id=f"home/{number}/3",
        hop="down",
        topic="t",
        payload=b"answer",
        created_at=NOW_S,
        event=f"e{number}",
        kind="Result",
        privacy=Privacy.PUBLIC,
    )


def put(spool: Spool, *numbers: int) -> None:
    with spool.transaction() as tx:
        tx.send(*map(answer, numbers))


def waiting(spool: Spool) -> set[str]:
    return {record.id for record in spool.outgoing("down", 10_000, NOW_S)}


def test_each_takes_the_first_outbox_that_is_free_and_finds_it_again(tmp_path: Path) -> None:
    first, second = (outbox_claim.claim(tmp_path, limit_bytes=LIMIT) for _ in range(2))
    assert first.spool.path != second.spool.path
    assert first.name != second.name
    put(first.spool, 1)
    first.spool.close()
    again = outbox_claim.claim(tmp_path, limit_bytes=LIMIT)
    assert (again.name, waiting(again.spool)) == (first.name, {answer(1).id})
    again.spool.close()
    second.spool.close()


def test_what_a_gateway_that_is_gone_had_not_sent_is_taken_over(tmp_path: Path) -> None:
    first, second = (outbox_claim.claim(tmp_path, limit_bytes=LIMIT) for _ in range(2))
    put(first.spool, 1)
    put(second.spool, *range(2, 1200))
    assert outbox_claim.adopt(tmp_path, first.spool, "down", NOW_S) == 0  # the second lives
    second.spool.close()
    assert outbox_claim.adopt(tmp_path, first.spool, "down", NOW_S) == 1198
    assert waiting(first.spool) >= {answer(1).id, answer(2).id}
    assert first.spool.backlog("down") == 1199
    third = outbox_claim.claim(tmp_path, limit_bytes=LIMIT)
    assert (third.name, waiting(third.spool)) == (second.name, set())
    first.spool.close()
    third.spool.close()
