"""Metrics stay bounded, logs stay one line of JSON, the HTTP port answers only what it has."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from agents.role import logs
from agents.role.health_server import HealthServer
from agents.role.telemetry import STREAMS_MAX, Metrics
from pipeline.errors import Stop
from pipeline.messages import Privacy, Rank, Result, Task, Tier


def result(rule: str = "margin-below-risk") -> Result:
    return Result(
        event="0193",
        time="2026-01-01T00:00:00.000Z",
        site="home",
        device="cam1",
        stream="garden",
        sighting=None,
        task=Task.WILDLIFE,
        tier=Tier.EDGE,
        revision=2,
        pending=None,
        rank=Rank.FAMILY,
        label="Felidae",
        path=("animal", "Felidae"),
        probability=0.9,
        privacy=Privacy.PUBLIC,
        rule=rule,
        reason="",
        model="lite0@1",
        latency_ms=41.0,
    )


def test_an_answer_is_counted_by_tier_rank_and_rule_and_its_latency_lands_in_a_bucket() -> None:
    metrics = Metrics()
    metrics.answered(result())
    assert metrics.value("tierwise_answered_total", tier="edge", rank="family", rule="margin-below-risk") == 1
    assert metrics.value("tierwise_latency_ms_bucket", tier="edge", le="50.0") == 1
    assert metrics.value("tierwise_latency_ms_bucket", tier="edge", le="20.0") == 0


def test_a_flood_of_invented_streams_grows_the_registry_no_further_than_its_bound() -> None:
    metrics = Metrics()
    for number in range(STREAMS_MAX + 500):
        metrics.received(f"home/cam1/x{number}", "frame")
    assert metrics.exposition().count(b"tierwise_events_received_total{") == STREAMS_MAX + 1
    assert metrics.value("tierwise_events_received_total", stream="other", channel="frame") == 500
    metrics.received("home/cam1/x0", "frame")
    assert metrics.value("tierwise_events_received_total", stream="home/cam1/x0", channel="frame") == 2


def test_a_hop_counts_records_and_bytes() -> None:
    metrics = Metrics()
    metrics.hop("device-edge", 300)
    metrics.hop("device-edge", 20)
    assert metrics.value("tierwise_hop_bytes_total", hop="device-edge") == 320
    assert metrics.value("tierwise_hop_records_total", hop="device-edge") == 2


def test_a_backlog_is_measured_at_each_scrape_and_a_closed_store_fails_no_scrape() -> None:
    metrics = Metrics()
    waiting = [3]
    metrics.backlog("edge", lambda: waiting[0])
    metrics.backlog("uplink", lambda: 1 / 0)
    assert metrics.value("tierwise_backlog", hop="edge") == 3
    waiting[0] = 4
    assert b'tierwise_backlog{hop="edge"} 4.0' in metrics.exposition()
    assert b'tierwise_backlog{hop="uplink"} NaN' in metrics.exposition()


def test_health_says_503_until_ready_and_other_paths_are_not_there() -> None:
    told = {"ready": False}
    server = HealthServer(lambda: (told["ready"], told), Metrics())
    port = server.open(0, "http.device")
    try:
        assert _status(port, "/health") == 503
        told["ready"] = True
        assert _status(port, "/health") == 200
        assert _status(port, "/metrics?name=x") == 200
        assert _status(port, "/../etc/passwd") == 404
        with pytest.raises(Stop, match=rf"127.0.0.1:{port} .*`http\.edge`"):
            HealthServer(lambda: (True, {}), Metrics()).open(port, "http.edge")
    finally:
        server.close()


def _status(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


LOGS = """
import logging, structlog
from agents.role.logs import configure_logs
from pipeline.settings.settings import LogSettings
configure_logs(LogSettings(format=%r, level="info"), "edge")
structlog.get_logger("ours").info("released", model="lite0@3", path=__import__("pathlib").Path("x"))
structlog.get_logger("ours").debug("hidden")
logging.getLogger("theirs").warning("lost %%s", "connection")
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger("ours").exception("failed")
"""


def _logged(form: str) -> list[str]:
    run = subprocess.run([sys.executable, "-c", LOGS % form], capture_output=True, text=True, check=True)
    return run.stderr.splitlines()


@pytest.mark.slow
def test_logs_are_one_json_object_a_line_for_ours_and_for_libraries() -> None:
    ours, theirs, failed = map(json.loads, _logged("json"))
    assert (ours["event"], ours["model"], ours["path"], ours["level"]) == ("released", "lite0@3", "x", "info")
    assert (ours["role"], ours["logger"]) == ("edge", "ours")
    assert (theirs["event"], theirs["level"], theirs["role"]) == ("lost connection", "warning", "edge")
    assert failed["level"] == "error" and "ZeroDivisionError" in failed["exception"]


def test_logs_are_readable_lines_on_request() -> None:
    lines = _logged("text")
    assert "released" in lines[0] and "model=lite0@3" in lines[0]
    assert any("ZeroDivisionError" in line for line in lines)


PLANTED = """
import structlog
from agents.role.logs import configure_logs
from pipeline.settings.settings import LogSettings
configure_logs(LogSettings(format=%r, level="info"), "edge")
WORD = bytes(reversed(b"YRANAC"))  # from Python 3.13 on, a traceback shows the lines of `python -c`, too
def answer(payload):
    secret = WORD + b" of a key"
    raise ValueError("no answer")
try:
    answer(WORD + b" of a payload")
except ValueError as error:
    structlog.get_logger("ours").exception("failed")
    structlog.get_logger("ours").error("failed", exc_info=error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_shows_no_variable_so_no_payload_and_no_key(form: str) -> None:
    run = subprocess.run([sys.executable, "-c", PLANTED % form], capture_output=True, text=True, check=True)
    assert run.stderr.count("ValueError: no answer") == 2
    assert "CANARY" not in run.stderr


def test_importing_telemetry_changes_no_logger() -> None:
    assert not any(
        type(handler.formatter).__module__.startswith("structlog") for handler in logging.getLogger().handlers
    )


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        (
            "aiokafka.consumer.group_coordinator",
            "Group Coordinator Request failed: [Error 15] CoordinatorNotAvail",
            False,
        ),
        ("kafka.coordinator", "Error: [Error 14] GroupLoadInProgressError", False),
        ("kafka.coordinator", "[Error 30] GroupAuthorizationFailedError", True),
        ("agents.stream", "[Error 15] of our own", True),
    ],
)
def test_a_group_coordinator_that_is_starting_is_no_news(name: str, text: str, shown: bool) -> None:
    record = logging.LogRecord(name, logging.ERROR, "", 0, text, None, None)
    assert logs._is_news(record) is shown
