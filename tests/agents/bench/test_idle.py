"""The benchmark of an idle stack reads /proc."""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path

import pytest

from agents.bench import idle

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_a_process_has_spent_time_and_has_memory() -> None:
    before, after = idle.cost(os.getpid()), idle.cost(os.getpid())
    assert 0 < before.cpu_s <= after.cpu_s
    assert before.wakeups <= after.wakeups
    assert before.pss_mib > 1


def test_the_stack_has_the_starters_settings_on_other_ports() -> None:
    first, second = (tomllib.loads(idle.starter_on_free_ports()) for _ in range(2))
    assert first["mqtt"]["port"] != first["kafka"]["port"]
    assert first["streams"] == second["streams"]
    assert set(first["http"].values()) == {0}


@pytest.mark.e2e
def test_every_process_of_the_stack_is_measured(tmp_path: Path) -> None:
    report = idle.run(settle_s=0.0, measure_s=1.0)
    assert {"up", "mqtt", "kafka", "device", "edge", "gateway", "stream", "cloud", "trainer"} == report[
        "processes"
    ].keys()
    assert report["all"]["pss_mib"] > report["processes"]["device"]["pss_mib"] > 10
