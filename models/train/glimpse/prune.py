"""Take whole channels out of `glimpse`, then train it on: ``python -m models.train.glimpse.prune`` (needs PyTorch).

A channel whose batch norm scales it down has the least to say (network slimming, Liu et al. 2017, arXiv:1708.06519), so
of each layer those with the smallest scales go. What is left is a plain, smaller network (structured pruning: no sparse
arithmetic is needed), which a few epochs at a low rate repair. Every size is then made int8 as the release is, and told
with its accuracy, its bytes and its milliseconds on held-out pictures.

Example::

    python -m models.train.glimpse.prune --keep 0.75 --keep 0.5 --epochs 3

Written: ``build/train/glimpse/kept-75/`` and so on, with `float.onnx`, `model.onnx` and the training's log.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.onnx_session import Network
from models.train.glimpse.net import GlimpseNet, export
from models.train.glimpse.release import FRAMES, STATED, PersonFigures, Split, compressed, figures, outputs_of
from models.train.glimpse.train import BUILD, Recipe, train
from pipeline.errors import Stop

# int8 kernels compute channels by the eight.
CHANNELS_BY = 8
# A pruned network is near where it has to be.
REPAIR_RATE = 1e-3
TIMED_RUNS = 200


@dataclass(frozen=True, slots=True)
class Size:
    """One size of the network, int8, on one picture at a time and one thread."""

    kept: float
    weights: int
    size_bytes: int
    ms: float
    found: tuple[PersonFigures, ...]


def kept_channels(scales: Any, share: float) -> Any:
    """Which channels stay, in their order: the share with the largest scales, rounded up to a multiple of eight."""
    count = min(len(scales), -(-max(1, round(share * len(scales))) // CHANNELS_BY) * CHANNELS_BY)
    return scales.abs().topk(count).indices.sort().values


def pruned(model: Any, share: float) -> Any:
    """Return the network with about that share of each layer's channels, their weights as they were. Raises `Stop`."""
    if not 0 < share <= 1:
        raise Stop(f"the share of channels to keep is {share}; it has to be above 0 and at most 1")
    blocks = [(conv, norm) for conv, norm, _ in zip(model.body[::3], model.body[1::3], model.body[2::3], strict=True)]
    stay = [kept_channels(norm.weight.detach(), share) for _, norm in blocks]
    layers = [(len(kept), stride) for kept, (_, stride) in zip(stay, model.layers, strict=True)]
    small = GlimpseNet(layers)
    before = torch.arange(3)
    with torch.no_grad():
        for at, (conv, norm) in enumerate(blocks):
            its_conv, its_norm = small.body[3 * at], small.body[3 * at + 1]
            its_conv.weight.copy_(conv.weight[stay[at]][:, before])
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(its_norm, name).copy_(getattr(norm, name)[stay[at]])
            before = stay[at]
        width = model.layers[-1][0]
        # The head reads the mean of every channel, then the maximum of every channel.
        small.head.weight.copy_(model.head.weight[:, torch.cat([before, before + width])])
        small.head.bias.copy_(model.head.bias)
    return small


def trained(folder: Path) -> Any:
    """Return the released network's weights, from its training's checkpoint. Raises `Stop`."""
    checkpoint = folder / "checkpoint.pt"
    if not checkpoint.exists():
        raise Stop(f"{checkpoint} is not there; train glimpse first: python -m models.train.glimpse.train")
    state = torch.load(checkpoint)["mean"]
    widths = [weights.shape[0] for name, weights in state.items() if name.startswith("body.") and weights.ndim == 4]
    model = GlimpseNet([(width, stride) for width, (_, stride) in zip(widths, GlimpseNet().layers, strict=True)])
    model.load_state_dict(state)
    return model


def made(model: Any, folder: Path, kept: float, splits: tuple[Split, Split]) -> Size:
    """Export, quantise, calibrate and measure one size."""
    train_split, held = splits
    export(model, folder / "float.onnx")
    threshold = compressed(folder / "float.onnx", folder / "model.onnx", train_split, held)
    network = Network(folder / "model.onnx")
    return Size(
        kept=kept,
        weights=sum(layer.numel() for layer in model.parameters()),
        size_bytes=(folder / "model.onnx").stat().st_size,
        ms=milliseconds(network),
        found=tuple(figures(outputs_of(network, held.pixels, takes_bytes=True), held, threshold)),
    )


def milliseconds(network: Network) -> float:
    """Median time of one picture on one thread."""
    x = np.random.default_rng(0).integers(0, 256, (1, 3, 64, 64), np.uint8)
    taken = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        network.run(x)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1e3


def prune(shares: Sequence[float], recipe: Recipe, folder: Path = BUILD) -> tuple[Size, ...]:
    """Return the trained network and its smaller ones, largest first. Raises `Stop`."""
    model = trained(folder)
    splits = Split.load(folder, "train"), Split.load(folder, "val").of(*FRAMES)
    whole = folder / "kept-100"
    whole.mkdir(exist_ok=True)
    sizes = [made(model, whole, 1.0, splits)]
    for share in sorted(shares, reverse=True):
        folder_of_size = folder / f"kept-{round(100 * share)}"
        small = train(recipe, folder, folder_of_size, pruned(model, share))
        sizes.append(made(small, folder_of_size, share, splits))
    return tuple(sizes)


def render(sizes: Sequence[Size]) -> str:
    """Return a Markdown table, the whole network first."""
    lines = [
        "| channels kept | weights | int8 bytes | ms | kingdom: whole / part / in scene | persons raised | false alarms |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for size in sizes:
        by_kind = {row.kind: row for row in size.found}
        whole = by_kind[STATED]
        kingdoms = " / ".join(f"{100 * by_kind[kind].kingdom:.1f}" for kind in FRAMES if kind in by_kind)
        lines.append(
            f"| {size.kept:.0%} | {size.weights:,} | {size.size_bytes:,} | {size.ms:.2f} | {kingdoms}% "
            f"| {whole.persons:.1%} | {whole.false_alarms:.1%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run this recipe."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--keep", type=float, action="append", help="share of the channels (default 0.75, 0.5)")
    options.add_argument("--epochs", type=int, default=3)
    given = options.parse_args()
    sizes = prune(given.keep or (0.75, 0.5), Recipe(given.epochs, rate=REPAIR_RATE))
    sys.stdout.write(f"{render(sizes)}\n")


if __name__ == "__main__":
    main()
