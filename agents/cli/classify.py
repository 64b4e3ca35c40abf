"""`tierwise classify PHOTO|DIR...`: answer photos and videos with all tiers in this process, without a broker.

$ tierwise classify cat.jpg
cat.jpg    animal > Felidae > Felis catus (cat)   0.91   public   device 31 ms, edge 9 ms, cloud 1 ms
$ tierwise classify ~/card -o answers.csv
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from agents.cli.card_progress import CardProgress
from agents.cli.models.device_model import DeviceModelName, SeesWith
from agents.cli.models.open_chain import OpenChain, chain_settings, learned_file
from agents.cli.options import AsJson, EdgeModelTitle, SettingsFile
from agents.cli.tables import line_width, text_console
from agents.exports import ExportFormat, ExportOptions, ExportRow, write
from agents.exports.classified import english_of, row_of
from agents.role import exit_codes
from models.answering.tier_chain import Classified
from models.card.answering import AnsweredStretch, CardRun, Outcome
from models.labels.taxonomy import load_taxonomy
from models.vision.clip_files import digest_of
from models.vision.photo_files import PICTURE_SUFFIXES, photos_of
from pipeline.errors import Stop
from pipeline.files import private_files
from pipeline.settings.settings import Settings

FULL_WIDTH = 145
"""A terminal of this width also shows the path and the times."""

FEW = 3
"""Up to so many photos, neither progress nor a summary is shown, and no answers are kept."""

KEPT: Final = Path("classify", "answers.db")
"""The kept answers, within the data folder."""

STOPPED: Final = 130
"""Exit code of a command that was stopped by Ctrl-C, as shells have it."""

LABELS_SHOWN: Final = 12


def classify(
    what: Annotated[
        list[Path], typer.Argument(metavar="PHOTO|DIR...", help="JPEG or PNG files, videos, or folders of them.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the answers into a file, as a table.")
    ] = None,
    form: Annotated[
        ExportFormat | None, typer.Option("--format", help="Format of the file; otherwise by its name, else csv.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: as many as cores, fewer for few photos.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Answer again what an earlier run has answered.")] = False,
    device_model: SeesWith = DeviceModelName.lite0,
    as_json: AsJson = False,
    edge_model: EdgeModelTitle = "",
    settings: SettingsFile = None,
) -> None:
    """Answer photos with all three tiers in this process, without a broker. Prints a line a photo or video.

    Ctrl-C stops it; the same command goes on from there. `tierwise labels import FILE.csv` learns from the table of
    `-o` when its labels are corrected; `tierwise training replay` learns and measures on one fixed camera.
    """
    loaded = Settings.load(settings)
    console, errors = text_console(), text_console(stderr=True)
    files, missing = _pictures(what)
    for problem in missing:
        errors.print(f"[red]{escape(problem)}[/]")
    used = chain_settings(loaded)
    run = CardRun(
        opener=OpenChain(loaded, edge_model, device_model.value),
        settings=msgspec.json.encode(used) + _learned(loaded),
        zone=loaded.zone,
        now_s=float(int(time.time())),
        pause_s=max(used.device.sighting_gap_s, used.device.person_hold_s, used.device.still_s),
        kept=_kept(loaded, errors) if len(files) > FEW else None,
        again=again,
    )
    totals = _Totals()
    show = _Lines(console, errors, as_json=as_json, quiet=output is not None)
    try:
        with CardProgress(errors, len(files) if len(files) > FEW else 0) as progress:
            dated = [run.dated(*each) for each in progress.reading(files)]
            with closing(run.outcomes(dated, workers)) as done:
                outcomes = _shown(done, show, totals, progress)
                if output is None:
                    for _ in outcomes:
                        pass
                else:
                    tree = load_taxonomy()
                    rows: Iterator[ExportRow] = (row_of(each, loaded.site, tree) for each in outcomes)
                    written = write(rows, output, form or _format_of(output), ExportOptions(settings=loaded))
    except KeyboardInterrupt:
        goes_on = "; the same command goes on from there" if run.kept is not None else ""
        errors.print(f"stopped after {totals.pictures:,} of {len(files):,}{goes_on}")
        raise typer.Exit(STOPPED) from None
    except sqlite3.Error as error:
        raise Stop(
            f"{run.kept}: {error}; free some disk space, or remove this file: its answers are made anew"
        ) from error
    if len(files) > FEW:
        errors.print(escape(totals.text()))
    if output is not None:
        errors.print(escape(written.text()))
    if sum(totals.refused.values()) == len(files):
        raise typer.Exit(exit_codes.STOP)
    if totals.refused or missing:
        raise typer.Exit(exit_codes.FAILED)


def _kept(settings: Settings, errors: Console) -> Path | None:
    """Return the file of kept answers, or None where it cannot be: on a read-only card, pictures are answered too."""
    file = settings.data_dir / KEPT
    try:
        private_files.make_folder(file.parent)
        private_files.make_file(file)
    except OSError as error:
        text = (
            f"{file}: {error.strerror}: a run that is stopped begins anew; `data` of the settings names another folder"
        )
        errors.print(f"[yellow]{escape(text)}[/]")
        return None
    return file


def _learned(settings: Settings) -> bytes:
    """Return the digest of the site's lessons, which change answers."""
    file = learned_file(settings)
    return digest_of(file) if file.exists() else b""


