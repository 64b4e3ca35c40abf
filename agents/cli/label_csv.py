"""Labels from a CSV: the columns `event` and `label`, perhaps `by`, `time`, `under`, `english` and `device`.

::

    event,label,by,time
    0193f0b8-7b1a-7c3e-9d0a-2f6f2f6b1c11,Felis catus,ann,2026-11-22T14:02:11Z
    5c6c97,red fox,ben,

A row that cannot be used is told with its line, and the others are sent; of a file that is no such table nothing is.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from agents.client.labelling import Given
from agents.edge.label_rules import LABEL_MAX_BYTES
from models.evaluation.frame_sequence import parse_time
from pipeline import clock, messages
from pipeline.errors import Rejected, Stop
from pipeline.messages import Label

NEEDED: Final = ("event", "label")
OPTIONAL: Final = ("by", "time", "under", "english", "device")

EXTRA: Final = ""
"""What no column is called."""

_HOW_TO: Final = (
    f"it is to be a CSV with the columns {' and '.join(NEEDED)}, and perhaps {', '.join(OPTIONAL)}"
)

Find = Callable[[str, str], tuple[str, str]]
"""An event's name and its device's, as the row has them -> full id, and the topic of its labels."""


def read_labels(file: Path, find: Find, by: str) -> tuple[list[Given], list[str]]:
    """The labels of a file in its order, and a line about each row that cannot be used; `by` gave those without a name.

    Raises
    ------
    Stop
        The file cannot be read, is no CSV, lacks a column, or has no rows.
    """
    rows = list(_rows(file))
    if not rows:
        raise Stop(f"{file} has no rows; {_HOW_TO}")
    given: list[Given] = []
    bad: list[str] = []
    for position, (number, row) in enumerate(rows):
        try:
            # One millisecond apart: of two rows about one event by one person the later counts, however often they are sent.
            said_s = parse_time(row["time"]) if row["time"] else time.time() - (len(rows) - position) / 1000
            given.append(_given(number, row, clock.rfc3339(said_s), find, by))
        except (ValueError, OverflowError, OSError):
            bad.append(f"line {number}: {row['time']!r} is no time; give seconds or ISO 8601")
        except (Rejected, Stop) as error:
            bad.append(f"line {number}: {error}")
    return given, bad


def _given(number: int, row: dict[str, str], time: str, find: Find, by: str) -> Given:
    if row[EXTRA]:
        raise Rejected("row-invalid", f"more values than columns: {row[EXTRA]!r} has none")
    if not row["event"] or not row["label"]:
        raise Rejected("row-invalid", "an event and a label are needed")
    event, topic = find(row["event"], row["device"])
    label = Label(
        event=event,
        label=row["label"],
        by=row["by"] or by,
        time=time,
        under=row["under"],
        english=row["english"],
    )
    if len(messages.encode(label)) > LABEL_MAX_BYTES:
        raise Rejected("label-too-large", f"a label has at most {LABEL_MAX_BYTES} bytes")
    return Given(f"line {number}", label, topic)


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and values, stripped; what a row lacks is empty, and what it has too much stands under `EXTRA`."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, restkey=EXTRA, restval="", strict=True)
            columns = [name.strip() for name in reader.fieldnames or ()]
            if not set(NEEDED) <= set(columns) or len(set(columns)) < len(columns):
                raise Stop(f"{file} has the columns {', '.join(columns) or 'none'}; {_HOW_TO}")
            if unknown := sorted(set(columns) - {*NEEDED, *OPTIONAL}):
                raise Stop(f"{file} has a column that is not known: {', '.join(unknown)}; {_HOW_TO}")
            reader.fieldnames = columns
            for row in reader:
                extra = " ".join(row.get(EXTRA) or ())
                yield (
                    reader.line_num,
                    {
                        **{name: (row.get(name) or "").strip() for name in (*NEEDED, *OPTIONAL)},
                        EXTRA: extra.strip(),
                    },
                )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        what = error.strerror if isinstance(error, OSError) else error
        raise Stop(f"{file} cannot be read: {what}; {_HOW_TO}") from None
