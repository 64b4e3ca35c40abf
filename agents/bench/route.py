"""The speed of routing: ours beside a stock Faust agent, quixstreams and raw aiokafka, on the same broker.

Each contestant is a process of its own that reads the same records from `topics.INGEST`, decides by headers and
produces to the topic of the record's level, with every delivery acknowledged. One after the other, on a broker that is
started for it (embedded) or given (empty: its topics are ours). What counts is the ratio within one run::

    >>> ratios({"tierwise": 60_000.0, "faust": 2_500.0, "quixstreams": 25_000.0})
    {'faust': 24.0, 'quixstreams': 2.4}

A contestant's rate is of the time between its first record and the acknowledgement of its last.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from agents.bench import contestants
from pipeline import clock, kafka, topics
from pipeline.errors import Retry, Stop
from pipeline.messages import Envelope, Kind, Privacy
from pipeline.privacy import gate
from pipeline.settings.addresses import KAFKA_PORT, host_port
from pipeline.settings.settings import KafkaSettings

OURS: Final = "tierwise"
GOALS: Final = {"faust": 20.0, "quixstreams": 2.4}
"""Our rate should be so many times the rate of a peer."""
SHARES: Final = {OURS: 1.0, "aiokafka": 1.0, "quixstreams": 1.0, "faust": 0.05}
"""Share of the records that a contestant routes; a stock agent takes 20 times as long for each."""
RECORDS: Final = 200_000
PAYLOAD: Final = bytes(300)
"""A payload as long as a feature of 256 components with its other fields."""
DEVICES: Final = 48
DELIVER_AT_ONCE: Final = 5_000
TIMEOUT_S: Final = 300
LOOKS: Final = 3


def run(records: int = RECORDS, address: str | None = None, peers_python: Path | None = None) -> dict[str, Any]:
    """Let each contestant route the same records.

    Parameters
    ----------
    records
        How many records to put on the ingest topic.
    address
        Address (``host:port``) of a broker without records of ours. With None, start the embedded broker.
    peers_python
        A Python that has quixstreams. None stands for this Python.

    Returns
    -------
    dict
        ``{"records", "broker", "contestants": {name: {"records", "records_per_s", "cpu_us_per_record"} or
        {"skipped": why}}, "ratios": {peer: times}, "cpu_ratios", "goals"}``

    Raises
    ------
    Stop
        The address is none, the given broker already has records on the ingest topic, or a contestant failed.
    Retry
        The given broker cannot be reached.
    """
    _check_address(address)
    with (
        tempfile.TemporaryDirectory(prefix="tierwise-bench-") as folder,
        _broker(address, Path(folder)) as where,
    ):
        settings = KafkaSettings(address=where)
        kafka.create_topics(settings)
        kafka.wait_for_topics(settings, topics.KAFKA_TOPICS, threading.Event(), timeout_s=30)
        _fill(settings, records)
        found = {
            name: _measure(name, where, max(1, round(records * share)), Path(folder), peers_python)
            for name, share in SHARES.items()
        }
    took = {name: outcome for name, outcome in found.items() if "skipped" not in outcome}
    return {
        "records": records,
        "broker": address or "embedded",
        "contestants": found,
        "ratios": ratios({name: outcome["records_per_s"] for name, outcome in took.items()}),
        "cpu_ratios": ratios({name: 1 / outcome["cpu_us_per_record"] for name, outcome in took.items()}),
        "goals": GOALS,
    }


def _check_address(address: str | None) -> None:
    for part in address.split(",") if address else ():
        try:
            host_port(part.strip(), KAFKA_PORT)
        except ValueError as error:
            raise Stop(f'"{part}" is no address of a Kafka broker ({error}): write host:port') from None


def ratios(rates: Mapping[str, float]) -> dict[str, float]:
    """Return our rate divided by the rate of each peer."""
    return {name: round(rates[OURS] / rate, 2) for name, rate in rates.items() if name != OURS}


def _fill(settings: KafkaSettings, count: int) -> None:
    look = kafka.Progress(settings, [topics.INGEST], "tierwise-bench")
    with contextlib.closing(look):
        if any(place.end for place in _measured(look).values()):
            raise Stop(
                f"Kafka at {settings.address} has records on {topics.INGEST}; the benchmark needs an empty broker"
            )
    producer = kafka.Producer(settings, "bench")
    time = clock.rfc3339(clock.SystemClock().now())
    with contextlib.closing(producer):
        for start in range(0, count, DELIVER_AT_ONCE):
            numbers = range(start, min(count, start + DELIVER_AT_ONCE))
            producer.deliver([gate.clear_record(_envelope(number, time)) for number in numbers])


def _measured(look: kafka.Progress) -> Mapping[tuple[str, int], kafka.GroupPosition]:
    """Return the ends of the topics; a broker has no leader for a new topic at once. Raises `Retry`."""
    for _ in range(LOOKS):
        with contextlib.suppress(Retry):
            return look.measure()
        look.close()
    return look.measure()


def _envelope(number: int, time: str) -> Envelope:
    device = f"bench/cam{number % DEVICES}"
    return Envelope(
        event=f"{number:036d}",
        kind=Kind.FEATURE,
        privacy=Privacy.PUBLIC,
        key=device,
        payload=PAYLOAD,
        source=f"{device}/garden",
        time=time,
        space="bench",
    )


def _measure(name: str, address: str, count: int, folder: Path, peers_python: Path | None) -> dict[str, Any]:
    python = str(peers_python) if peers_python and name == "quixstreams" else sys.executable
    outputs = {level.value: topic for level, topic in topics.ROUTED.items()}
    job = {
        "address": address,
        "count": count,
        "input": topics.INGEST,
        "outputs": outputs,
        "folder": str(folder),
    }
    try:
        done = subprocess.run(
            [python, contestants.__file__, name, json.dumps(job)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Stop(f"{name} did not route {count} records within {TIMEOUT_S} s") from None
    except OSError as error:
        return {"skipped": f"{python}: {error.strerror}"}
    if done.returncode == contestants.MISSING:
        return {"skipped": f"{name} is not installed for {python}"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise Stop(f"{name} ended with code {done.returncode}: {last[:500]}")
    outcome = json.loads(done.stdout.splitlines()[-1])
    return {
        "records": count,
        "records_per_s": round(count / outcome["wall_s"]),
        "cpu_us_per_record": round(outcome["cpu_s"] / count * 1e6, 2),
    }


@contextlib.contextmanager
def _broker(address: str | None, folder: Path) -> Iterator[str]:
    if address:
        yield address
        return
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pipeline.brokers.kafka",
            "--dir",
            str(folder / "kafka"),
            "--port",
            "0",
            "--parent-pid",
            str(os.getpid()),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as broker:
        assert broker.stdout is not None
        line = broker.stdout.readline()
        if not line:
            raise Stop("the embedded Kafka did not start; `tierwise doctor` may say why")
        try:
            yield json.loads(line)["ready"]
        finally:
            broker.terminate()
