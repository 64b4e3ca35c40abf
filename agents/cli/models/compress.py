"""`tierwise models compress`: make a float ONNX network smaller, and measure the cost on your own photos.

$ tierwise models compress int8 mine.onnx --photos ~/photos      # a quarter of the size; writes mine.int8.onnx
$ tierwise models compress fp16 mine.onnx --photos ~/photos      # half of it; writes mine.fp16.onnx
$ tierwise models compress prune --keep 0.75 --keep 0.5          # glimpse with fewer channels, trained a little longer

All three need the `[train]` extra. `prune` also needs the training recipes, which only the repository holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markdown import Markdown

from agents.cli.tables import text_console
from pipeline.errors import Stop

Network = Annotated[Path, typer.Argument(metavar="NETWORK.onnx", help="A float network that takes pictures.")]
Photos = Annotated[
    Path, typer.Option(help="Folder of photos like those that the network will see; about 200 are used.")
]
Out = Annotated[Path | None, typer.Option(help="File to write; default: beside the network.")]
SizePx = Annotated[int | None, typer.Option("--size", help="Side in pixels, if the network takes any size.")]
Subtract = Annotated[float, typer.Option(help="Number that the network expects to be subtracted from each byte ...")]
Divide = Annotated[float, typer.Option(help="... and number by which the difference is divided.")]


def int8(
    network: Network,
    photos: Photos,
    out: Out = None,
    size_px: SizePx = None,
    subtract: Subtract = 127.0,
    divide: Divide = 128.0,
) -> None:
    """Store weights and activations as bytes (static int8); their ranges are learned from photos."""
    _compress("int8", network, photos, out, (subtract, divide, size_px))


def fp16(
    network: Network,
    photos: Photos,
    out: Out = None,
    size_px: SizePx = None,
    subtract: Subtract = 127.0,
    divide: Divide = 128.0,
) -> None:
    """Store weights as float16: half the size, for accelerators; most CPUs are not faster with it."""
    _compress("fp16", network, photos, out, (subtract, divide, size_px))


def prune(
    keep: Annotated[list[float] | None, typer.Option(help="Share of the channels to keep.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="How long each smaller network is trained.")] = 3,
) -> None:
    """Train glimpse again with fewer channels. Needs the data and the checkpoint of its training."""
    pruning, training = (_load(f"models.train.glimpse.{name}") for name in ("prune", "train"))
    sizes = pruning.prune(keep or (0.75, 0.5), training.Recipe(epochs, rate=pruning.REPAIR_RATE))
    text_console().print(Markdown(pruning.render(sizes)))


def _compress(
    kind: Literal["int8", "fp16"],
    network: Path,
    photos: Path,
    out: Path | None,
    preparation: tuple[float, float, int | None],
) -> None:
    """Write the smaller network completely or not at all, and print the cost. Raises `Stop`."""
    target = out or network.with_suffix(f".{kind}.onnx")
    if target.resolve() == network.resolve():
        raise Stop(
            f"--out {target} is the network itself: name another file, since the smaller network cannot be made large again"
        )
    compress = _load("models.imported.compress")
    batches = list(compress.calibration(network, photos, compress.Preparation(*preparation)))
    unfinished = target.with_name(f"unfinished.{target.name}")
    try:
        if kind == "int8":
            compress.quantise(network, unfinished, batches)
        else:
            compress.halve(network, unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    _report(compress, network, target, batches)


def _load(module: str) -> Any:
    """Import a module that needs the `[train]` extra. Raises `Stop` if the extra is missing."""
    import importlib

    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in ("onnx", "torch"):
            raise
        raise Stop(f"{error.name} is not installed; pip install 'tierwise[train]'") from error


def _report(compress: Any, network: Path, target: Path, batches: Any) -> None:
    """Print the path of the written file, and how it differs from the network."""
    console = text_console()
    console.print(Markdown(compress.render(compress.compare([network, target], batches))))
    console.print(f"wrote {target}", highlight=False)
