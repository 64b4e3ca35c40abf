"""A release on its way through the real processes: signed, told over Kafka and MQTT, taken by edge and cloud while
they run."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kafka_brokers import eventually
from sample_release import BASE, sample_release
from sample_source import target
from sample_trainer import SampleTrainer
from stack import EACH_FRAME_COUNTS, GARDEN, PATIENCE_S, SITE, Capture, Listener, Stack, Stage, cats

from agents.role.run_file import ask_health, running
from pipeline import messages, topics
from pipeline.messages import Status, Tier

pytestmark = pytest.mark.e2e

SHIPPED = BASE.manifest.title
EDGE_STATUS = topics.status(SITE, "edge")


@pytest.fixture(scope="module")
def stack(stage: Stage) -> Iterator[Stack]:
    stack = stage.fresh(**EACH_FRAME_COUNTS)
    (stack.data).mkdir(parents=True, exist_ok=True)
    yield stack


@pytest.fixture(scope="module")
def trainer(stack: Stack) -> SampleTrainer:
    trainer = SampleTrainer(stack.settings)
    stack.start()
    return trainer


def edge_statuses(listener: Listener) -> list[Status]:
    return [messages.decode(Status, heard.payload) for heard in listener.heard if heard.topic == EDGE_STATUS]


def serves(stack: Stack, role: str) -> str:
    """What a role says serves."""
    told = running(stack.data, role)
    return ask_health(told.port)[1].get("model", "") if told is not None and told.port else ""


def all_serve(stack: Stack, title: str) -> None:
    eventually(lambda: {serves(stack, "edge"), serves(stack, "cloud")} == {title}, PATIENCE_S)


def command(stack: Stack, *words: str) -> bytes:
    """`tierwise models`, with the site's settings; what it prints."""
    words = ("-m", "agents", "models", *words, "--settings", str(stack.file))
    environ = os.environ | stack.environ
    return subprocess.run([sys.executable, *words], env=environ, stdout=subprocess.PIPE, check=True).stdout


def stands(stack: Stack) -> list[dict[str, Any]]:
    return [json.loads(line) for line in command(stack, "status", "--json").splitlines()]


def models_of(listener: Listener, event: str) -> tuple[str, str]:
    """Which models answered an event, at the edge and in the cloud."""
    listener.last_word(event, Tier.CLOUD)
    by_tier = {answer.tier: answer.model for answer in listener.answers(event)}
    return by_tier[Tier.EDGE], by_tier[Tier.CLOUD]


def test_edge_and_cloud_take_a_release_and_a_rollback_with_nothing_restarted_and_no_event_waiting(
    trainer: SampleTrainer, stack: Stack
) -> None:
    pids = stack.pids()
    frames = cats(12)
    with stack.listen() as listener:
        assert models_of(listener, listener.capture(GARDEN, frames[0])) == (SHIPPED, SHIPPED)
        trainer.release(sample_release(3), target(3, canary_s=4.0))
        during = [Capture(GARDEN, frame) for frame in frames[1:8]]
        events = listener.capture_all(during)
        all_serve(stack, "lite0@3")
        for event in events:
            answered = listener.wait(
                lambda event=event: next((a for a in listener.answers(event) if a.tier is Tier.EDGE), None),
                f"the edge's answer about {event}",
            )
            assert answered.model in (SHIPPED, "lite0@3")
        assert models_of(listener, listener.capture(GARDEN, frames[8])) == ("lite0@3", "lite0@3")
        listener.wait(lambda: "lite0@3" in edge_statuses(listener)[-1].models, "the status")
        told = [status.update.stage for status in edge_statuses(listener) if status.update is not None]
        # A status is told again whenever anything in it changes.
        stages = [stage for stage, _ in itertools.groupby(told)]
        assert [stage for stage in stages if stage != "idle"][-5:] == [
            "verifying",
            "smoke",
            "shadow",
            "canary",
            "promoted",
        ]

        assert {(its["role"], its["serves"]) for its in stands(stack)} == {
            ("edge", "lite0@3"),
            ("cloud", "lite0@3"),
        }
        command(stack, "rollback", "--why", "it fails at night")
        all_serve(stack, SHIPPED)
        last = listener.wait(
            lambda: next((s for s in edge_statuses(listener) if s.update and s.update.rule == "older-is-named"), None),
            "the rollback's status",
        )
        assert last.update is not None
        assert (last.update.stage, last.update.previous) == ("promoted", "lite0@3")
        assert models_of(listener, listener.capture(GARDEN, frames[9])) == (SHIPPED, SHIPPED)
    assert stack.pids() == pids


def test_what_was_promoted_serves_after_a_kill_also_while_the_cloud_is_away(
    trainer: SampleTrainer, stack: Stack
) -> None:
    trainer.release(sample_release(4), target(4, canary_s=0.0))
    all_serve(stack, "lite0@4")
    with stack.halted("gateway"), stack.halted("kafka"):
        killed = stack.kill_part("edge")
        stack.wait_ready("edge", other_than=killed)
        assert serves(stack, "edge") == "lite0@4"
    began_s = time.monotonic()
    trainer.serve(target(3, why="back"))
    all_serve(stack, "lite0@3")
    assert time.monotonic() - began_s < PATIENCE_S
