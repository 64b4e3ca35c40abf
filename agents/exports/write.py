"""Bring rows through the gate into a file, which appears whole or not at all.

Each row is released (`pipeline.privacy.egress`) or left out and counted. The format writes into a hidden folder beside
the target, its bytes are brought to the disk, and then it is renamed. So a full disk or a killed process leaves what
was there before. Rows are taken one at a time: a file of any length needs the same memory.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol

import msgspec

from agents.exports import plain
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
}


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
        with draft.open("rb") as file:
            fsync.to_disk(file.fileno())
        draft.replace(target)
        fsync.directory_to_disk(target.parent)
    except OSError as error:
        raise Stop(
            f"{target}: not written ({error.strerror}); what stood there before, if anything, is still there"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
