"""The stream role as a process, on the embedded Kafka and, with --real, on Apache Kafka: routed, counted, never
lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer
from kafka_brokers import ApacheKafka, EmbeddedKafka, damage_every_partition, eventually, free_port, unique
from stream_samples import envelope, report

from pipeline import clock, topics
from pipeline import kafka as client
from pipeline.kafka import Consumer, Producer
from pipeline.messages import (
    Envelope,
    Feature,
    Kind,
    Labelled,
    Privacy,
    Rank,
    Summary,
    Task,
    Vote,
    decode,
    encode,
)
from pipeline.privacy import gate
from pipeline.records import HourlySummary, Record, to_record
from pipeline.series.sqlite import LocalStore
from pipeline.settings.settings import KafkaSettings
from pipeline.stream.counts import Count

NOW = clock.rfc3339(time.time())


class Worker:
    """`tierwise stream` with a folder of its own."""

    def __init__(self, folder: Path, address: str, session_s: int) -> None:
        self.folder = folder
        self.port = free_port()
        folder.mkdir(exist_ok=True)
        (folder / "tierwise.toml").write_text(
            f'data = "data"\n[kafka]\naddress = "{address}"\nsession_timeout_s = {session_s}\n[http]\nstream = {self.port}\n'
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agents", "stream", "--settings", str(self.folder / "tierwise.toml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONWARNINGS": "default"},
            )

    def is_ready(self) -> bool:
        assert self.process and self.process.poll() is None, (self.folder / "log").read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2) as answer:
                return bool(json.load(answer)["ready"])
        except (OSError, urllib.error.HTTPError):
            return False

    def end(self, number: int) -> int:
        assert self.process
        self.process.send_signal(number)
        code = self.process.wait(timeout=10)
        self.process = None
        return code


@pytest.fixture(scope="module")
def new_worker(kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Worker]]:
    workers: list[Worker] = []

    def new() -> Worker:
        workers.append(Worker(tmp_path_factory.mktemp("worker"), kafka.address, kafka.session_s))
        workers[-1].start()
        return workers[-1]

    yield new
    for worker in workers:
        if worker.process is not None:
            worker.end(signal.SIGKILL)


@pytest.fixture(scope="module")
def one_worker(new_worker: Callable[[], Worker]) -> Worker:
    return new_worker()


@pytest.fixture
def running(one_worker: Worker) -> Worker:
    """One worker serves all tests, which may kill it."""
    if one_worker.process is None:
        one_worker.start()
    eventually(one_worker.is_ready)
    return one_worker


@pytest.fixture
def producer(kafka: Any) -> Iterator[Producer]:
    made = Producer(KafkaSettings(address=kafka.address), "test")
    yield made
    made.close()


class Reader:
    """All records of some topics whose event ids begin so; each test takes a site, and names its events after it."""

    def __init__(self, kafka: Any, prefix: str, *names: str) -> None:
        self.prefix = prefix
        self.consumer = Consumer(KafkaSettings(address=kafka.address), names, unique("group"), "reader")
        self.found: list[client.Fetched] = []

    def ids(self, count: int) -> list[str]:
        """Event ids, once there are as many different ones as expected."""
        eventually(lambda: len(set(self._ids())) >= count, timeout_s=60)
        return self._ids()

    def _ids(self) -> list[str]:
        self.found += self.consumer.poll(timeout_s=0.1)
        ids = (dict(item.headers).get("ce_id", b"").decode() for item in self.found)
        return [event for event in ids if event.startswith(self.prefix)]


@pytest.fixture
def reader(kafka: Any) -> Iterator[Callable[..., Reader]]:
    readers: list[Reader] = []

    def new(prefix: str, *names: str) -> Reader:
        readers.append(Reader(kafka, prefix, *names))
        return readers[-1]

    yield new
    for each in readers:
        each.consumer.close()


@pytest.fixture
def site() -> str:
    return unique("site")


def feature(site: str, number: int) -> Envelope:
    source = f"{site}/cam{number % 12}/garden"
    return envelope(Kind.FEATURE, b"x" * 300, source, event=f"{site}-{number}", time=NOW, space="s1")


def answered(site: str, number: int, path: tuple[str, ...], rank: Rank) -> Envelope:
    source = f"{site}/cam{number % 5}/garden"
    published = report(f"{site}-{number}", path, rank, source=source, time=NOW)
    return envelope(Kind.RESULT, encode(published), source, event=published.sighting, time=NOW)


def deliver(producer: Producer, envelopes: list[Envelope]) -> None:
    assert producer.deliver([gate.clear_record(item) for item in envelopes]) == ()


def counts(kafka: Any, site: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for value in client.read_all(KafkaSettings(address=kafka.address), topics.COUNTS).values():
        count = json.loads(value)
        assert set(count) == set(Count.__struct_fields__)
        if count["site"] == site:
            found[count["label"]] = found.get(count["label"], 0) + count["sightings"]
    return found


@pytest.mark.slow
def test_each_record_goes_where_its_level_says(
    kafka: Any, running: Worker, producer: Producer, reader: Callable[..., Reader], site: str
) -> None:
    source = f"{site}/cam1/garden"
    nameless = str(uuid.UUID(int=uuid.uuid4().int & ~(0xF << 76) | 0x8 << 76))
    sealed = b"nonce, ciphertext and tag are this long"
    edge = envelope(Kind.PIXELS, sealed, source, event=f"{site}-edge", privacy=Privacy.EDGE_PRIVATE, sealed_by="k")
    user = Envelope(
        event=nameless,
        kind=Kind.PIXELS,
        privacy=Privacy.USER_PRIVATE,
        key="ab" * 16,
        payload=sealed,
        sealed_by="u",
    )
    deliver(producer, [feature(site, 0), edge, user, answered(site, 1, ("animal",), Rank.KINGDOM)])
    expected = {
        topics.ROUTED[Privacy.PUBLIC]: f"{site}-0",
        topics.ROUTED[Privacy.EDGE_PRIVATE]: f"{site}-edge",
        topics.ROUTED[Privacy.USER_PRIVATE]: nameless,
        topics.RESULTS: f"{site}-1",
    }
    for topic, event in expected.items():
        assert reader(event, topic).ids(1) == [event]


def test_a_record_with_damaged_headers_is_told_on_the_rejected_topic_without_content(
    kafka: Any, running: Worker, producer: Producer, reader: Callable[..., Reader], site: str
) -> None:
    whole = to_record(feature(site, 0))
    without = Record(whole.topic, whole.key, b"planted", tuple(item for item in whole.headers if item[0] != "privacy"))
    assert producer.deliver([without]) == ()  # type: ignore[list-item]  # what no gate would clear
    rejected = reader(site, topics.REJECTED)

    def refusals() -> list[dict[str, Any]]:
        rejected.found += rejected.consumer.poll(timeout_s=0.1)
        found = [json.loads(item.value or b"") for item in rejected.found]
        return [item for item in found if item["reason"] == "privacy-missing" and item["size_bytes"] == len(b"planted")]

    assert eventually(refusals)
    assert all(item.key is None and b"planted" not in (item.value or b"") for item in rejected.found)


@pytest.mark.slow
def test_sightings_are_counted_once_also_after_a_kill(
    kafka: Any, running: Worker, producer: Producer, site: str
) -> None:
    felids = ("animal", "Felidae")
    deliver(producer, [answered(site, number, ("animal",), Rank.KINGDOM) for number in range(20)])
    deliver(producer, [answered(site, number, felids, Rank.FAMILY) for number in range(10)])
    eventually(lambda: counts(kafka, site) == {"animal": 10, "Felidae": 10})
    running.end(signal.SIGKILL)
    deliver(producer, [answered(site, number, felids, Rank.FAMILY) for number in range(5, 20)])
    running.start()
    eventually(lambda: counts(kafka, site) == {"animal": 0, "Felidae": 20}, timeout_s=60)


@pytest.mark.slow
def test_a_label_meets_its_feature_also_after_a_kill_between_them(
    kafka: Any, running: Worker, producer: Producer, site: str
) -> None:
    source, event = f"{site}/cam1/garden", f"{site}-seen"
    seen = encode(Feature(b"xyz", "", Rank.SPECIES, 2, ("animal",), 0.9, 41.0))
    deliver(producer, [envelope(Kind.FEATURE, seen, source, event=event, time=NOW, space="s1")])
    for revision, label in enumerate(("Felis catus", "Lynx lynx"), start=1):
        vote = encode(Vote(label, "0a11ce0a11ce"))
        deliver(producer, [envelope(Kind.LABEL, vote, source, event=event, time=NOW, revision=revision)])

    def published() -> tuple[str | None, ...]:
        value = client.read_all(KafkaSettings(address=kafka.address), topics.LABELLED).get(event.encode())
        return tuple(vote.label for vote in decode(Labelled, value).votes) if value else ()

    eventually(lambda: published() == ("Lynx lynx",), timeout_s=60)
    running.end(signal.SIGKILL)
    running.start()
    vote = encode(Vote("Vulpes vulpes", "0b0b0b0b0b0b"))
    deliver(producer, [envelope(Kind.LABEL, vote, source, event=event, time=NOW, revision=3)])
    eventually(lambda: published() == ("Lynx lynx", "Vulpes vulpes"), timeout_s=60)


@pytest.mark.slow
def test_an_hour_is_summarised_once_and_reaches_the_time_series(
    kafka: Any, running: Worker, producer: Producer, site: str
) -> None:
    hour = "2026-05-01T12:00:00.000Z"
    for revision in (1, 2, 1):
        summary = Summary(
            hour=hour, task=Task.METER, unit="W", count=4, total=40.0, low=1.0, high=20.0, revision=revision
        )
        deliver(
            producer,
            [envelope(Kind.SUMMARY, encode(summary), f"{site}/meter/power", revision=revision, time=hour)],
        )

    def published() -> HourlySummary | None:
        table = client.read_all(KafkaSettings(address=kafka.address), topics.SUMMARIES)
        value = table.get(f"{site}/meter/power|{hour}".encode())
        return json.loads(value) if value else None

    eventually(lambda: (published() or {}).get("revision") == 2)  # type: ignore[attr-defined]
    store = LocalStore(running.folder / "data" / "cloud-series.db", keep_days=365)
    eventually(lambda: [p.fields["revision"] for p in store.query("hour", tags={"site": site})] == [2])
    (point,) = store.query("hour", tags={"site": site})
    assert point.fields["mean"] == 10.0


@pytest.mark.slow
def test_no_record_is_lost_when_a_worker_joins_and_another_is_killed_under_load(
    kafka: Any,
    running: Worker,
    new_worker: Callable[[], Worker],
    producer: Producer,
    reader: Callable[..., Reader],
    site: str,
) -> None:
    features = [feature(site, number) for number in range(3000)]
    sent = threading.Event()

    def send() -> None:
        for start in range(0, len(features), 50):
            deliver(producer, features[start : start + 50])
        sent.set()

    sender = threading.Thread(target=send)
    sender.start()
    second = new_worker()
    eventually(second.is_ready, timeout_s=60)
    running.end(signal.SIGKILL)
    sender.join()
    assert sent.is_set()
    ids = reader(site, topics.ROUTED[Privacy.PUBLIC]).ids(len(features))
    assert set(ids) == {item.event for item in features}


@pytest.mark.slow
def test_it_waits_for_kafka_and_stops_in_time_with_kafka_dead(tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path / "kafka")
    broker.start()
    broker.stop()
    worker = Worker(tmp_path / "worker", broker.address, broker.session_s)
    worker.start()
    eventually((worker.folder / "data" / "stream").exists)
    broker.start()
    eventually(worker.is_ready)
    broker.kill()
    assert worker.end(signal.SIGTERM) == 0  # Faust's own stop never ends without its broker


@pytest.mark.slow
def test_it_goes_on_after_kafka_was_killed_and_came_back(tmp_path: Path, site: str) -> None:
    broker = EmbeddedKafka(tmp_path / "kafka")
    broker.start()
    worker = Worker(tmp_path / "worker", broker.address, broker.session_s)
    worker.start()
    eventually(worker.is_ready)
    producer = Producer(KafkaSettings(address=broker.address), "test")
    deliver(producer, [feature(site, number) for number in range(100)])
    producer.close()  # kafka-python forgets to close the socket of each attempt to come back
    broker.kill()
    broker.start()
    deliver(producer, [feature(site, number) for number in range(100, 200)])
    found = Reader(broker, site, topics.ROUTED[Privacy.PUBLIC])
    try:
        assert set(found.ids(200)) == {f"{site}-{number}" for number in range(200)}
    finally:
        found.consumer.close()
        producer.close()
        worker.end(signal.SIGTERM)
        broker.stop()


@pytest.mark.slow
def test_a_fatal_error_of_the_group_ends_it_in_one_line(tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path / "kafka")
    broker.start()
    client.create_topics(KafkaSettings(address=broker.address))
    worker = Worker(tmp_path / "worker", broker.address, broker.session_s)
    stranger = KafkaConsumer(topics.MODELS, bootstrap_servers=broker.address, group_id=topics.Group.STREAM)
    try:
        eventually(lambda: stranger.poll(timeout_ms=1000) or stranger.assignment(), interval_s=0)
        worker.start()
        assert worker.process and worker.process.wait(timeout=30) == 2
    finally:
        stranger.close()
        broker.stop()
    last = (worker.folder / "log").read_text().splitlines()[-2:]
    assert any("InconsistentGroupProtocolError" in line and "end it" in line for line in last), last


@pytest.mark.slow
def test_a_batch_that_cannot_be_read_is_told_on_the_rejected_topic_and_the_next_is_routed(
    tmp_path: Path, site: str
) -> None:
    broker = EmbeddedKafka(tmp_path / "kafka")
    broker.start()
    settings = KafkaSettings(address=broker.address, compression="lz4")
    client.create_topics(settings)
    for topic in (topics.INGEST, topics.CHANGELOGS[0]):
        damage_every_partition(broker, topic)
    worker = Worker(tmp_path / "worker", broker.address, broker.session_s)
    worker.start()
    try:
        with closing(Producer(settings, "test")) as producer:
            deliver(producer, [feature(site, 1)])
        with closing(Consumer(settings, [topics.ROUTED[Privacy.PUBLIC]], unique("group"), "test")) as reader:
            assert eventually(reader.poll, interval_s=0)
        with closing(Consumer(settings, [topics.REJECTED], unique("group"), "test")) as reader:
            refusal = json.loads(eventually(reader.poll, interval_s=0)[0].value or b"")
        assert refusal["reason"] == "record-unreadable"
        assert refusal["topic"].startswith(f"{topics.INGEST}/")
        assert refusal["topic"].endswith("/2")
        assert "from offset 0" in refusal["detail"]
    finally:
        worker.end(signal.SIGTERM)
        broker.stop()


@pytest.mark.real
@pytest.mark.parametrize("more", ["", "compression.type=zstd"])
def test_a_broker_with_default_properties_is_enough_and_too_short_a_session_is_named(
    tmp_path: Path, site: str, more: str
) -> None:
    broker = ApacheKafka(tmp_path)
    broker.format(more, defaults=True)
    broker.start()
    default, short = (Worker(tmp_path / f"worker-{s}", broker.address, s) for s in (6, 5))
    try:
        default.start()
        eventually(default.is_ready, timeout_s=60)
        with closing(Producer(KafkaSettings(address=broker.address), "test")) as producer:
            deliver(producer, [feature(site, 1)])
        public = topics.ROUTED[Privacy.PUBLIC]
        with closing(Consumer(KafkaSettings(address=broker.address), [public], unique("group"), "test")) as reader:
            eventually(reader.poll, interval_s=0)
        short.start()
        assert short.process and short.process.wait(timeout=30) == 2
        short.process = None
        assert "session_timeout_s" in (short.folder / "log").read_text()
    finally:
        for worker in (default, short):
            if worker.process is not None:
                worker.end(signal.SIGKILL)
        broker.stop()
