"""Train `glimpse`: ``python -m models.train.glimpse.train`` (after `glimpse_data`; needs PyTorch).

It learns the true kingdom beside its teacher's probabilities (distillation, Hinton et al. 2015, arXiv:1503.02531), and
a person by a log-odds of its own, in which a missed person costs three times a false alarm. What is released is the
running mean of the weights. After every epoch a checkpoint is written to ``build/train/glimpse/checkpoint.pt``; the
same command goes on from there after an interruption, with another ``--epochs`` too: the rate stays level and falls
only over the last third. Seed and figures of each epoch go to ``build/train/glimpse/log.jsonl``.

Every core trains a replica on its part of the batch, and their gradients are averaged: threads inside one network wait
for each other after each layer, which on a machine that others use too cost two thirds of the speed.

Example::

    python -m models.train.glimpse.train                         # an hour or more on two cores
    python -m models.train.glimpse.train --epochs 1 --steps 5     # a few steps, to see that it runs

PyTorch 1.13 to 2.x. The float network is exported to ``build/train/glimpse/float.onnx``.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models.train.glimpse.augment import augment
from models.train.glimpse.net import KINGDOMS, GlimpseNet, centred, export

BUILD = Path(__file__).parents[3] / "build" / "train" / "glimpse"
PERSON = (
    2  # in `models.labels.taxonomy.KINGDOMS`, which this file, run where only PyTorch is installed, does not import
)
SEED = 0
BATCH, EPOCH_PICTURES = 192, 24_576
RATE, DECAY, WARM_UP_STEPS, COOLED_SHARE = 3e-3, 2e-2, 200, 0.35
MEAN_DECAY = 0.998
# Half of what the kingdom learns is the teacher's answer, softened; of a person it is a third: the truth counts more.
TEACHERS_SHARE, TEACHERS_TEMPERATURE, TEACHERS_SHARE_OF_PERSON = 0.5, 2.0, 0.3
MISSED_PERSON_COSTS = 3.0
# Of the large, clean set a part is enough to follow the training by.
WATCHED = {"wild64": 5}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a run may choose. `steps` ends each epoch early."""

    epochs: int
    steps: int | None = None
    replicas: int = os.cpu_count() or 1
    rate: float = RATE


def rate_at(step: int, steps: int, peak: float = RATE) -> float:
    """Return the learning rate of a step: up over the first, level, and down to nothing over the last third."""
    cooled = max(1, round(COOLED_SHARE * steps))
    return peak * min(1.0, (step + 1) / WARM_UP_STEPS, (steps - step) / cooled)


def load(folder: Path, split: str) -> dict[str, Any]:
    """Arrays of `glimpse_data`, as tensors; `kind` stays an array of names."""
    with np.load(folder / f"{split}.npz") as file:
        names = ("pixels", "kingdom", "teacher", "teacher_person", "weight")
        return {name: torch.from_numpy(file[name]) for name in names} | {"kind": file["kind"]}


def loss_of(outputs: Any, kingdom: Any, teacher: Any, teacher_person: Any) -> Any:
    """Return what one batch's outputs (n, 5) cost, against the truth and against the teacher."""
    logits, person = outputs[:, :KINGDOMS], outputs[:, KINGDOMS]
    soft = (teacher.clamp_min(1e-6).log() / TEACHERS_TEMPERATURE).softmax(1)
    taught = nn.functional.kl_div((logits / TEACHERS_TEMPERATURE).log_softmax(1), soft, reduction="batchmean")
    from_labels = nn.functional.cross_entropy(logits, kingdom)
    truth = (kingdom == PERSON).float()
    target = (1 - TEACHERS_SHARE_OF_PERSON) * truth + TEACHERS_SHARE_OF_PERSON * teacher_person
    missed = nn.functional.binary_cross_entropy_with_logits(
        person, target, weight=1 + (MISSED_PERSON_COSTS - 1) * truth
    )
    share = TEACHERS_SHARE
    return (1 - share) * from_labels + share * TEACHERS_TEMPERATURE**2 * taught + missed


