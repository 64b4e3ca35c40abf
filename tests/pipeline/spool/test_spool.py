"""The spool: nothing acknowledged is lost, nothing is taken twice, whatever is killed."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from pipeline.errors import Retry, Stop
from pipeline.spool import Arrival, Item, Outgoing, Spool, file, handout, store

NOW = 1_700_000_000.0
OWN_ID = "018bcfe5-6800-7000-8000-000000000001"


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool.open(tmp_path / "spool.db", limit_bytes=1 << 20)
    yield opened
    opened.close()


def arrival(topic: str = "a", payload: bytes = b"21.5", own_id: str | None = None) -> Arrival:
    return Arrival(topic, payload, NOW, own_id)


def outgoing(name: str, payload: bytes = b"x", *, hop: str = "edge", event: str = "", kind: str = "") -> Outgoing:
    return Outgoing(id=name, hop=hop, topic="t", payload=payload, created_at=NOW, event=event, kind=kind)


def send(spool: Spool, *records: Outgoing) -> None:
    with spool.transaction() as tx:
        tx.send(*records)


def finish(spool: Spool, items: list[Item]) -> None:
    with spool.transaction() as tx:
        tx.finish(*items)


def after_kill(spool: Spool, folder: Path) -> Spool:
    """What a process killed now would find when it starts again: the file and its log, as they are on disk."""
    for suffix in ("", "-wal"):
        source = Path(f"{spool.path}{suffix}")
        if source.exists():
            shutil.copy(source, f"{folder / 'spool.db'}{suffix}")
    return Spool.open(folder / "spool.db", limit_bytes=spool.limit_bytes)


# --- inbox -----------------------------------------------------------------------------------------------------


def test_what_was_received_is_there_after_a_kill(spool: Spool, tmp_path: Path) -> None:
    (receipt,) = spool.receive([arrival()])
    (tmp_path / "again").mkdir()
    again = after_kill(spool, tmp_path / "again")
    assert [(item.id, item.payload) for item in again.waiting(9)] == [(receipt.id, b"21.5")]
    again.close()


def test_two_equal_readings_are_two_events(spool: Spool) -> None:
    first, second = spool.receive([arrival(), arrival()])
    (third,) = spool.receive([arrival()])
    assert len({first.id, second.id, third.id}) == 3
    assert not (first.repeat or second.repeat or third.repeat)


def test_an_own_id_is_taken_once_and_acknowledged_every_time(spool: Spool) -> None:
    first, second = spool.receive([arrival(own_id=OWN_ID), arrival(own_id=OWN_ID)])
    finish(spool, spool.waiting(9))
    (third,) = spool.receive([arrival(own_id=OWN_ID)])
    assert [r.id for r in (first, second, third)] == [OWN_ID] * 3
    assert [r.repeat for r in (first, second, third)] == [False, True, True]
    assert spool.waiting(9) == []


@pytest.mark.parametrize(("topic", "payload"), [("a", b"22"), ("b", b"21.5")])
def test_an_own_id_that_names_another_message_is_a_conflict_and_stores_nothing(
    spool: Spool, topic: str, payload: bytes
) -> None:
    first, reused, repeated = spool.receive(
        [arrival(own_id=OWN_ID), arrival(topic, payload, OWN_ID), arrival(own_id=OWN_ID)]
    )
    assert [r.conflict for r in (first, reused, repeated)] == [False, True, False]
    assert (reused.repeat, reused.payload) == (False, payload)
    assert [item.payload for item in spool.waiting(9)] == [b"21.5"]


def test_what_came_over_no_connection_leaves_nothing_when_it_is_finished(spool: Spool) -> None:
    spool.receive([arrival(own_id=OWN_ID)], link="")
    finish(spool, spool.waiting(9))
    assert spool.query("SELECT count(*) FROM inbox") == [(0,)]
    assert spool.receive([arrival(own_id=OWN_ID)], link="")[0].repeat


def test_a_redelivery_after_a_reconnect_is_recognised_once_for_each_stored_message(spool: Spool) -> None:
    first, second = spool.receive([arrival(), arrival()])
    spool.reconnected("site", session_present=True)
    again = spool.receive([arrival(), arrival(), arrival()])
    assert [r.repeat for r in again] == [True, True, False]
    assert [r.id for r in again[:2]] == [first.id, second.id]
    assert len(spool.waiting(9)) == 3


def test_a_finished_message_is_still_recognised_when_it_is_redelivered(spool: Spool) -> None:
    spool.receive([arrival()])
    finish(spool, spool.waiting(9))
    spool.reconnected("site", session_present=True)
    (again,) = spool.receive([arrival()])
    assert again.repeat
    assert spool.waiting(9) == []


def test_a_message_equal_to_one_that_the_broker_saw_acknowledged_is_new(spool: Spool) -> None:
    spool.receive([arrival()])
    spool.broker_acknowledged("site", spool.mark)
    spool.reconnected("site", session_present=True)
    assert not spool.receive([arrival()])[0].repeat


def test_a_broker_without_our_session_redelivers_nothing(spool: Spool) -> None:
    spool.receive([arrival()])
    spool.reconnected("site", session_present=False)
    assert not spool.receive([arrival()])[0].repeat


def test_links_are_told_apart(spool: Spool) -> None:
    spool.receive([arrival()], "site")
    spool.reconnected("uplink", session_present=True)
    assert not spool.receive([arrival()], "uplink")[0].repeat


def test_a_redelivery_in_a_transaction_that_failed_is_recognised_later(spool: Spool) -> None:
    spool.receive([arrival()])
    spool.reconnected("site", session_present=True)
    with pytest.raises(ZeroDivisionError), spool.transaction() as tx:
        assert tx.receive([arrival()])[0].repeat
        raise ZeroDivisionError
    assert spool.receive([arrival()])[0].repeat


def test_a_flood_of_one_stream_leaves_the_others_their_turn(spool: Spool) -> None:
    spool.receive([arrival("flood", b"%d" % n) for n in range(100)])
    spool.receive([arrival("calm", b"1"), arrival("calm", b"2")])
    topics = [item.topic for item in spool.waiting(4)]
    assert topics.count("calm") == 2
    assert [item.payload for item in spool.waiting(200) if item.topic == "flood"] == [b"%d" % n for n in range(2, 100)]


def test_what_is_claimed_is_handed_out_once_until_it_is_released(spool: Spool) -> None:
    spool.receive([arrival(payload=b"%d" % n) for n in range(4)])
    first, second = spool.waiting(2), spool.waiting(2)
    assert spool.waiting(2) == []
    spool.release(first)
    assert spool.waiting(9) == first
    finish(spool, first + second)
    assert spool.waiting(9) == []
    assert spool.waiting_count == 0


def test_one_message_at_a_time_goes_by_turns_over_the_topics_that_are_wanted(spool: Spool) -> None:
    spool.receive([arrival("busy", b"%d" % n) for n in range(5)] + [arrival("other"), arrival("quiet")])
    spool.receive([arrival("late")])
    turns = [item.topic for _ in range(6) for item in spool.waiting(1, lambda topic: topic != "other")]
    assert turns == ["busy", "quiet", "late", "busy", "busy", "busy"]
    assert [item.topic for item in spool.waiting(9)] == ["other", "busy"]


def test_the_oldest_message_of_wanted_topics_is_the_oldest_that_is_not_finished(spool: Spool) -> None:
    spool.receive([Arrival(topic, b"", NOW + n) for n, topic in enumerate("abc")])
    (first, *_) = spool.waiting(9)
    assert spool.oldest_waiting(lambda topic: topic != "b") == (NOW, "a")
    finish(spool, [first])
    assert spool.oldest_waiting(lambda topic: topic != "b") == (NOW + 2, "c")
    assert spool.oldest_waiting(lambda topic: topic == "a") is None


def test_one_call_hands_out_no_more_bytes_than_fit_in_memory(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handout, "HANDOUT_MAX_BYTES", 100)
    spool.receive([arrival(payload=bytes(60)) for _ in range(4)])
    assert [len(spool.waiting(9)) for _ in range(3)] == [2, 2, 0]


def test_a_finished_payload_leaves_no_trace_in_the_tables(spool: Spool) -> None:
    spool.receive([arrival(payload=b"planted"), arrival(payload=b"planted")])
    spool.broker_acknowledged("site", spool.mark - 1)
    finish(spool, spool.waiting(9))
    assert spool.size_bytes == 0
    assert spool.query("SELECT count(*) FROM inbox WHERE payload IS NOT NULL") == [(0,)]
    spool.broker_acknowledged("site", spool.mark)
    assert spool.query("SELECT count(*) FROM inbox") == [(0,)]


def test_rows_are_never_numbered_anew_after_a_restart(spool: Spool, tmp_path: Path) -> None:
    spool.receive([arrival()])
    spool.broker_acknowledged("site", spool.mark)
    finish(spool, spool.waiting(9))
    (tmp_path / "again").mkdir()
    again = after_kill(spool, tmp_path / "again")
    assert again.mark == spool.mark == 1
    again.close()


# --- outbox ----------------------------------------------------------------------------------------------------


def test_records_come_in_order_until_they_are_settled(spool: Spool) -> None:
    send(spool, outgoing("1"), outgoing("2"), outgoing("3"), outgoing("4", hop="site"))
    assert [r.id for r in spool.outgoing("edge", 2, NOW)] == ["1", "2"]
    assert spool.settle("edge", ["1", "never heard of"]) == 1
    assert [r.id for r in spool.outgoing("edge", 9, NOW)] == ["2", "3"]
    assert spool.backlog("edge") == 2


def test_what_was_sent_is_due_again_later_or_after_a_reconnect(spool: Spool) -> None:
    send(spool, outgoing("1"), outgoing("2"))
    spool.attempted("edge", ["1"], NOW + 5)
    assert [r.id for r in spool.outgoing("edge", 9, NOW + 4)] == ["2"]
    assert [(r.id, r.attempts) for r in spool.outgoing("edge", 9, NOW + 5)] == [("1", 1), ("2", 0)]
    spool.make_due("edge")
    assert [r.id for r in spool.outgoing("edge", 9, NOW)] == ["1", "2"]


def test_the_latest_of_an_id_replaces_the_earlier_and_is_due_at_once(spool: Spool) -> None:
    send(spool, outgoing("1", b"old"), outgoing("2"))
    (old, _) = spool.outgoing("edge", 9, NOW)
    spool.attempted("edge", ["1"], NOW + 5)
    send(spool, outgoing("1", b"new"))
    assert [(r.id, r.payload) for r in spool.outgoing("edge", 9, NOW)] == [("2", b"x"), ("1", b"new")]
    with spool.transaction() as tx:
        assert tx.settle_exactly([old]) == 0
    assert spool.backlog("edge") == 2


def test_a_withdrawn_event_leaves_the_outbox(spool: Spool) -> None:
    send(
        spool,
        outgoing("1", event="e", kind="pixels"),
        outgoing("2", event="e", kind="result"),
        outgoing("3", event="e", kind="pixels", hop="site"),
        outgoing("4", event="f", kind="pixels"),
        outgoing("5"),
    )
    with spool.transaction() as tx:
        assert tx.cancel("e", hop="edge", kinds=["pixels", "feature"]) == 1
    assert [r.id for r in spool.outgoing("edge", 9, NOW)] == ["2", "4", "5"]
    with spool.transaction() as tx:
        assert tx.cancel("e") == 2
        assert tx.cancel("") == 0
    assert [r.id for r in spool.outgoing("edge", 9, NOW)] == ["4", "5"]


def test_a_hop_without_acknowledgements_is_sent_a_bounded_number(spool: Spool) -> None:
    send(spool, *(outgoing(str(n)) for n in range(store.INFLIGHT_MAX + 1)))
    due = spool.outgoing("edge", 10_000, NOW)
    spool.attempted("edge", [r.id for r in due], NOW + 5)
    assert len(due) == store.INFLIGHT_MAX
    assert spool.outgoing("edge", 10_000, NOW) == []


def test_a_peer_that_is_away_holds_up_nobody_beside_it(spool: Spool) -> None:
    away = [outgoing(f"away {n}") for n in range(store.INFLIGHT_MAX)]
    send(spool, *away)
    spool.attempted("edge", [r.id for r in away], NOW + 5)
    send(spool, msgspec.structs.replace(outgoing("there"), topic="another"), outgoing("too many"))
    assert [r.id for r in spool.outgoing("edge", 10, NOW)] == ["there"]


def test_topics_of_a_hop_are_read_in_the_order_in_which_their_records_were_put(spool: Spool) -> None:
    send(spool, *(msgspec.structs.replace(outgoing(str(n)), topic="cab"[n % 3]) for n in range(7)))
    assert [r.id for r in spool.outgoing("edge", 5, NOW)] == ["0", "1", "2", "3", "4"]


def test_what_waited_too_long_is_given_up_for_its_hop_alone(spool: Spool) -> None:
    old = msgspec.structs.replace(outgoing("old"), created_at=NOW - 10)
    send(spool, old, msgspec.structs.replace(old, hop="site"), outgoing("new"))
    with spool.transaction() as tx:
        assert tx.expire("edge", NOW - 5) == 1
    assert [spool.backlog(hop) for hop in ("edge", "site")] == [1, 1]
    assert [r.id for r in spool.outgoing("edge", 9, NOW)] == ["new"]


# --- transactions and the file ---------------------------------------------------------------------------------


def test_a_transaction_is_all_or_nothing_with_the_agents_own_tables(spool: Spool) -> None:
    spool.migrate("test", ["CREATE TABLE IF NOT EXISTS mine(n INTEGER)"])
    spool.receive([arrival()])
    items = spool.waiting(1)
    with pytest.raises(ZeroDivisionError), spool.transaction() as tx:
        tx.finish(*items)
        tx.send(outgoing("1"))
        tx.db.execute("INSERT INTO mine VALUES (1)")
        raise ZeroDivisionError
    assert (spool.waiting_count, spool.backlog("edge"), spool.size_bytes) == (1, 0, 4)
    assert spool.query("SELECT * FROM mine") == []


def test_a_full_spool_says_so_and_keeps_what_it_has(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path / "s.db", limit_bytes=10)
    spool.receive([arrival(payload=bytes(6))])
    assert not spool.full
    send(spool, outgoing("1", bytes(4)))
    assert spool.full
    spool.settle("edge", ["1"])
    assert not spool.full
    spool.close()


def test_a_full_spool_stores_nothing_new_recognises_repeats_and_takes_new_input_when_there_is_room(
    tmp_path: Path,
) -> None:
    spool = Spool.open(tmp_path / "s.db", limit_bytes=10)
    first, second = arrival(payload=bytes(10), own_id=OWN_ID), arrival(own_id=OWN_ID[:-1] + "9")
    assert [r.full for r in spool.receive([first, second, arrival()])] == [False, True, True]
    receipts = spool.receive([first, second, arrival(own_id=OWN_ID)])
    assert [(r.repeat, r.conflict, r.full) for r in receipts] == [
        (True, False, False),
        (False, False, True),
        (False, True, False),
    ]
    (item,) = spool.waiting(9)
    finish(spool, [item])
    (receipt,) = spool.receive([second])
    assert (receipt.repeat, receipt.full) == (False, False)
    spool.close()


def test_an_agents_own_records_have_room_beside_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "OWN_RESERVED_BYTES", 20)
    spool = Spool.open(tmp_path / "s.db", limit_bytes=10, own_hops=("site",))
    send(spool, outgoing("1", bytes(20), hop="site"))
    assert not spool.full
    spool.close()
    spool = Spool.open(tmp_path / "s.db", limit_bytes=10, own_hops=("site",))
    send(spool, outgoing("1", bytes(29), hop="site"))
    assert not spool.full
    send(spool, outgoing("2", bytes(1), hop="site"))
    assert spool.full, "beyond their own room they count"
    spool.settle("site", ["2"])
    assert not spool.full
    spool.close()


def test_the_size_is_known_after_a_restart(spool: Spool, tmp_path: Path) -> None:
    spool.receive([arrival(payload=bytes(70))])
    send(spool, outgoing("1", bytes(30)))
    (tmp_path / "again").mkdir()
    again = after_kill(spool, tmp_path / "again")
    assert again.size_bytes == spool.size_bytes == 100
    again.close()


def test_the_file_shrinks_and_old_ids_are_forgotten(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "TIDY_EVERY", 3)
    monkeypatch.setattr(store, "SEEN_KEEP", 2)
    names = [OWN_ID[:-1] + str(n) for n in range(4)]
    spool.receive([arrival(payload=bytes(200_000), own_id=name) for name in names])
    spool.broker_acknowledged("site", spool.mark)
    before = spool.query("PRAGMA page_count")
    finish(spool, spool.waiting(9))
    assert spool.query("PRAGMA page_count") < before
    again = spool.receive([arrival(payload=bytes(200_000), own_id=name) for name in (names[0], names[3])])
    assert [r.repeat for r in again] == [False, True]


def test_a_thread_that_comes_after_the_close_is_told_so_and_finds_no_work(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path / "s.db", limit_bytes=1)
    spool.close()
    for late in (lambda: spool.receive([arrival()]), spool.scrub, lambda: spool.backlog("edge")):
        with pytest.raises(Retry, match="is closed"):
            late()
    assert spool.waiting(1) == []


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def generous() -> Iterator[None]:
    """A process whose files everybody may read."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("generous")
