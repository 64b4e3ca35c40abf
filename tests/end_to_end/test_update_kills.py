"""Kill -9 of the trainer, the gateway, the edge and the cloud while a release is on its way, at seeded moments.

After each kill a whole model serves, and once the killed part is back the update completes. UPDATE_KILLS says how
often; ``UPDATE_KILLS=50 make test ARGS="-s tests/end_to_end/test_update_kills.py"`` is what
docs/explanation/taking-effect.md tells of.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from kafka_brokers import eventually
from sample_release import BASE
from sample_trainer import SampleTrainer
from stack import EACH_FRAME_COUNTS, GARDEN, PATIENCE_S, Listener, Stack, Stage, cats

from agents.role.run_file import ask_health, running
from agents.rollout.promoted_store import PromotedStore
from pipeline.messages import Result, Tier

pytestmark = pytest.mark.e2e

KILLS = int(os.environ.get("UPDATE_KILLS", "6"))
VICTIMS = ("edge", "trainer", "cloud", "gateway")
ROLES = ("device", "edge", "gateway", "stream", "cloud")
RELEASE_ROLES = ("edge", "cloud")
CANARY_S = 1.0
UPDATE_S = 4.0
"""What an update takes, and so what the moments of the kills are drawn from."""
SIGNING_S = 0.4
ROOT = Path(__file__).parents[2]


@dataclass
class Site:
    """All roles without a supervisor, so that what is killed is back at once."""

    stack: Stack
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        self.processes[name] = self.stack.run(name, "--settings", str(self.stack.file))

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def serves(self, role: str) -> str:
        return self._parts(role).get("model", "")

    def all_serve(self, title: str) -> bool:
        return {self.serves(role) for role in RELEASE_ROLES} == {title}

    def stage(self, role: str) -> str:
        return self._parts(role).get("update", "-").partition(" ")[0]

    def _parts(self, role: str) -> dict[str, str]:
        told = running(self.stack.data, role)
        return ask_health(told.port)[1] if told is not None and told.port else {}

    def trainer(self, version: int) -> subprocess.Popen[bytes]:
        """Signs and sends a release; returned as it begins."""
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "samples" / "sample_trainer.py"),
             str(self.stack.file), str(version), str(CANARY_S)],
            cwd=ROOT,
            env=os.environ | self.stack.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == b"ready\n"
        return process

    def whole_on_disk(self, role: str) -> bool:
        """What is to serve at the next start is all there."""
        files = PromotedStore(self.stack.data / role, BASE.manifest.title)
        serving = files.read().serving
        return serving == 0 or files.release(serving) is not None


@pytest.fixture
def site(stage: Stage) -> Iterator[Site]:
    stack = stage.fresh(**EACH_FRAME_COUNTS)
    stack.data.mkdir(parents=True)
    SampleTrainer(stack.settings)
    stack.start("mqtt", "kafka")
    site = Site(stack)
    for name in ROLES:
        site.start(name)
    for name in ROLES:
        stack.wait_ready(name)
    yield site
    for process in site.processes.values():
        process.kill()
        process.wait()


def edges_answer(listener: Listener, event: str) -> Result:
    return listener.wait(
        lambda: next((a for a in listener.answers(event) if a.tier is Tier.EDGE), None),
        f"the edge's answer about {event}",
    )


def test_whatever_is_killed_during_an_update_a_whole_model_serves_and_the_update_completes(
    site: Site,
) -> None:
    frames = cats(2 * KILLS)
    before = BASE.manifest.title
    killed_at: Counter[str] = Counter()
    took: list[float] = []
    with site.stack.listen() as listener:
        for number in range(KILLS):
            rng = random.Random(number)
            victim, version = VICTIMS[number % len(VICTIMS)], 3 + number
            after = f"lite0@{version}"
            began_s = time.monotonic()
            trainer = site.trainer(version)
            if victim == "trainer":
                time.sleep(rng.uniform(0, SIGNING_S))
                trainer.kill()
                trainer.wait()
                killed_at["trainer"] += 1
                trainer = site.trainer(version)
                assert trainer.wait(PATIENCE_S) == 0
            else:
                time.sleep(rng.uniform(0, UPDATE_S))
                stage = site.stage(victim) if victim in RELEASE_ROLES else "running"
                site.kill(victim)
                killed_at[f"{victim} {stage}"] += 1
                assert all(map(site.whole_on_disk, RELEASE_ROLES))
                site.start(victim)
                site.stack.wait_ready(victim)
                assert trainer.wait(PATIENCE_S) == 0
            assert {site.serves(role) for role in RELEASE_ROLES} <= {before, after}
            event = listener.capture(GARDEN, frames[2 * number])
            assert edges_answer(listener, event).model in (before, after)
            eventually(partial(site.all_serve, after), PATIENCE_S)
            took.append(time.monotonic() - began_s)
            event = listener.capture(GARDEN, frames[2 * number + 1])
            assert edges_answer(listener, event).model == after
            assert all(map(site.whole_on_disk, RELEASE_ROLES))
            before = after
    print(f"\n{KILLS} kills; at: {dict(sorted(killed_at.items()))}")
    print(f"complete after {sorted(took)[len(took) // 2]:.1f} s (median), {max(took):.1f} s (most)")