def _shown(done: Iterator[AnsweredStretch], show: _Lines, totals: _Totals, progress: CardProgress) -> Iterator[Outcome]:
    """Print, count and hand on each outcome."""
    for stretch in done:
        for outcome in stretch.outcomes:
            show(outcome)
            totals.add(outcome, known=stretch.known)
            yield outcome
        progress.answered(len(stretch.outcomes), known=stretch.known)


@dataclass(slots=True)
class _Totals:
    """What a run has answered."""

    media: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    persons: int = 0
    empty: int = 0
    known: int = 0

    @property
    def pictures(self) -> int:
        return self.media.total() + self.refused.total()

    def add(self, outcome: Outcome, *, known: bool) -> None:
        self.known += known
        if (answer := outcome.answer) is None:
            self.refused[outcome.refused.reason if outcome.refused else "unknown"] += 1
            return
        self.media[answer.media] += 1
        self.persons += answer.person
        self.empty += answer.final.path[:1] == ("other",)
        if answer.final.path[:1] == ("animal",):
            self.labels[f"{answer.final.label}{_english(answer)}"] += 1

    def text(self) -> str:
        """Return the summary for people."""
        whole = f"{_count(self.media['image'], 'photo')}, {_count(self.media['video'], 'video')}"
        lines = [f"{whole}; with persons {self.persons:,}, empty {self.empty:,}, animals {self.labels.total():,}"]
        if self.known:
            lines[0] += f"; {self.known:,} known from an earlier run (--again answers them anew)"
        most = self.labels.most_common(LABELS_SHOWN)
        lines += [f"  {label:<42} {number:>7,}" for label, number in most]
        if rest := self.labels.total() - sum(number for _, number in most):
            lines.append(f"  {'others':<42} {rest:>7,}")
        lines += [f"refused {number:,}: {reason}" for reason, number in self.refused.most_common()]
        return "\n".join(lines)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class _Lines:
    """Prints a line an outcome; with `quiet` only of what is refused."""

    console: Console
    errors: Console
    as_json: bool
    quiet: bool

    def __call__(self, outcome: Outcome) -> None:
        if (refused := outcome.refused) is not None:
            if self.as_json:
                print(msgspec.json.encode({"file": outcome.file, "refused": refused}).decode(), flush=True)
            text = f"{printable(outcome.file)}: refused ({refused.reason}): {refused.detail}"
            self.errors.print(f"[red]{escape(text)}[/]")
        elif self.as_json:
            print(msgspec.json.encode(outcome.answer).decode(), flush=True)
        elif outcome.answer is not None and not self.quiet:
            self.console.print(escape(line(outcome.answer, line_width(self.console))))


def line(answer: Classified, width: int = FULL_WIDTH) -> str:
    """Return one photo's answer as one line; in a narrow terminal without the path and the times."""
    path = " > ".join(answer.final.path) or answer.final.label
    ms = ", ".join(f"{tier} {took:.0f} ms" for tier, took in answer.ms.items())
    last, name = answer.answers[-1], printable(answer.file)
    if width < FULL_WIDTH:
        label = f"{answer.final.label}{_english(answer)}"
        return f"{name[-24:]:<24} {label[:34]:<34} {last.probability:4.2f}  {answer.privacy}"
    return f"{name:<28} {path + _english(answer):<52} {last.probability:4.2f}  {answer.privacy:<12} {ms}"


def printable(name: str) -> str:
    """Return a file's name with line breaks and the like as escapes."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in name)


def _english(answer: Classified) -> str:
    english = english_of(load_taxonomy(), answer)
    return f" ({english})" if english not in ("", answer.final.label) else ""


def _format_of(output: Path) -> ExportFormat:
    return ExportFormat.JSON if output.suffix.lower() in (".json", ".jsonl") else ExportFormat.CSV


def _pictures(paths: Sequence[Path]) -> tuple[list[tuple[str, Path]], list[str]]:
    """Return the pictures of all paths with their names, and a line about each path without any.

    Within a single folder, a name is the path from there. Raises `Stop` if there is no picture.
    """
    files: list[tuple[str, Path]] = []
    missing = []

    def unlisted(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            missing.append(f"{error.filename}: cannot be searched: {error.strerror}")

    for path in paths:
        found = photos_of(path, unlisted, suffixes=PICTURE_SUFFIXES)
        alone = len(paths) == 1 and found != [path]
        files += [(_text((file.relative_to(path) if alone else file).as_posix()), file) for file in found]
        if not found and path.exists():
            missing.append(f"{path}: no photos in it (looked for {', '.join(sorted(PICTURE_SUFFIXES))})")
        elif not found:
            missing.append(f"{path}: no such file or folder")
    if not files:
        raise Stop("\n".join(missing))
    return files, missing


def _text(name: str) -> str:
    """Return a name that is text: a file's name may hold bytes that are none."""
    return name.encode("utf-8", "backslashreplace").decode()
