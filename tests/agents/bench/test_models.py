"""The benchmark of the models: every model of the zoo is measured, and the backbone's pass is the measure."""

from __future__ import annotations

import pytest

from agents.bench import models
from agents.cli.bench import models_rows
from models.shipped import load_zoo


@pytest.mark.slow
def test_each_model_is_measured_beside_one_pass_of_the_backbone() -> None:
    told = models.run(rounds=1)
    assert told["ratio"][models.BACKBONE] == 1.0
    assert all(ms > 0 for ms in told["ms"].values())
    assert told["ratio"].keys() == told["ms"].keys()
    for manifest in load_zoo().manifests:
        assert told["bytes"][manifest.title] > 0
        assert any(name.startswith(manifest.name) for name in told["ms"])
    assert len(models_rows(told)) == len(told["ms"]) + len(told["bytes"])
