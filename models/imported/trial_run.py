"""Try an imported network on pictures, and measure how fast it runs, before the registry gets it.

Example::

    pictures = chain(generated(), own_pictures(spread(paths), at_least_px=224))
    outputs = try_out(own, pictures, file)                                # float32 (pictures, length); raises Stop
    benchmark(own.output, lite0.feature, len(outputs)).ratio              # 1.4: takes 1.4 times as long as lite0
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from models.imported.imported_model import ImportedNetwork, Picture
from models.vision import images
from pipeline.errors import Rejected, Stop

FIGURES: Final = "figures.json"

SMOKE_PHOTOS: Final = 50
"""The most pictures of a user that are tried; a folder may hold thousands."""

BENCHMARK_RUNS: Final = 15
BENCHMARK_S: Final = 10.0
"""The benchmark ends after this time: a slow model is measured by fewer runs."""


class ImportFigures(msgspec.Struct, frozen=True):
    """``figures.json``: the trial and the benchmark. Milliseconds are medians on one thread, resizing included."""

    pictures: int
    ms: float
    lite0_ms: float
    ratio: float


def generated() -> Iterator[Picture]:
    """Yield pictures of several shapes and contents: black, white, noise, stripes; always the same."""
    rng = np.random.default_rng(0)
    yield np.zeros((240, 320, 3), np.uint8)
    yield np.full((320, 240, 3), 255, np.uint8)
    yield rng.integers(0, 256, (64, 64, 3), np.uint8)
    yield rng.integers(0, 256, (480, 640, 3), np.uint8)
    stripes = np.zeros((300, 300, 3), np.uint8)
    stripes[:, ::20] = (0, 160, 80)
    yield stripes


def spread(paths: Sequence[Path], count: int = SMOKE_PHOTOS) -> Sequence[Path]:
    """Return at most `count` paths, evenly spread.

    >>> [path.name for path in spread([Path(f"{at}.jpg") for at in range(10)], 4)]
    ['0.jpg', '2.jpg', '5.jpg', '7.jpg']
    """
    return [paths[at * len(paths) // count] for at in range(count)] if len(paths) > count else paths


def own_pictures(paths: Iterable[Path], at_least_px: int) -> Iterator[Picture]:
    """Decode pictures one by one, a JPEG at the smallest size with a short side of `at_least_px`. Raises `Stop`."""
    for path in paths:
        try:
            yield images.decode(path.read_bytes(), at_least_px)
        except (OSError, Rejected) as error:
            raise Stop(f"--smoke: {path}: {error}") from error


def try_out(own: ImportedNetwork, pictures: Iterable[Picture], file: Path) -> np.ndarray:
    """Return outputs (pictures, length). Raises `Stop` unless they are flat, finite, repeatable and not all equal."""
    outputs = []
    for picture in pictures:
        first, again = (_run(own, picture, file) for _ in range(2))
        if not np.isfinite(first).all():
            raise Stop(f"{file} gives numbers that are not finite (NaN or infinity) for an ordinary picture")
        if not np.array_equal(first, again):
            raise Stop(
                f"{file} gives two different outputs for one picture: export it for inference (model.eval()), without dropout"
            )
        outputs.append(first)
    if len({output.shape for output in outputs}) != 1:
        raise Stop(f"{file} gives outputs of different lengths for different pictures; it has to give one flat vector")
    if all(np.array_equal(outputs[0], output) for output in outputs):
        raise Stop(
            f"{file} gives the same output for every picture: it ignores its input, or its input is scaled wrongly"
        )
    return np.stack(outputs)


def _run(own: ImportedNetwork, picture: Picture, file: Path) -> np.ndarray:
    try:
        raw = own.raw(picture)
    except Exception as error:  # onnxruntime's own errors share no base class
        high, wide = own.spec.size
        raise Stop(f"{file} does not run on a picture of {wide}x{high}: {error}; give another --input-size?") from error
    if raw.ndim < 2 or raw.shape[0] != 1 or sum(side > 1 for side in raw.shape) > 1:
        shape = "x".join(map(str, raw.shape))
        raise Stop(
            f"{file} gives an output of {shape}; it has to be one flat vector a picture (1xN): export the pooled layer"
        )
    return raw.reshape(-1)


def benchmark(own: Callable[[Picture], object], lite0: Callable[[Picture], object], pictures: int) -> ImportFigures:
    """Time both networks in turn on the same picture, so that other work of the machine slows both alike."""
    picture = np.random.default_rng(1).integers(0, 256, (240, 320, 3), np.uint8)
    took: tuple[list[float], list[float]] = ([], [])
    began = time.perf_counter()
    for run in range(BENCHMARK_RUNS + 1):
        for each, times in zip((own, lite0), took, strict=True):
            start = time.perf_counter()
            each(picture)
            if run:  # the first warms up
                times.append((time.perf_counter() - start) * 1e3)
        if run and time.perf_counter() - began > BENCHMARK_S:
            break
    ms, lite0_ms = (float(np.median(times)) for times in took)
    return ImportFigures(pictures, round(ms, 2), round(lite0_ms, 2), round(ms / lite0_ms, 2))
