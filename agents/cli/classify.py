"""`tierwise classify PHOTO|DIR...`: answer photos and videos with all tiers in this process, without a broker.

$ tierwise classify cat.jpg
cat.jpg    animal > Felidae > Felis catus (cat)   0.91   public   device 31 ms, edge 9 ms, cloud 1 ms
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape
from rich.progress import track

from agents.cli.models.device_model import DeviceModelName, SeesWith
from agents.cli.options import AsJson, EdgeModelTitle, SettingsFile
from agents.cli.tables import line_width, text_console
from agents.role import exit_codes
from agents.rollout.imported_models import open_edge_model
from models.answering.tier_chain import Classified, TierChain, classified
from models.labels.taxonomy import UnknownLabel, load_taxonomy
from models.shipped import load_zoo
from models.vision.clip_files import read_picture
from models.vision.photo_files import PICTURE_SUFFIXES, photos_of
from pipeline.errors import Rejected, Stop
from pipeline.settings.settings import Settings

FULL_WIDTH = 145
"""A terminal of this width also shows the path and the times."""

FEW = 3
"""Up to so many photos, no progress bar is shown."""


def classify(
    what: Annotated[
        list[Path], typer.Argument(metavar="PHOTO|DIR...", help="JPEG or PNG files, videos, or folders of them.")
    ],
    device_model: SeesWith = DeviceModelName.lite0,
    as_json: AsJson = False,
    edge_model: EdgeModelTitle = "",
    settings: SettingsFile = None,
) -> None:
    """Answer photos with all three tiers in this process, without a broker. Prints a line a photo or video."""
    files, missing = _photos(what)
    families = open_edge_model(load_zoo(), Settings.load(settings), edge_model)
    chain = TierChain.open(device_model=device_model.value, families=families)
    console = text_console()
    errors = text_console(stderr=True)
    for problem in missing:
        errors.print(f"[red]{escape(problem)}[/]")
    refused = 0
    quiet = as_json or len(files) <= FEW or not sys.stderr.isatty()
    for file in track(files, "classifying", console=errors, disable=quiet, transient=True):
        try:
            answer = classified(str(file), chain.answer(read_picture(file)))
        except (Rejected, OSError) as error:
            refused += 1
            reason = error.reason if isinstance(error, Rejected) else "unreadable"
            if as_json:
                fields = {"file": str(file), "refused": {"reason": reason, "detail": str(error)}}
                print(msgspec.json.encode(fields).decode(), flush=True)
            errors.print(f"[red]{escape(str(file))}: refused ({reason}): {escape(str(error))}[/]")
            continue
        if as_json:
            print(msgspec.json.encode(answer).decode(), flush=True)
        else:
            console.print(escape(line(answer, line_width(console))))
    if refused == len(files):
        raise typer.Exit(exit_codes.STOP)


def line(answer: Classified, width: int = FULL_WIDTH) -> str:
    """Return one photo's answer as one line; in a narrow terminal without the path and the times."""
    path = " > ".join(answer.final.path) or answer.final.label
    ms = ", ".join(f"{tier} {took:.0f} ms" for tier, took in answer.ms.items())
    last = answer.answers[-1]
    if width < FULL_WIDTH:
        label = f"{answer.final.label}{_english(answer)}"
        return f"{Path(answer.file).name[:24]:<24} {label[:34]:<34} {last.probability:4.2f}  {answer.privacy}"
    return (
        f"{Path(answer.file).name:<28} {path + _english(answer):<52} {last.probability:4.2f}  {answer.privacy:<12} {ms}"
    )


def _english(answer: Classified) -> str:
    try:
        english = load_taxonomy().english(answer.final.label)
    except UnknownLabel:
        return ""
    return f" ({english})" if english != answer.final.label else ""


def _photos(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Return the photos of all paths, and a line about each path without any. Raises `Stop` if there is no photo."""
    files: list[Path] = []
    missing = []
    for path in paths:
        found = photos_of(path, suffixes=PICTURE_SUFFIXES)
        files += found
        if not found and path.exists():
            missing.append(f"{path}: no photos in it (looked for {', '.join(sorted(PICTURE_SUFFIXES))})")
        elif not found:
            missing.append(f"{path}: no such file or folder")
    if not files:
        raise Stop("\n".join(missing))
    return files, missing
