"""`tierwise models compress`: makes a float ONNX network smaller, and says what that costs on one's own photos.

$ tierwise models compress int8 mine.onnx --photos ~/photos      # a quarter of the size; writes mine.int8.onnx
$ tierwise models compress fp16 mine.onnx --photos ~/photos      # half of it; writes mine.fp16.onnx
$ tierwise models compress prune --keep 0.75 --keep 0.5          # glimpse with fewer channels, trained on for a little

All three need the `[train]` extra; without it they say so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markdown import Markdown

from pipeline.errors import Stop

app = typer.Typer(no_args_is_help=True)

Network = Annotated[Path, typer.Argument(metavar="NETWORK.onnx", help="A float network that takes pictures.")]
Photos = Annotated[
    Path, typer.Option(help="Folder of photos like those that it will see; some 200 are used.")
]
Out = Annotated[Path | None, typer.Option(help="File to write; default: beside the network.")]
SizePx = Annotated[
    int | None, typer.Option("--size", help="Side in pixels, of a network that takes any size.")
]
Subtract = Annotated[float, typer.Option(help="What the network wants subtracted from each byte ...")]
Divide = Annotated[float, typer.Option(help="... and the difference divided by.")]


@app.command()
def int8(
    network: Network,
    photos: Photos,
    out: Out = None,
    size_px: SizePx = None,
    subtract: Subtract = 127.0,
    divide: Divide = 128.0,
) -> None:
    """Static int8: weights and activations as bytes, their ranges learned from photos."""
    _compress("int8", network, photos, out, (subtract, divide, size_px))


@app.command()
def fp16(
    network: Network,
    photos: Photos,
    out: Out = None,
    size_px: SizePx = None,
    subtract: Subtract = 127.0,
    divide: Divide = 128.0,
) -> None:
    """float16: half the size, for accelerators; most CPUs compute it no faster."""
    _compress("fp16", network, photos, out, (subtract, divide, size_px))


@app.command()
def prune(
    keep: Annotated[list[float] | None, typer.Option(help="Share of the channels to keep.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="How long each smaller network is trained on.")] = 3,
) -> None:
    """Glimpse with fewer channels: accuracy against size. Needs its training's data and checkpoint."""
    pruning, training = (_needs_train(f"models.train.glimpse.{name}") for name in ("prune", "train"))
    sizes = pruning.prune(keep or (0.75, 0.5), training.Recipe(epochs, rate=pruning.REPAIR_RATE))
    Console().print(Markdown(pruning.render(sizes)))


def _compress(
    kind: Literal["int8", "fp16"],
    network: Path,
    photos: Path,
    out: Path | None,
    preparation: tuple[float, float, int | None],
) -> None:
    """Writes the smaller network, the whole of it or nothing, and says what it costs. Raises `Stop`."""
    target = out or network.with_suffix(f".{kind}.onnx")
    if target.resolve() == network.resolve():
        raise Stop(
            f"--out {target} is the network itself, which cannot be made from the smaller one again: name another file"
        )
    compress = _needs_train("models.train.compress")
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
    _told(compress, network, target, batches)


def _needs_train(module: str) -> Any:
    """A module of `models.train`, which this command alone brings. Raises `Stop` where its libraries are not."""
    import importlib

    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in ("onnx", "torch"):
            raise
        raise Stop(f"{error.name} is not installed; pip install 'tierwise[train]'") from error


def _told(compress: Any, network: Path, target: Path, batches: Any) -> None:
    """What was written, and how it differs."""
    console = Console(soft_wrap=True)
    console.print(Markdown(compress.render(compress.compare([network, target], batches))))
    console.print(f"wrote {target}", highlight=False)
