"""The network `glimpse`, in PyTorch: plain 3x3 convolutions on 64x64 pixels, and its export to ONNX.

int8 runs plain convolutions faster than depthwise ones at this size. The last maps are pooled twice: the mean sees the
scene, the maximum finds what is small in it.

Example::

    model = GlimpseNet()
    model(torch.zeros(1, 3, 64, 64))     # (1, 5): logits over four kingdoms, then a person's log-odds
    export(model, Path("float.onnx"))

PyTorch 1.13 to 2.x.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

INPUT_PX = 64
# Channels and stride of each convolution; 64 -> 32 -> 16 -> 8 pixels. 258,000 weights: 0.3 MB in int8.
LAYERS = ((24, 2), (24, 1), (48, 2), (48, 1), (80, 2), (80, 1), (80, 1), (96, 1))
KINGDOMS = 4
OPSET = 13


class GlimpseNet(nn.Module):  # type: ignore[misc]
    """(n, 3, 64, 64) float, RGB, (x - 127) / 128 -> (n, 5): logits over kingdoms, and a person's log-odds."""

    def __init__(self, layers: Sequence[tuple[int, int]] = LAYERS) -> None:
        super().__init__()
        self.layers = tuple((int(channels), int(stride)) for channels, stride in layers)
        blocks: list[Any] = []
        width = 3
        for channels, stride in self.layers:
            blocks += [
                nn.Conv2d(width, channels, 3, stride, 1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
            width = channels
        self.body = nn.Sequential(*blocks)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(2 * width, KINGDOMS + 1)

    def forward(self, x: Any) -> Any:
        """Return the outputs (n, 5) of pictures (n, 3, 64, 64)."""
        maps = self.body(x)
        return self.head(self.drop(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)))


def centred(pixels: Any) -> Any:
    """uint8 (n, 64, 64, 3) -> float (n, 3, 64, 64), as the network reads it."""
    return ((pixels.float() - 127) / 128).permute(0, 3, 1, 2)


def export(model: Any, file: Path) -> None:
    """Write the network as float ONNX: input `x` (n, 3, 64, 64), output `logits` (n, 5)."""
    # Newer versions trace in another way, which needs a package more and renames what comes out.
    tracer = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    torch.onnx.export(
        model.eval().to(memory_format=torch.contiguous_format),
        torch.zeros(1, 3, INPUT_PX, INPUT_PX),
        str(file),
        input_names=["x"],
        output_names=["logits"],
        dynamic_axes={"x": {0: "n"}, "logits": {0: "n"}},
        opset_version=OPSET,
        **tracer,
    )
