"""The training recipe of glimpse, for a few steps on made-up pictures, where PyTorch is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training glimpse needs PyTorch: pip install 'tierwise[train]'")

import torch

from models.onnx_session import Network
from models.train.glimpse import train as glimpse
from models.train.glimpse.augment import augment
from models.train.glimpse.net import GlimpseNet, centred, export
from models.train.glimpse.train import Recipe, loss_of, rate_at, train
from models.vision.glimpse import read

SMALL = ((8, 2), (8, 2), (8, 2))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Pictures whose kingdom is their brightness."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 256), ("val", 64)):
        kingdom = rng.integers(0, 4, count)
        pixels = np.clip(rng.normal(40 + 55 * kingdom, 5, (64, 64, 3, count)), 0, 255).transpose(3, 0, 1, 2)
        pixels[:, 0, :2] = [[0], [255]]  # black and white, as in photos
        teacher = np.eye(4, dtype=np.float32)[kingdom] * 0.9 + 0.025
        np.savez(
            tmp_path / f"{split}.npz",
            pixels=pixels.astype(np.uint8),
            kingdom=kingdom,
            teacher=teacher,
            teacher_person=teacher[:, 2],
            weight=np.ones(count, np.float32),
            kind=np.full(count, "wild256-whole"),
        )
    return tmp_path


def log_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_few_steps_learn_something_and_write_down_what(data: Path) -> None:
    train(Recipe(epochs=3, steps=4, replicas=2), data, data, GlimpseNet(SMALL))
    lines = log_of(data)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert float(str(lines[-1]["loss"])) < float(str(lines[0]["loss"]))
    assert set(lines[0]["val"]) == {"wild256-whole", "wild256-whole persons"}  # type: ignore[call-overload]


def test_the_command_trains_for_a_few_steps_and_writes_the_network(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["glimpse", "--epochs", "1", "--steps", "1", "--folder", str(data)]
    monkeypatch.setattr(sys, "argv", words)
    glimpse.main()
    x = np.zeros((2, 3, 64, 64), np.float32)
    assert Network(data / "float.onnx").run(x).shape == (2, 5)


def test_an_int8_network_says_what_the_trained_one_says_and_raises_for_as_many_as_were_told(
    data: Path,
) -> None:
    pytest.importorskip("onnx", reason="releasing glimpse needs onnx: pip install 'tierwise[train]'")
    from models.train.glimpse.release import Split, compressed, figures, outputs_of, person_threshold

    export(train(Recipe(epochs=2, steps=4, replicas=1), data, data, GlimpseNet(SMALL)), data / "float.onnx")
    shown, held = Split.load(data, "train"), Split.load(data, "val")
    threshold = compressed(data / "float.onnx", data / "int8.onnx", shown, held)
    outputs = outputs_of(Network(data / "int8.onnx"), held.pixels, takes_bytes=True)
    before = outputs_of(Network(data / "float.onnx"), held.pixels, takes_bytes=False)
    np.testing.assert_allclose(outputs[:, 4], before[:, 4], atol=0.1)
    (found,) = figures(outputs, held, threshold)
    assert found.false_alarms <= 0.15
    assert person_threshold(read(outputs)[1], held, false_alarms=0.5) <= threshold


def test_fewer_channels_are_trained_on_and_told_by_size(data: Path) -> None:
    pytest.importorskip("onnx", reason="releasing glimpse needs onnx: pip install 'tierwise[train]'")
    from models.train.glimpse.prune import prune, render

    train(Recipe(epochs=1, steps=1, replicas=1), data, data)
    whole, half = prune((0.5,), Recipe(epochs=1, steps=1, replicas=1), data)
    assert half.weights < whole.weights / 2 and half.size_bytes < whole.size_bytes / 2
    assert len(render((whole, half)).splitlines()) == 4


def test_an_interrupted_training_goes_on_from_its_checkpoint(data: Path) -> None:
    train(Recipe(epochs=1, steps=1, replicas=1), data, data, GlimpseNet(SMALL))
    mean = train(Recipe(epochs=2, steps=1, replicas=1), data, data, GlimpseNet(SMALL))
    again = train(Recipe(epochs=2, steps=1, replicas=1), data, data, GlimpseNet(SMALL))
    assert [line["epoch"] for line in log_of(data)] == [1, 2]
    for one, other in zip(mean.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_missed_person_costs_more_than_a_false_alarm() -> None:
    outputs = torch.zeros(1, 5)
    person = loss_of(outputs, torch.tensor([2]), torch.full((1, 4), 0.25), torch.tensor([1.0]))
    nobody = loss_of(outputs, torch.tensor([0]), torch.full((1, 4), 0.25), torch.tensor([0.0]))
    assert float(person) > float(nobody)


def test_the_rate_rises_stays_and_falls_to_nothing() -> None:
    rates = [rate_at(step, 2000, 1.0) for step in range(2000)]
    assert rates[0] < 0.01
    assert set(rates[200:1290]) == {1.0}
    assert sorted(rates[1300:], reverse=True) == rates[1300:]
    assert rates[-1] < 0.01


def test_each_picture_is_changed_by_itself_and_by_the_seed_alone() -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)).repeat(8, 1, 1, 1)
    first, again = (augment(pixels, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (8, 3, 64, 64)
    assert float(first.abs().max()) <= 1
    assert not any(torch.equal(first[0], other) for other in first[1:])


def test_pruned_channels_change_nothing_that_the_others_say() -> None:
    from models.train.glimpse.prune import kept_channels, pruned

    torch.manual_seed(0)
    model = GlimpseNet(((16, 2), (16, 2))).eval()
    with torch.no_grad():
        # Channels that say nothing: scaled to nothing, and so are those that a pruning by half takes out.
        for at in (1, 4):
            norm = model.body[at]
            norm.weight.copy_(torch.linspace(0.5, 1.5, 16))
            norm.weight[1::2] = 0
            norm.bias[1::2] = 0
    x = centred(torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8))
    small = pruned(model, 0.5).eval()
    assert small.layers == ((8, 2), (8, 2))
    torch.testing.assert_close(small(x), model(x))
    assert kept_channels(torch.tensor([3.0, -4.0, 1.0] + [0.0] * 21), 0.1).tolist()[:3] == [0, 1, 2]
