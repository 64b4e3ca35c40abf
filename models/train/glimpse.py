"""Trains `glimpse`, the device's small network: ``python -m models.train.glimpse`` (after `glimpse_data`; needs PyTorch).

A plain convolutional net on 64x64 pixels: int8 runs plain convolutions faster than depthwise ones at that size. It
learns the true kingdom and its teacher's probabilities, half and half. After every epoch a checkpoint is written to
``build/train/glimpse/checkpoint.pt``; the same command goes on from there after an interruption. Seed, schedule and
figures of each epoch go to ``build/train/glimpse/log.jsonl``.

Example::

    python -m models.train.glimpse --epochs 8        # an hour on two cores
    python -m models.train.glimpse --steps 20        # a few steps, to see that it runs

PyTorch 1.13 to 2.x. The float network is exported to ``build/train/glimpse/float.onnx``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

BUILD = Path(__file__).parents[2] / "build" / "train" / "glimpse"
SEED = 0
# (channels, stride) of the 3x3 convolutions; 64 -> 32 -> 16 -> 8 -> 4 pixels.
LAYERS = ((24, 2), (32, 1), (48, 2), (64, 1), (96, 2), (96, 1), (128, 2))
KINGDOMS = 4
BATCH, RATE, DECAY = 128, 3e-3, 1e-2
TEACHERS_SHARE = 0.5
SHIFT_PX = 6


def network() -> Any:
    """(n, 3, 64, 64) float, centred as the exported network's -> logits over kingdoms (n, 4)."""
    layers: list[Any] = []
    width = 3
    for channels, stride in LAYERS:
        layers += [nn.Conv2d(width, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
        width = channels
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(width, KINGDOMS)
    )


def augment(pixels: Any, generator: Any) -> Any:
    """Random flip, shift, gain, lift and grey on a batch of uint8 (n, 64, 64, 3) -> centred float (n, 3, 64, 64)."""
    x = (pixels.float() - 127) / 128
    x = x.permute(0, 3, 1, 2)
    if torch.rand((), generator=generator) < 0.5:
        x = x.flip(3)
    x = nn.functional.pad(x, (SHIFT_PX,) * 4, mode="replicate")
    top, left = torch.randint(0, 2 * SHIFT_PX + 1, (2,), generator=generator).tolist()
    x = x[:, :, top : top + 64, left : left + 64]
    gain = 0.75 + 0.5 * torch.rand((len(x), 1, 1, 1), generator=generator)
    lift = 0.3 * (torch.rand((len(x), 3, 1, 1), generator=generator) - 0.5)
    grey = (torch.rand((len(x), 1, 1, 1), generator=generator) < 0.1).float()
    x = x * (1 - grey) + x.mean(1, keepdim=True) * grey
    return (x * gain + lift).clamp(-1, 1).contiguous(memory_format=torch.channels_last)


def load(split: str) -> dict[str, Any]:
    """Arrays of `glimpse_data`, as tensors."""
    with np.load(BUILD / f"{split}.npz") as file:
        return {
            name: torch.from_numpy(file[name].copy()) for name in ("pixels", "kingdom", "teacher", "weight")
        }


def accuracy(model: Any, data: dict[str, Any]) -> float:
    """Share of pictures whose kingdom is right."""
    model.eval()
    right = 0
    with torch.no_grad():
        for at in range(0, len(data["pixels"]), 256):
            x = ((data["pixels"][at : at + 256].float() - 127) / 128).permute(0, 3, 1, 2)
            right += int((model(x).argmax(1) == data["kingdom"][at : at + 256]).sum())
    return right / len(data["pixels"])


def train(epochs: int, steps_limit: int | None) -> Any:
    """Trains from the last checkpoint to the end of the schedule; returns the network."""
    torch.manual_seed(SEED)
    data, held = load("train"), load("val")
    model = network().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    steps = len(data["pixels"]) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=epochs * steps + 1)
    checkpoint, first = BUILD / "checkpoint.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        first = state["epoch"]
    for epoch in range(first, epochs):
        generator = torch.Generator().manual_seed(SEED + epoch)
        order = torch.multinomial(data["weight"], steps * BATCH, replacement=True, generator=generator)
        started, total = time.monotonic(), 0.0
        model.train()
        for step in range(min(steps, steps_limit or steps)):
            rows = order[step * BATCH : (step + 1) * BATCH]
            x = augment(data["pixels"][rows], generator)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(x)
            logs = nn.functional.log_softmax(logits.float(), 1)
            truth = nn.functional.nll_loss(logs, data["kingdom"][rows])
            taught = nn.functional.kl_div(logs, data["teacher"][rows], reduction="batchmean")
            loss = (1 - TEACHERS_SHARE) * truth + TEACHERS_SHARE * taught
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss)
        line = {
            "epoch": epoch + 1,
            "loss": round(total / (step + 1), 4),
            "val": round(accuracy(model, held), 4),
            "seconds": round(time.monotonic() - started),
            "seed": SEED,
        }
        with (BUILD / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        if steps_limit:
            return model
        states = {"model": model, "optimiser": optimiser, "schedule": schedule}
        torch.save(
            {**{name: its.state_dict() for name, its in states.items()}, "epoch": epoch + 1}, checkpoint
        )
    return model


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--epochs", type=int, default=8)
    options.add_argument(
        "--steps", type=int, help="stop after so many steps of one epoch, without a checkpoint"
    )
    given = options.parse_args()
    model = train(given.epochs, given.steps).eval()
    torch.onnx.export(
        model,
        torch.zeros(1, 3, 64, 64),
        str(BUILD / "float.onnx"),
        input_names=["x"],
        output_names=["logits"],
        opset_version=13,
    )


if __name__ == "__main__":
    main()
