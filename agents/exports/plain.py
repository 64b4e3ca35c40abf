"""CSV for spreadsheets, and JSON lines for programs: every field of a row.

A spreadsheet takes a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula, so such a text gets an
apostrophe in front: the sign with which spreadsheets mark text. `unguarded` takes it away again, and `tierwise label
--csv` reads such cells. (OWASP, CSV injection.)

    >>> guarded("=cmd()"), guarded("cat"), unguarded(guarded("'quoted'"))
    ("'=cmd()", 'cat', "'quoted'")
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

import msgspec

from agents.exports.rows import ExportBox, ExportOptions, ExportRow
from pipeline.privacy.egress import Released

COLUMNS: Final = ExportRow.__struct_fields__
"""Of the CSV, in this order; new ones are only ever added at the end of their group."""

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "'")


def guarded(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def unguarded(text: str) -> str:
    """Return the text that `guarded` was given."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


class CsvFile:
    """UTF-8 with a byte order mark, by which Excel knows the encoding; commas; text in quotes where it needs them."""

    def __init__(self, draft: Path, _options: ExportOptions) -> None:
        self._file = draft.open("w", encoding="utf-8-sig", newline="")
        self._rows = csv.writer(self._file)
        self._rows.writerow(COLUMNS)

    def add(self, row: Released[ExportRow]) -> str:
        """Write a row."""
        self._rows.writerow([cell(getattr(row.content, name)) for name in COLUMNS])
        return ""

    def finish(self) -> None:
        """Write nothing: each row stands for itself."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class JsonLines:
    """One object a line."""

    def __init__(self, draft: Path, _options: ExportOptions) -> None:
        self._file = draft.open("wb")

    def add(self, row: Released[ExportRow]) -> str:
        """Write a row."""
        self._file.write(msgspec.json.encode(row.content) + b"\n")
        return ""

    def finish(self) -> None:
        """Write nothing: each row stands for itself."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def cell(value: object) -> str:
    """Return a field's value as a cell."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:.6g}"
        case tuple():
            return guarded(" > ".join(_box(part) if isinstance(part, ExportBox) else str(part) for part in value))
        case _:
            return guarded(str(value)) if isinstance(value, str) else str(value)


def _box(box: ExportBox) -> str:
    corners = " ".join(f"{share:.4f}" for share in (box.left, box.top, box.right, box.bottom))
    return f"{box.category} {box.confidence:.3f} {corners}"
