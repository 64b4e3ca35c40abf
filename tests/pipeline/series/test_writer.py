"""Time series: the writer never blocks and loses nothing silently; both stores keep the same promises."""

from __future__ import annotations

import http.server
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka_brokers import eventually
from sample_messages import event_id
from stream_samples import NOON_S, report, result
from structlog.testing import capture_logs

from pipeline.errors import Rejected, Retry, Stop
from pipeline.messages import Summary, Task
from pipeline.series import sqlite
from pipeline.series import writer as timeseries
from pipeline.series.influx import InfluxStore, line
from pipeline.series.points import (
    PartlyStored,
    Point,
    ServerFault,
    Value,
    reading_point,
    result_point,
    sighting_point,
    summary_point,
)
from pipeline.series.sqlite import DAY_MS, LocalStore
from pipeline.series.writer import Writer, open_writer
from pipeline.settings.settings import InfluxSettings


def point(number: int = 0, value: Value = 1.0, **tags: str) -> Point:
    return Point("reading", {"stream": "co2", **tags}, {"value": value}, NOON_S + number)


# --- the writer ------------------------------------------------------------------------------------------------


class Store:
    """Keeps points; `fault` says what is wrong with a batch."""

    def __init__(self, fault: Callable[[Sequence[Point]], Exception | None] = lambda points: None) -> None:
        self.fault = fault
        self.points: list[Point] = []
        self.batches = 0
        self.closed = False

    def write(self, points: Sequence[Point]) -> None:
        self.batches += 1
        error = self.fault(points)
        if error:
            raise error
        self.points += points

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeseries, "RETRY_FIRST_S", 0.001)
    monkeypatch.setattr(timeseries, "GATHER_S", 0.01)


def written(store: Store, points: Sequence[Point]) -> Writer:
    writer = Writer(store)
    writer.start()
    writer.write(points)
    writer.close(timeout_s=10)
    return writer


def test_points_are_stored_in_order_and_in_batches() -> None:
    store = Store()
    points = [point(number) for number in range(2500)]
    writer = written(store, points)
    assert (store.points, store.batches, store.closed) == (points, 3, True)
    assert (writer.written, writer.refused, writer.dropped, writer.backlog) == (2500, 0, 0, 0)


def test_a_store_that_comes_back_gets_everything_in_order() -> None:
    faults: list[Exception] = [Retry("away"), Stop("no such bucket"), Retry("away")]
    store = Store(lambda points: faults.pop(0) if faults else None)
    writer = Writer(store)
    writer.start()
    writer.write([point(number) for number in range(5)])
    eventually(lambda: writer.written == 5)
    writer.write([point(5)])
    eventually(lambda: writer.written == 6)
    assert store.points == [point(number) for number in range(6)]
    assert writer.trouble == ""
    writer.close()


def test_a_point_that_is_never_taken_is_dropped_alone() -> None:
    store = Store(lambda points: Rejected("bad", "bad") if point(7) in points else None)
    writer = written(store, [point(number) for number in range(20)])
    assert (writer.written, writer.refused) == (19, 1)
    assert store.points == [point(number) for number in range(20) if number != 7]


def test_writing_does_not_wait_for_a_store_that_is_stuck() -> None:
    stuck, entered = threading.Event(), threading.Event()

    def wait(points: Sequence[Point]) -> None:
        entered.set()
        stuck.wait(10)

    store = Store(wait)
    writer = Writer(store)
    writer.start()
    writer.write([point()])
    assert entered.wait(10)
    writer.write([point(1)])  # returns
    assert writer.backlog == 1
    stuck.set()
    writer.close()
    assert len(store.points) == 2


def test_the_oldest_points_make_room_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeseries, "BACKLOG_MAX_POINTS", 10)
    store = Store()
    writer = Writer(store)
    writer.write([point(number) for number in range(15)])
    writer.start()
    writer.close(timeout_s=10)
    assert store.points == [point(number) for number in range(5, 15)]
    assert writer.dropped == 5