def test_nobody_else_may_read_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "device"
    spool = Spool.open(folder / "spool.db", limit_bytes=1)
    spool.receive([arrival()])
    assert {path.name: mode(path) for path in folder.iterdir()} == dict.fromkeys(
        ("spool.db", "spool.db-wal", "spool.db-shm", "spool.db.lock"), 0o600
    )
    assert mode(folder) == 0o700
    spool.close()


@pytest.mark.usefixtures("generous")
def test_files_that_others_could_read_are_taken_from_them(spool: Spool, tmp_path: Path) -> None:
    spool.receive([arrival()])
    (tmp_path / "again").mkdir()
    for suffix in ("", "-wal"):
        Path(f"{spool.path}{suffix}").chmod(0o644)
    again = after_kill(spool, tmp_path / "again")
    assert {mode(path) for path in (tmp_path / "again").iterdir()} == {0o600}
    assert mode(tmp_path / "again") == 0o700
    again.close()


def on_disk(spool: Spool) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(spool.path.parent.iterdir()))


def test_what_was_scrubbed_is_nowhere_on_the_disk(spool: Spool) -> None:
    send(spool, outgoing("1", b"planted" * 1000, event="e"))
    with spool.transaction() as tx:
        tx.cancel("e")
    assert b"planted" in on_disk(spool)
    spool.scrub()
    assert b"planted" not in on_disk(spool)


