"""Bring rows through the gate into a file, which appears whole or not at all.

Each row is released (`pipeline.privacy.egress`) or left out and counted. The format writes into a hidden folder beside
the target, its bytes are brought to the disk, and then it is renamed. So a full disk or a killed process leaves what
was there before. Rows are taken one at a time: a file of any length needs the same memory.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol

import msgspec

from agents.exports import plain, recognition
from agents.exports.camtrap_dp import CamtrapPackage
from agents.exports.rows import ExportFormat, ExportOptions, ExportRow, ExportSummary
from pipeline.errors import Stop, Withheld
from pipeline.files import fsync
from pipeline.messages import Privacy
from pipeline.privacy.egress import Released, release


class FormatWriter(Protocol):
    """One format. Made by its `open`, with a path where nothing is yet."""

    def add(self, row: Released[ExportRow]) -> str:
        """Write a row; return "" or the reason why the format has no place for it."""

    def finish(self) -> None:
        """Write what comes after the rows."""

    def close(self) -> None:
        """Close the file, whether it is finished or not."""


WRITERS: Final[Mapping[ExportFormat, Callable[[Path, ExportOptions], FormatWriter]]] = {
    ExportFormat.CSV: plain.CsvFile,
    ExportFormat.JSON: plain.JsonLines,
    ExportFormat.CAMTRAP_DP: CamtrapPackage,
    ExportFormat.MEGADETECTOR: recognition.MegaDetectorJson,
    ExportFormat.TIMELAPSE: recognition.TimelapseCsv,
}


PACKAGE_MARK: Final = "datapackage.json"
"""A folder that holds this is an earlier package, which a new one replaces. Any other folder is left alone."""


def write(
    rows: Iterable[ExportRow], target: Path, form: ExportFormat, options: ExportOptions | None = None
) -> ExportSummary:
    """Write rows to `target` in this format.

    Raises
    ------
    Stop
        The file cannot be written there, the disk is full, or the format needs settings that are missing.
    """
    options = options or ExportOptions()
    withheld: Counter[Privacy] = Counter()
    skipped: Counter[str] = Counter()
    written = 0
    with _appearing(target) as draft, contextlib.closing(WRITERS[form](draft, options)) as writer:
        for row in map(_as_text, rows):
            try:
                released = release(row, row.privacy, options.reach, allow=options.allow)
            except Withheld:
                withheld[row.privacy] += 1
                continue
            reason = writer.add(released)
            if reason:
                skipped[reason] += 1
            else:
                written += 1
        writer.finish()
    return ExportSummary(target, written, dict(withheld), dict(skipped))


def _replace(draft: Path, target: Path, before: Path) -> None:
    """Rename the draft to the target. No call replaces a folder of files, so an earlier package first moves away."""
    replaces = draft.is_dir() and (target / PACKAGE_MARK).is_file()
    if replaces:
        target.rename(before)
    try:
        draft.replace(target)
    except OSError:
        if replaces:
            before.rename(target)
        raise


def _packed(package: Path, target: Path) -> Path:
    """Return the zip of a folder of files."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(package.iterdir()):
            archive.write(file, file.name)
    return target


def _as_text(row: ExportRow) -> ExportRow:
    """Return the row with a path that is text: a file's name may hold bytes that are none."""
    if row.path.isascii() or not any("\udc80" <= sign <= "\udcff" for sign in row.path):
        return row
    return msgspec.structs.replace(row, path=row.path.encode("utf-8", "backslashreplace").decode())


@contextlib.contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """Give the path of a draft, and rename it to the target when all is on the disk."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=fsync.HIDDEN, dir=target.parent))
    except OSError as error:
        raise Stop(f"{target}: cannot be written: {error.strerror}") from error
    try:
        draft = folder / "draft"
        yield draft
        if draft.is_dir() and target.suffix.lower() == ".zip":
            draft = _packed(draft, folder / "package")
        for path in draft.iterdir() if draft.is_dir() else (draft,):
            with path.open("rb") as file:
                fsync.to_disk(file.fileno())
        _replace(draft, target, folder / "before")
        fsync.directory_to_disk(target.parent)
    except OSError as error:
        raise Stop(
            f"{target}: not written ({error.strerror}); what stood there before, if anything, is still there"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