def test_closing_with_the_store_away_ends_soon_and_counts_what_was_not_stored() -> None:
    store = Store(lambda points: Retry("away"))
    writer = written(store, [point(number) for number in range(3)])
    assert (writer.dropped, writer.trouble, store.closed) == (3, "away", True)


def test_a_writer_that_was_never_started_closes() -> None:
    Writer(Store()).close()


def test_fields_that_no_store_takes_are_left_out() -> None:
    nan, mixed = float("nan"), Point("m", {}, {"a": float("inf"), "b": 1.0}, NOON_S)
    store = Store()
    writer = written(store, [point(value=nan), mixed])
    assert store.points == [mixed._replace(fields={"b": 1.0})]
    assert writer.refused == 1


# --- what both stores promise ----------------------------------------------------------------------------------


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalStore]:
    store = LocalStore(tmp_path / "series.db", keep_days=100_000)
    yield store
    store.close()


def test_written_again_a_point_replaces_its_fields_and_keeps_the_others(local: LocalStore) -> None:
    local.write([point(value=1.0), Point("reading", {"stream": "co2"}, {"other": "x"}, NOON_S), point(value=2.0)])
    (found,) = local.query("reading")
    assert found == Point("reading", {"stream": "co2"}, {"value": 2.0, "other": "x"}, NOON_S)


def test_points_are_found_by_tags_and_time_newest_first(local: LocalStore) -> None:
    local.write([point(number, float(number), room=room) for number in range(5) for room in ("office", "hall")])
    found = local.query("reading", tags={"room": "hall"}, since_s=NOON_S + 1, until_s=NOON_S + 3)
    assert [each.fields["value"] for each in found] == [3.0, 2.0, 1.0]
    assert len(local.query("reading", limit=4)) == 4
    assert local.query("nothing") == []
    assert local.query("reading", tags={'"; DROP TABLE points': "x"}) == []


@pytest.mark.slow
@given(
    st.dictionaries(st.text(max_size=5), st.text(st.characters(codec="utf-8"), max_size=5)),
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=5),
        st.text(st.characters(codec="utf-8")) | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9),
        min_size=1,
    ),
)
def test_any_text_survives_the_sqlite_store(tags: dict[str, str], fields: dict[str, Value]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(Path(folder) / "series.db", keep_days=100_000)
        try:
            store.write([Point("m", tags, fields, NOON_S)])
            assert store.query("m") == [Point("m", tags, fields, NOON_S)]
        finally:
            store.close()


def test_points_older_than_they_are_kept_are_deleted(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "series.db", keep_days=30)
    now_s = time.time()
    store.write([Point("m", {}, {"v": 1}, now_s - 31 * DAY_MS / 1000), Point("m", {}, {"v": 2}, now_s)])
    assert [each.fields["v"] for each in store.query("m")] == [2]
    store.close()


def test_reading_where_nothing_was_written_makes_no_file(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "none" / "series.db", keep_days=30)
    assert store.query("reading") == []
    assert not (tmp_path / "none").exists()


def test_a_damaged_file_stops_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "series.db").write_bytes(b"no database, but long enough to be taken for one" * 100)
    with pytest.raises(Stop, match="move the file away"):
        LocalStore(tmp_path / "series.db", keep_days=30).query("reading")


