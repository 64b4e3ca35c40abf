"""The time-series writer on a real server that takes InfluxDB's v2 writes (QuestDB; `make test-real`)."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka_brokers import eventually, free_port

from pipeline.errors import Rejected, Retry
from pipeline.series.influx import InfluxStore
from pipeline.series.points import Point, reading_point
from pipeline.series.writer import Writer
from pipeline.settings.settings import InfluxSettings

pytestmark = pytest.mark.real

FETCH = Path(__file__).parents[1] / "real" / "questdb" / "fetch.sh"
NOW_S = 1_770_000_000.0


class QuestDb:
    """One server on loopback, small."""

    def __init__(self, folder: Path) -> None:
        home = subprocess.run([FETCH], check=True, capture_output=True, text=True).stdout.strip()
        self.folder = folder
        self.port = free_port()
        (folder / "conf").mkdir()
        (folder / "conf" / "server.conf").write_text(
            f"http.bind.to=127.0.0.1:{self.port}\nhttp.min.enabled=false\npg.enabled=false\nline.tcp.enabled=false\n"
            "shared.worker.count=1\ntelemetry.enabled=false\ncairo.wal.enabled.default=false\n"
        )
        self.command = [
            str(shutil.which("java")),
            *("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            *("-p", f"{home}/questdb-9.3.0.jar", "-m", "io.questdb/io.questdb.ServerMain", "-d", str(folder)),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> InfluxSettings:
        return InfluxSettings(url=f"http://127.0.0.1:{self.port}", token="any", org="tierwise", bucket="tierwise")

    def start(self) -> None:
        with (self.folder / "out").open("ab") as out:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        eventually(self._answers, 60)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "out").read_text()[-2000:]
        try:
            return bool(self.query("select 1"))
        except OSError:
            return False

    def query(self, sql: str) -> list[list[Any]]:
        address = f"http://127.0.0.1:{self.port}/exec?{urllib.parse.urlencode({'query': sql})}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            rows: list[list[Any]] = json.loads(answer.read())["dataset"]
            return rows


@pytest.fixture(scope="module")
def questdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuestDb]:
    server = QuestDb(tmp_path_factory.mktemp("questdb"))
    server.start()
    yield server
    server.kill()


def test_points_are_stored_with_their_tags_fields_and_milliseconds(questdb: QuestDb) -> None:
    store = InfluxStore(questdb.settings)
    store.write([reading_point("home/room 1,a=b/co2", 640.5, "ppm", NOW_S + 0.125)])
    store.close()
    found = eventually(lambda: questdb.query("select site, device, stream, unit, value, timestamp from reading"))
    assert found == [["home", "room 1,a=b", "co2", "ppm", 640.5, "2026-02-02T02:40:00.125000Z"]]


def test_a_line_that_is_refused_for_good_is_told_as_such_and_the_others_are_stored(questdb: QuestDb) -> None:
    store = InfluxStore(questdb.settings)
    store.write([Point("typed", {"a": "b"}, {"value": 1.0}, NOW_S)])
    with pytest.raises(Rejected, match="400"):
        store.write([Point("typed", {"a": "b"}, {"value": "text"}, NOW_S + 1)])
    store.close()
    writer = Writer(InfluxStore(questdb.settings))
    writer.start()
    points = [Point("typed", {"a": "b"}, {"value": float(number)}, NOW_S + 10 + number) for number in range(20)]
    points[7] = Point("typed", {"a": "b"}, {"value": "text"}, NOW_S + 17)
    writer.write(points)
    writer.close(20)
    assert (writer.written, writer.refused, writer.dropped) == (19, 1, 0)
    stored = eventually(lambda: questdb.query("select distinct timestamp from typed where value >= 0"))
    assert len(stored) == 20


def test_what_waits_while_the_server_is_away_is_stored_when_it_is_back(questdb: QuestDb) -> None:
    questdb.kill()
    with pytest.raises(Retry):
        InfluxStore(questdb.settings).write([reading_point("home/a/b", 1.0, "W", NOW_S)])
    writer = Writer(InfluxStore(questdb.settings))
    writer.start()
    writer.write([Point("away", {}, {"value": float(number)}, NOW_S + number) for number in range(100)])
    eventually(lambda: writer.trouble)
    began = time.monotonic()
    questdb.start()
    eventually(lambda: writer.written == 100, 90)
    writer.close()
    assert len(eventually(lambda: questdb.query("select distinct timestamp from away"))) == 100
    assert writer.dropped == 0, time.monotonic() - began
