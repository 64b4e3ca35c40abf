"""Killed at any statement, an edge's learning starts with a whole head: of all that was committed, and of nothing
else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sample_learning
from sample_learning import script

SEEDS = 50


def final(seed: int) -> dict[str, str]:
    standing: dict[str, str] = {}
    for number, path in script(seed):
        standing.pop(f"e{number}", None)
        if path:
            standing[f"e{number}"] = "/".join(path)
    return standing


@pytest.mark.slow
def test_killed_at_fifty_seeded_statements_there_is_always_one_whole_head(tmp_path: Path) -> None:
    path = os.pathsep.join((str(Path(sample_learning.__file__).parent), os.environ.get("PYTHONPATH", "")))
    run = subprocess.run(
        [sys.executable, sample_learning.__file__, str(tmp_path), str(SEEDS)],
        capture_output=True,
        text=True,
        # One thread: what forks has no other.
        env=os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    rounds = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(rounds) == SEEDS
    for found in rounds:
        assert found.get("whole"), found
        assert found["at_last"], found
        assert found["labels"] == final(found["seed"])
    assert sum(each["killed"] for each in rounds) >= SEEDS * 4 // 5
    assert len({each["taken"] for each in rounds}) > 10, "at many points of the way"