def test_a_locked_file_is_retried(tmp_path: Path, local: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.series.sqlite.BUSY_TIMEOUT_S", 0.01)
    local.write([point()])
    other = sqlite3.connect(tmp_path / "series.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Retry, match="locked"):
        local.write([point(1)])
    other.execute("ROLLBACK")
    other.close()
    local.write([point(1)])


# --- InfluxDB's client against a small server that reads line protocol -----------------------------------------


class Influx(http.server.ThreadingHTTPServer):
    """Answers /api/v2/write: 204, or what `answers` says first; keeps the lines it took."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[int] = []
        self.refuses = "refuse-me"
        self.lines: list[str] = []
        self.paths: list[str] = []
        self.says = ""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Influx

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.paths.append(self.path)
        status = self.server.answers.pop(0) if self.server.answers else 204
        if self.headers["Authorization"] != "Token secret":
            status = 401
        if status == 204 and self.server.refuses in body:
            status = 400
        if status == 204 and "panic-over-me" in body:
            status = 500
        if status == 204:
            self.server.lines += re.split(r"\n(?=\w+,)", body)
        self.send_response(status)
        said = self.server.says.encode() if status >= 400 else b""
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def influx() -> Iterator[Influx]:
    server = Influx()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def settings(server: Influx, token: str = "secret") -> InfluxSettings:
    return InfluxSettings(url=f"http://127.0.0.1:{server.server_port}", token=token)


def test_points_reach_influx_in_nanoseconds_in_bucket_and_organisation(influx: Influx) -> None:
    store = InfluxStore(settings(influx))
    store.write([point(), point(1, 2.5)])
    store.close()
    assert influx.lines == [
        "reading,stream=co2 value=1 1777636800000000000",
        "reading,stream=co2 value=2.5 1777636801000000000",
    ]
    assert re.fullmatch(r"/api/v2/write\?org=tierwise&bucket=tierwise&precision=ns", influx.paths[0])


@pytest.mark.parametrize(
    ("given_point", "expected"),
    [
        (Point("a b,c", {"x y": "1 ,="}, {"f": 1.5}, 1.0), r"a\ b\,c,x\ y=1\ \,\= f=1.5 1000000000"),
        (Point("m", {"empty": "", "t": "a\nb"}, {"i": 3}, 1.0), r"m,t=a\ b i=3i 1000000000"),
        (Point("m", {}, {"s": 'say "x"\\', "b": True}, 1.0), r'm b=true,s="say \"x\"\\" 1000000000'),
    ],
)
def test_line_protocol_is_escaped(given_point: Point, expected: str) -> None:
    assert line(given_point) == expected


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, Rejected), (413, Rejected), (422, Rejected), (401, Stop), (404, Stop), (429, Retry), (503, Retry)],
)
def test_what_influx_answers_becomes_our_errors(influx: Influx, status: int, error: type[Exception]) -> None:
    influx.answers = [status]
    store = InfluxStore(settings(influx))
    with pytest.raises(error, match=str(status)):
        store.write([point()])
    store.write([point()])
    store.close()
    assert len(influx.lines) == 1


def test_a_wrong_token_names_the_settings_and_not_the_token(influx: Influx) -> None:
    store = InfluxStore(settings(influx, token="wrong"))
    with pytest.raises(Stop, match="Check token") as caught:
        store.write([point()])
    store.close()
    assert "wrong" not in str(caught.value)


def test_a_server_that_is_away_is_retried(influx: Influx) -> None:
    influx.server_close()
    store = InfluxStore(settings(influx))
    with pytest.raises(Retry):
        store.write([point()])
    store.close()


def test_a_writer_with_influx_survives_an_outage_and_drops_only_the_bad_point(influx: Influx, tmp_path: Path) -> None:
    influx.answers = [503, 503]
    writer = open_writer(settings(influx), tmp_path / "unused.db", keep_days=30)
    writer.start()
    writer.write([point(number, room="refuse-me" if number == 3 else "ok") for number in range(6)])
    eventually(lambda: (writer.written, writer.refused) == (5, 1))
    writer.close(timeout_s=10)
    assert len(influx.lines) == 5
    assert not (tmp_path / "unused.db").exists()


def test_an_influx_that_answers_500_to_one_point_gets_all_others(influx: Influx, tmp_path: Path) -> None:
    writer = open_writer(settings(influx), tmp_path / "unused.db", keep_days=30)
    writer.start()
    writer.write([point(number, room="panic-over-me" if number == 3 else "ok") for number in range(6)])
    eventually(lambda: (writer.written, writer.refused) == (5, 1))
    writer.write([point(7, room="ok")])
    eventually(lambda: writer.written == 6)
    writer.close(timeout_s=10)
    assert (writer.dropped, writer.trouble) == (0, "")
    assert sum("room=ok" in each for each in set(influx.lines)) == 6


# --- what is written -------------------------------------------------------------------------------------------

SUMMARY = Summary(hour="2026-05-01T12:00:00Z", task=Task.METER, unit="W", count=2, total=3.0, low=1.0, high=2.0)


@pytest.mark.parametrize(
    "made",
    [result_point(result()), sighting_point(report()), reading_point("home/room1/co2", 640, "ppm", NOON_S),
     summary_point("home/room1/power", SUMMARY)],
)  # fmt: skip
def test_our_points_are_stored_alike_in_both(made: Point, local: LocalStore) -> None:
    local.write([made])
    (found,) = local.query(made.measurement)
    assert found == made._replace(tags=dict(made.tags))
    assert line(made).rpartition(" ")[2].startswith("1777636800000")
    assert {"site", "device", "stream"} <= made.tags.keys()


def test_without_a_url_points_go_to_the_sqlite_twin(tmp_path: Path) -> None:
    writer = open_writer(InfluxSettings(), tmp_path / "data" / "series.db", keep_days=100_000)
    writer.start()
    writer.write([point()])
    writer.close(timeout_s=10)
    assert LocalStore(tmp_path / "data" / "series.db", keep_days=30).query("reading") == [point()]


def test_a_file_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "series.db", keep_days=10_000)
    store.write([point()])
    store.close()
    with sqlite3.connect(tmp_path / "series.db") as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    for _ in range(2):  # the second write does not take the file for its own either
        with pytest.raises(Stop, match="schema version 99"):
            store.write([point()])


# --- a point over which the server fails, and what is lost ------------------------------------------------------


def test_a_server_that_fails_over_one_point_stores_all_others() -> None:
    bad = [point(7), point(13)]
    store = Store(lambda points: ServerFault("500: panic") if any(each in points for each in bad) else None)
    writer = Writer(store)
    writer.start()
    writer.write([point(number) for number in range(20)])
    eventually(lambda: writer.written == 18)
    writer.close(timeout_s=10)
    assert (writer.refused, writer.dropped, writer.trouble) == (2, 0, "")
    assert {each.time_s for each in store.points} == {
        point(number).time_s for number in range(20) if number not in (7, 13)
    }


def test_a_server_that_fails_over_every_point_keeps_them_all() -> None:
    ill = [True]
    store = Store(lambda points: ServerFault("500: disk full") if ill else None)
    writer = Writer(store)
    writer.start()
    writer.write([point(number) for number in range(20)])
    eventually(lambda: store.batches > 40)  # long after it began to try them alone
    ill.clear()
    eventually(lambda: writer.written == 20)
    writer.close(timeout_s=10)
    assert (writer.refused, writer.dropped) == (0, 0)


def test_a_single_bad_point_waits_until_another_shows_that_the_server_is_well() -> None:
    store = Store(lambda points: ServerFault("500") if point(0) in points else None)
    writer = Writer(store)
    writer.start()
    writer.write([point(0)])
    eventually(lambda: store.batches > 10)
    assert (writer.refused, writer.dropped) == (0, 0)
    writer.write([point(1)])
    eventually(lambda: (writer.written, writer.refused) == (1, 1))
    writer.close(timeout_s=10)


def test_a_store_that_took_all_but_some_is_not_asked_again() -> None:
    store = Store(lambda points: PartlyStored("dropped 900 points outside retention policy", 900))
    writer = written(store, [point(number) for number in range(1000)])
    assert (store.batches, writer.written, writer.refused) == (1, 100, 900)


def test_a_bug_of_a_client_over_one_point_loses_that_point_alone() -> None:
    store = Store(lambda points: TypeError("unhashable") if point(7) in points else None)
    writer = written(store, [point(number) for number in range(20)])
    assert (writer.written, writer.refused) == (19, 1)


def test_losses_are_counted_shown_and_logged_when_they_begin_and_when_they_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timeseries, "BACKLOG_MAX_POINTS", 10)
    away = [True]
    store = Store(lambda points: Retry("away") if away else None)
    writer = Writer(store)
    with capture_logs() as logs:
        writer.start()
        for number in range(30):
            writer.write([point(number)])
        eventually(lambda: writer.trouble)
        assert re.fullmatch(r"away; \d+ points wait; \d+ points dropped", writer.state())
        away.clear()
        eventually(lambda: writer.written + writer.dropped == 30)
        eventually(lambda: not writer.trouble)
        writer.close(timeout_s=10)
        writer.write([point(31)])
    assert [entry["event"] for entry in logs if "dropped" in entry["event"]] == [
        "the oldest points of the time series are dropped",
        "no more points of the time series are dropped",
    ]
    assert sum(entry["event"] == "time series cannot be stored" for entry in logs) == 1
    assert sum(entry["event"] == "time series are stored again" for entry in logs) == 1
    assert sum(writer.counts().values()) == 31  # the last came after the end
    assert writer.state() == f"{writer.dropped} points dropped"


def test_points_that_a_stop_leaves_unstored_are_counted_and_logged_once() -> None:
    with capture_logs() as logs:
        writer = written(Store(lambda points: Retry("away")), [point(number) for number in range(3)])
        writer.close()
    ends = [entry for entry in logs if entry["event"].startswith("the end came")]
    assert [(entry["dropped"], entry["reason"]) for entry in ends] == [(3, "away")]
    assert writer.dropped == 3


def test_points_of_a_store_that_is_stuck_at_the_end_are_counted() -> None:
    stuck = threading.Event()

    def wait(points: Sequence[Point]) -> None:
        stuck.wait(10)

    writer = Writer(Store(wait))
    writer.start()
    writer.write([point(number) for number in range(3)])
    eventually(lambda: not writer.backlog)
    writer.close(timeout_s=0.01)
    assert writer.dropped == 3
    stuck.set()


# --- nanoseconds -----------------------------------------------------------------------------------------------


def test_readings_of_one_millisecond_are_all_kept_and_a_repeat_is_the_same_point(local: LocalStore) -> None:
    burst = [reading_point("home/a/b", float(n), "W", NOON_S, event_id(n)) for n in range(100)]
    local.write(burst)
    local.write(burst)
    assert len(local.query("reading", since_s=NOON_S, until_s=NOON_S)) == 100
    assert len({line(each).rpartition(" ")[2] for each in burst}) == 100
    assert all(line(each).rpartition(" ")[2].startswith("1777636800000") for each in burst)


def test_a_file_in_milliseconds_is_upgraded_and_what_comes_again_is_not_there_twice(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "series.db")
    old.executescript(sqlite._MIGRATIONS[0])
    old.execute("PRAGMA user_version = 1")
    answer, sighting = result_point(result()), sighting_point(report())
    reading = reading_point("home/a/b", 1.0, "W", NOON_S, event_id(1))
    for each in (answer, sighting, reading):
        measurement, tags, time_ns, fields = sqlite._row(each)
        old.execute("INSERT INTO points VALUES (?, ?, ?, ?)", (measurement, tags, time_ns // 1_000_000, fields))
    old.commit()
    old.close()
    store = LocalStore(tmp_path / "series.db", keep_days=100_000)
    with pytest.raises(Retry, match="an earlier release wrote it"):
        store.query("result")
    another = reading_point("home/a/b", 2.0, "W", NOON_S, event_id(2))
    store.write([answer, sighting, reading, another])
    assert store.query("result") == [answer]
    assert store.query("sighting") == [sighting]
    assert sorted(each.fields["value"] for each in store.query("reading")) == [1.0, 2.0]
    store.close()


def test_a_renewed_token_is_read_from_its_file(influx: Influx, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")
    store = InfluxStore(InfluxSettings(url=f"http://127.0.0.1:{influx.server_port}", token="old", token_file=str(file)))
    with pytest.raises(Stop, match="Check token"):
        store.write([point()])
    file.write_text("secret\n")
    store.write([point()])
    store.close()
    assert len(influx.lines) == 1


@pytest.mark.parametrize("reason", ["dropped 2 points outside retention policy of duration 24h0m0s", "type conflict"])
def test_what_influx_says_it_dropped_is_believed(influx: Influx, reason: str) -> None:
    influx.says = f'{{"message":"failure writing points to database: partial write: {reason} dropped=2"}}'
    influx.answers = [422]
    store = InfluxStore(settings(influx))
    with pytest.raises(PartlyStored) as caught:
        store.write([point(number) for number in range(5)])
    store.close()
    assert caught.value.refused == 2
