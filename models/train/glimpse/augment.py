"""What happens to each picture anew whenever glimpse sees it: moved, turned, lit, blurred, covered. PyTorch.

`models.train.pictures.views` made the views as cameras make them, once; this makes every epoch another. All of it is
drawn for each picture by itself: one draw for a whole batch would teach the batch, not the picture.

Example::

    x = augment(pixels, torch.Generator().manual_seed(0))    # uint8 (n, 64, 64, 3) -> float (n, 3, 64, 64)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from models.train.glimpse.net import centred

# Half-widths of uniform draws: log of the zoom, log of the stretch, share of the side, radians.
ZOOM, STRETCH, SHIFT, TURN = 0.25, 0.12, 0.10, 0.12
GREY, NIGHT, BLURRED, NOISY, COVERED = 0.10, 0.08, 0.15, 0.20, 0.25
COVER_SIDE = (0.15, 0.45)


def augment(pixels: Any, generator: Any) -> Any:
    """uint8 (n, 64, 64, 3) -> float (n, 3, 64, 64) in [-1, 1], channels last."""
    x = _lit(_moved(centred(pixels), generator), generator)
    x = _covered(_noisy(_blurred(x, generator), generator), generator)
    return x.clamp(-1, 1).contiguous(memory_format=torch.channels_last)


def _uniform(count: int, generator: Any, low: float = -1.0, high: float = 1.0) -> Any:
    return low + (high - low) * torch.rand((count, 1, 1, 1), generator=generator)


def _some(count: int, share: float, generator: Any) -> Any:
    return (torch.rand((count, 1, 1, 1), generator=generator) < share).float()


def _moved(x: Any, generator: Any) -> Any:
    """Flipped, zoomed, stretched, turned a little, shifted; what comes in at the rim is mirrored."""
    n = len(x)
    zoom, stretch, turn, right, down = (
        _uniform(n, generator)[:, 0, 0, 0] * span for span in (ZOOM, STRETCH, TURN, 2 * SHIFT, 2 * SHIFT)
    )
    flip = 1 - 2 * _some(n, 0.5, generator)[:, 0, 0, 0]
    wide, high = torch.exp(zoom + stretch), torch.exp(zoom - stretch)
    cos, sin = torch.cos(turn), torch.sin(turn)
    rows = [torch.stack([flip * wide * cos, -high * sin, right], 1)]
    rows += [torch.stack([flip * wide * sin, high * cos, down], 1)]
    grid = nn.functional.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return nn.functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def _lit(x: Any, generator: Any) -> Any:
    """Another contrast, brightness and tint; sometimes grey; sometimes a lamp in the dark."""
    n = len(x)
    grey = _some(n, GREY, generator)
    night = _some(n, NIGHT, generator)
    grey = torch.maximum(grey, night)
    x = x * (1 - grey) + x.mean(1, keepdim=True) * grey
    side = torch.linspace(-1, 1, x.shape[2])
    radius = (side[:, None] ** 2 + side[None, :] ** 2)[None, None]
    lamp = _uniform(n, generator, 0.5, 1.1) * torch.exp(-_uniform(n, generator, 0.3, 1.2) * radius)
    x = x * (1 - night) + ((x + 1) * lamp - 1) * night
    tint = 0.08 * (2 * torch.rand((n, 3, 1, 1), generator=generator) - 1) * (1 - grey)
    return x * (1 + 0.3 * _uniform(n, generator)) + 0.2 * _uniform(n, generator) + tint


def _blurred(x: Any, generator: Any) -> Any:
    """Blur some by a 3x3 binomial, like an objective out of focus."""
    some = _some(len(x), BLURRED, generator)
    line = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = (line[:, None] * line[None, :]).expand(3, 1, 3, 3)
    soft = nn.functional.conv2d(nn.functional.pad(x, (1, 1, 1, 1), mode="reflect"), kernel.contiguous(), groups=3)
    return x * (1 - some) + soft * some


def _noisy(x: Any, generator: Any) -> Any:
    strength = _some(len(x), NOISY, generator) * _uniform(len(x), generator, 0.01, 0.08)
    return x + strength * torch.randn(x.shape, generator=generator)


def _covered(x: Any, generator: Any) -> Any:
    """Cover a part of some with a rectangle of one shade (random erasing, Zhong et al. 2017, arXiv:1708.04896)."""
    n = len(x)
    some = _some(n, COVERED, generator)
    at = torch.linspace(0, 1, x.shape[2])
    inside = torch.ones(())
    for axis in ((1, 1, -1, 1), (1, 1, 1, -1)):
        size = _uniform(n, generator, *COVER_SIDE)
        start = _uniform(n, generator, 0.0, 1.0) * (1 - size)
        line = at.reshape(axis)
        inside = inside * ((line >= start) & (line < start + size)).float()
    cover = some * inside
    return x * (1 - cover) + _uniform(n, generator) * cover