def test_a_program_that_reads_the_file_keeps_it_from_being_scrubbed_and_is_told_of(spool: Spool) -> None:
    spool._writer.execute("PRAGMA busy_timeout = 0")
    send(spool, outgoing("1"))
    reader = sqlite3.connect(spool.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM outbox").fetchall()
    send(spool, outgoing("2"))
    with pytest.raises(Retry, match="another program reads it"):
        spool.scrub()
    reader.close()
    spool.scrub()


def test_what_was_finished_is_gone_from_the_disk_after_a_round_of_tidying(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "TIDY_EVERY", 2)
    spool.receive([arrival(payload=b"planted" * 1000)], link="")
    finish(spool, spool.waiting(1))
    assert b"planted" not in on_disk(spool)


def test_what_was_committed_stands_although_tidying_fails(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: sqlite3.Connection) -> bool:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(store, "TIDY_EVERY", 1)
    monkeypatch.setattr(file, "empty_log", full)
    spool.receive([arrival()])
    assert len(spool.waiting(9)) == 1
    assert "was not tidied: database or disk is full" in caplog.text


def test_a_file_of_the_first_schema_keeps_its_ids_and_loses_what_its_cameras_left(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    db = sqlite3.connect(path)
    db.executescript(file.MIGRATIONS[0])
    db.execute("PRAGMA user_version = 1")
    db.execute("INSERT INTO seen(id) VALUES ('forgotten'), ('kept')")
    rows = [
        ("kept", "a", b"1", "site", 0),
        ("shot", "cam", b"2", "camera", 0),
        ("done", "cam", None, "camera", 1),
    ]
    db.executemany(
        "INSERT INTO inbox(id, topic, payload, received_at, link, sha256, done) VALUES (?, ?, ?, 0, ?, ?, ?)",
        [(*row[:4], hashlib.sha256(row[2] or b"").digest(), row[4]) for row in rows],
    )
    db.commit()
    db.close()
    spool = Spool.open(path, limit_bytes=1 << 20)
    assert spool.query("SELECT id, link FROM inbox") == [("kept", "site"), ("shot", "")]
    again = spool.receive([arrival("a", b"1", "kept"), arrival("a", b"2", "kept"), arrival("b", b"3", "forgotten")])
    assert [(r.repeat, r.conflict) for r in again] == [(True, False), (False, True), (True, False)]
    spool.close()


def test_a_second_process_is_refused(spool: Spool) -> None:
    with pytest.raises(Stop, match="in use by another agent"):
        Spool.open(spool.path, limit_bytes=1)


def test_a_file_that_is_no_database_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    path.write_bytes(b"this is no database, however long one looks at it" * 100)
    with pytest.raises(Stop, match=r"move the file away"):
        Spool.open(path, limit_bytes=1)


def test_a_file_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {len(file.MIGRATIONS) + 1}")
    db.close()
    with pytest.raises(Stop, match="newer release"):
        Spool.open(path, limit_bytes=1)


def test_a_full_disk_changes_nothing_and_asks_to_try_again(spool: Spool) -> None:
    spool._writer.execute("PRAGMA max_page_count = 1")  # what SQLite says then is what it says on a full disk
    with pytest.raises(Retry, match="disk is full"):
        spool.receive([arrival(payload=bytes(100_000))])
    spool._writer.execute("PRAGMA max_page_count = 100000")
    assert spool.waiting(9) == []
    assert spool.size_bytes == 0
    spool.receive([arrival()])
    assert len(spool.waiting(9)) == 1


# --- any order of things ---------------------------------------------------------------------------------------

CONTENTS = st.tuples(st.sampled_from("ab"), st.sampled_from([b"1", b"2"]))


class AnyOrder(RuleBasedStateMachine):
    """A broker with a persistent session, the spool, and a next hop; kills and lost acknowledgements between."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.lives = 0
        self.spool = Spool.open(self.folder / "spool.db", limit_bytes=1 << 30)
        self.published: Counter[tuple[str, bytes]] = Counter()
        self.own_ids: set[str] = set()
        self.queue: list[Arrival] = []
        """At the broker: not acknowledged, oldest first; the first `delivered` of them are with us."""
        self.delivered = 0
        self.claimed: list[Item] = []
        self.effects: Counter[tuple[str, bytes]] = Counter()
        self.effects_by_id: Counter[str] = Counter()
        self.next_hop: set[str] = set()

    @rule(content=CONTENTS)
    def publish(self, content: tuple[str, bytes]) -> None:
        self.published[content] += 1
        self.queue.append(Arrival(*content, NOW))

    @rule(n=st.integers(0, 5))
    def publish_with_an_own_id(self, n: int) -> None:
        name = OWN_ID[:-1] + str(n)
        self.own_ids.add(name)
        self.queue.append(Arrival("own", b"3", NOW, name))

    @rule(n=st.integers(1, 4))
    def deliver(self, n: int) -> None:
        batch = self.queue[self.delivered : self.delivered + n]
        receipts = self.spool.receive(batch)
        assert [r.topic for r in receipts] == [a.topic for a in batch]
        self.delivered += len(batch)

    @rule(n=st.integers(1, 4))
    def broker_reads_acknowledgements(self, n: int) -> None:
        n = min(n, self.delivered)
        self.delivered -= n
        del self.queue[:n]

    @precondition(lambda self: self.delivered == 0)
    @rule()
    def fence_returns(self) -> None:
        self.spool.broker_acknowledged("site", self.spool.mark)

    def reconnect(self) -> None:
        mark = self.spool.reconnected("site", session_present=True)
        unacknowledged, self.delivered = self.delivered, 0
        self.deliver(unacknowledged) if unacknowledged else None
        self.broker_reads_acknowledgements(unacknowledged)
        self.spool.broker_acknowledged("site", mark)

    @rule(again=st.booleans())
    def lose_the_connection(self, again: bool) -> None:
        if again and self.delivered:
            self.spool.reconnected("site", session_present=True)
            self.spool.receive(self.queue[: self.delivered // 2])
        self.reconnect()

    @rule()
    def kill(self) -> None:
        self.lives += 1
        folder = self.folder / str(self.lives)
        folder.mkdir()
        old, self.spool = self.spool, after_kill(self.spool, folder)
        old.close()
        self.claimed = []
        self.reconnect()

    @rule(n=st.integers(1, 3))
    def claim(self, n: int) -> None:
        items = self.spool.waiting(n)
        assert not {i.row for i in items} & {i.row for i in self.claimed}
        self.claimed += items

    @precondition(lambda self: self.claimed)
    @rule()
    def give_back(self) -> None:
        self.spool.release([self.claimed.pop(0)])

    @rule()
    def claim_and_work(self) -> None:
        self.claim(1)
        if self.claimed:
            self.work()

    @precondition(lambda self: self.claimed)
    @rule()
    def work(self) -> None:
        item = self.claimed.pop(0)
        with self.spool.transaction() as tx:
            tx.finish(item)
            tx.send(outgoing(item.id, event=item.id))
        self.effects_by_id[item.id] += 1
        if item.topic != "own":
            self.effects[item.topic, item.payload] += 1

    @rule(n=st.integers(1, 3), heard=st.booleans())
    def next_hop_acknowledges(self, n: int, heard: bool) -> None:
        records = self.spool.outgoing("edge", n, NOW)
        self.next_hop |= {r.id for r in records}
        if heard:
            self.spool.settle("edge", [r.id for r in records])

    def teardown(self) -> None:
        self.spool.release(self.claimed)
        self.claimed = []
        while self.delivered < len(self.queue):
            self.deliver(100)
        self.claim(1000)
        while self.claimed:
            self.work()
        while self.spool.backlog("edge"):
            self.next_hop_acknowledges(100, True)
        assert self.effects == self.published
        assert set(self.effects_by_id.values()) <= {1}
        assert self.own_ids <= self.effects_by_id.keys()
        assert self.next_hop == self.effects_by_id.keys()
        assert self.spool.size_bytes == 0
        self.spool.close()
        shutil.rmtree(self.folder)


TestAnyOrder = pytest.mark.slow(pytest.mark.slow(AnyOrder.TestCase))
TestAnyOrder.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)


CHILD = """
import sys, pathlib
from pipeline.spool import Arrival, Spool
spool = Spool.open(pathlib.Path(sys.argv[1]), limit_bytes=1 << 30)
for n in range(10**9):
    receipts = spool.receive([Arrival("t", b"%d" % (10 * n + k), 1.7e9) for k in range(10)])
    sys.stdout.write("".join(r.id + "\\n" for r in receipts))
    sys.stdout.flush()
    items = spool.waiting(5)
    with spool.transaction() as tx:
        tx.finish(*items)
        tx.db.executemany("INSERT INTO done VALUES (?)", [(item.id,) for item in items])
"""


def test_a_killed_process_keeps_every_id_that_it_told(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = Spool.open(path, limit_bytes=1)
    spool.migrate("test", ["CREATE TABLE IF NOT EXISTS done(id TEXT)"])
    spool.close()
    sent: list[str] = []
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            sent += [child.stdout.readline().strip() for _ in range(200)]
            os.kill(child.pid, signal.SIGKILL)
            sent += [line.strip() for line in child.stdout if line.endswith("\n")]
    spool = Spool.open(path, limit_bytes=1)
    kept = Counter(item.id for item in spool.waiting(10**6))
    kept.update(name for (name,) in spool.query("SELECT id FROM done"))
    assert set(sent) <= kept.keys()
    assert set(kept.values()) == {1}
    spool.close()


def test_an_agents_own_tables_are_brought_up_to_date_once_and_never_back(tmp_path: Path) -> None:
    first = "CREATE TABLE mine(n INTEGER); INSERT INTO mine VALUES (1)"
    second = "ALTER TABLE mine ADD COLUMN told TEXT NOT NULL DEFAULT ''"
    for scripts in ([first], [first], [first, second]):
        spool = Spool.open(tmp_path / "spool.db", limit_bytes=1 << 20)
        spool.migrate("mine", scripts)
        rows = spool.query("SELECT * FROM mine")
        spool.close()
    assert rows == [(1, "")]
    spool = Spool.open(tmp_path / "spool.db", limit_bytes=1 << 20)
    with pytest.raises(Stop, match="install the newer release again"):
        spool.migrate("mine", [first])
    spool.close()