def backward(model: Any, data: dict[str, Any], rows: Any, generator: Any) -> float:
    """One replica's forward and backward pass over its part of a batch; its gradients hold the result."""
    model.zero_grad()
    x = augment(data["pixels"][rows], generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(x)
    loss = loss_of(outputs.float(), *(data[name][rows] for name in ("kingdom", "teacher", "teacher_person")))
    loss.backward()
    return float(loss.detach())


def spread(model: Any, replicas: Iterable[Any]) -> None:
    """Copy the model's weights into its replicas."""
    with torch.no_grad():
        for replica in replicas:
            for mine, part in zip(model.parameters(), replica.parameters(), strict=True):
                part.copy_(mine)


def gather(model: Any, replicas: Iterable[Any]) -> None:
    """Average all gradients into the model's."""
    everyone = (model, *replicas)
    for grads in zip(*([p.grad for p in part.parameters()] for part in everyone), strict=True):
        grads[0].copy_(torch.stack(grads).mean(0))


def follow(mean: Any, model: Any, step: int) -> None:
    """Move the running mean towards the model, batch norms' statistics included."""
    by = 1 - min(MEAN_DECAY, (1 + step) / (10 + step))
    with torch.no_grad():
        for slow, fast in zip(mean.state_dict().values(), model.state_dict().values(), strict=True):
            if slow.dtype.is_floating_point:
                slow.lerp_(fast, by)


def outputs_of(model: Any, pixels: Any) -> Any:
    """Return the network's outputs (n, 5) on pictures as they are."""
    model.eval()
    with torch.no_grad():
        return torch.cat([model(centred(pixels[at : at + 256])) for at in range(0, len(pixels), 256)])


def watch(model: Any, held: dict[str, Any]) -> dict[str, float]:
    """On each kind of held-out picture: how many kingdoms are right, and persons raised at 10% false alarms."""
    figures = {}
    for kind in sorted(set(held["kind"].tolist())):
        rows = torch.from_numpy(np.flatnonzero(held["kind"] == kind)[:: WATCHED.get(kind, 1)])
        outputs, truth = outputs_of(model, held["pixels"][rows]), held["kingdom"][rows]
        right = (outputs[:, :KINGDOMS].argmax(1) == truth).float().mean()
        figures[f"{kind}"] = round(float(right), 3)
        person, people = outputs[:, KINGDOMS], truth == PERSON
        if people.any() and not people.all():
            raised = (person[people] >= torch.quantile(person[~people], 0.9)).float().mean()
            figures[f"{kind} persons"] = round(float(raised), 3)
    return figures


def train(recipe: Recipe, data_folder: Path = BUILD, folder: Path = BUILD, start: Any = None) -> Any:
    """Trains from the last checkpoint, or from `start`, to the end of the schedule; returns the mean network.

    `folder` is where checkpoint and log are kept.
    """
    torch.manual_seed(SEED)
    data, held = load(data_folder, "train"), load(data_folder, "val")
    folder.mkdir(parents=True, exist_ok=True)
    # Said before the replicas are copied: a copy keeps the layout.
    model = (start or GlimpseNet()).to(memory_format=torch.channels_last)
    mean = copy.deepcopy(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.rate, weight_decay=DECAY)
    states = {"model": model, "mean": mean, "optimiser": optimiser}
    checkpoint, first = folder / "checkpoint.pt", 0
    if checkpoint.exists():
        kept = torch.load(checkpoint)
        for name, state in states.items():
            state.load_state_dict(kept[name])
        first = kept["epoch"]
    replicas = [copy.deepcopy(model) for _ in range(recipe.replicas - 1)]
    steps = min(EPOCH_PICTURES // BATCH, recipe.steps or EPOCH_PICTURES // BATCH)
    torch.set_num_threads(1)
    with ThreadPoolExecutor(recipe.replicas, initializer=torch.set_num_threads, initargs=(1,)) as cores:
        for epoch in range(first, recipe.epochs):
            started, total = time.monotonic(), 0.0
            seeds = [SEED + 1000 * (epoch + 1) + at for at in range(recipe.replicas + 1)]
            order, *generators = (torch.Generator().manual_seed(seed) for seed in seeds)
            rows = torch.multinomial(data["weight"], steps * BATCH, replacement=True, generator=order)
            for network in (model, *replicas):
                network.train()
            for step in range(steps):
                parts = rows[step * BATCH : (step + 1) * BATCH].chunk(recipe.replicas)
                for group in optimiser.param_groups:
                    group["lr"] = rate_at(epoch * steps + step, recipe.epochs * steps, recipe.rate)
                losses = cores.map(backward, (model, *replicas), [data] * recipe.replicas, parts, generators)
                total += sum(losses) / recipe.replicas
                gather(model, replicas)
                optimiser.step()
                spread(model, replicas)
                follow(mean, model, epoch * steps + step)
            line = {
                "epoch": epoch + 1,
                "of": recipe.epochs,
                "loss": round(total / steps, 4),
                "val": watch(mean, held),
                "seconds": round(time.monotonic() - started),
                "seed": SEED,
            }
            with (folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
            keep = {name: state.state_dict() for name, state in states.items()} | {"epoch": epoch + 1}
            torch.save(keep, checkpoint.with_suffix(".partial"))
            checkpoint.with_suffix(".partial").replace(checkpoint)
    return mean


def main() -> None:
    """Run this recipe."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--epochs", type=int, default=24)
    options.add_argument("--steps", type=int, help="end each epoch after so many steps")
    options.add_argument("--folder", type=Path, default=BUILD, help="where data, checkpoint and log are")
    given = options.parse_args()
    export(train(Recipe(given.epochs, given.steps), given.folder, given.folder), given.folder / "float.onnx")


if __name__ == "__main__":
    main()
