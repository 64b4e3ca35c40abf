"""`tierwise labels import FILE`: labels from a CSV with the columns `event` and `label`, perhaps more.

::

    event,label,by,time
    0193f0b8-7b1a-7c3e-9d0a-2f6f2f6b1c11,Felis catus,ann,2026-11-22T14:02:11Z
    5c6c97,red fox,ben,

With the column `path` in place of `event`, see `by_path`.
A row that cannot be used is reported with its line, and the others are sent. A file that is no such table is refused.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape

from agents.cli.labels import by_path
from agents.cli.labels.sending import find, send
from agents.cli.options import AsJson, By, Device, SettingsFile
from agents.cli.tables import text_console
from agents.client import edge_reader
from agents.client.edge_reader import LABEL_MAX_BYTES
from agents.client.labelling import LabelDelivery, person
from agents.client.window import DeliveryState
from agents.role import exit_codes
from models.evaluation.frame_sequence import parse_time
from pipeline import clock
from pipeline.errors import Rejected, Stop
from pipeline.messages import Label
from pipeline.settings.settings import Settings

NEEDED: Final = ("event", "label")
OPTIONAL: Final = ("by", "time", "under", "english", "device")

EXTRA: Final = ""
"""The name under which values without a column stand: no column is called so."""

_HOW_TO: Final = f"it needs the columns {' and '.join(NEEDED)}, and may have {', '.join(OPTIONAL)}"

Find = Callable[[str, str], tuple[str, str, str]]
"""The event and the device of a row -> whole id of the event, its site, its device."""


def import_csv(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.csv",
            help=f"Columns {' and '.join(NEEDED)}, perhaps {', '.join(OPTIONAL)}; or path and label.",
        ),
    ],
    pictures: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With paths: the folder that was classified; otherwise that of the file."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="With paths: learn from labels that were not corrected, too.")
    ] = False,
    by: By = None,
    device: Device = "",
    as_json: AsJson = False,
    settings: SettingsFile = None,
) -> None:
    """Send the labels of a CSV file to the edge; report each row that cannot be used, and send the others.

    With the column `path` in place of `event`, as `tierwise classify -o` writes it, this machine learns from the
    pictures by itself, and `tierwise classify` answers with what was learned.
    """
    loaded = Settings.load(settings)
    if by_path.has_paths(file):
        by_path.learn(file, pictures or file.parent, loaded, everything=everything)
        return
    with edge_reader.opened(loaded.data_dir) as reader:
        labels, bad = read_labels(file, lambda event, named: find(reader, loaded, event, named or device), person(by))
    errors = text_console(stderr=True)
    for complaint in bad:
        errors.print(f"[red]{escape(complaint)}[/]")
    send(loaded, labels, as_json=as_json)
    refused = sum(each.state is DeliveryState.REFUSED for each in labels)
    errors.print(f"{len(labels) - refused} labels accepted, {refused} refused by the edge, {len(bad)} rows not sent")
    if refused or bad:
        raise typer.Exit(exit_codes.STOP)


def read_labels(file: Path, find: Find, by: str) -> tuple[list[LabelDelivery], list[str]]:
    """Read the labels of a file in its order, and a line about each row that cannot be used.

    `by` is the person of rows that name none.

    Raises
    ------
    Stop
        The file cannot be read, is no CSV, lacks a column, or has no rows.
    """
    rows = list(_rows(file))
    if not rows:
        raise Stop(f"{file} has no rows; {_HOW_TO}")
    labels: list[LabelDelivery] = []
    bad: list[str] = []
    for position, (number, row) in enumerate(rows):
        try:
            # A millisecond apart: of two rows about one event by one person, the later counts.
            at_s = parse_time(row["time"]) if row["time"] else time.time() - (len(rows) - position) / 1000
            labels.append(_label(number, row, clock.rfc3339(at_s), find, by))
        except (ValueError, OverflowError, OSError):
            bad.append(f"line {number}: {row['time']!r} is not a time; give seconds or ISO 8601")
        except (Rejected, Stop) as error:
            bad.append(f"line {number}: {error}")
    return labels, bad


def _label(number: int, row: dict[str, str], time: str, find: Find, by: str) -> LabelDelivery:
    if row[EXTRA]:
        raise Rejected("row-invalid", f"more values than columns: {row[EXTRA]!r} has no column")
    if not row["event"] or not row["label"]:
        raise Rejected("row-invalid", "an event and a label are needed")
    event, site, device = find(row["event"], row["device"])
    label = Label(
        event=event,
        label=row["label"],
        by=row["by"] or by,
        time=time,
        under=row["under"],
        english=row["english"],
    )
    delivery = LabelDelivery.of(label, site, device, f"line {number}")
    if len(delivery.payload) > LABEL_MAX_BYTES:
        raise Rejected("label-too-large", f"a label has at most {LABEL_MAX_BYTES} bytes")
    return delivery


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line numbers and values, stripped. Missing values are empty; `EXTRA` holds values without a column."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, restkey=EXTRA, restval="", strict=True)
            columns = [name.strip() for name in reader.fieldnames or ()]
            if not set(NEEDED) <= set(columns) or len(set(columns)) < len(columns):
                raise Stop(f"{file} has the columns {', '.join(columns) or 'none'}; {_HOW_TO}")
            if unknown := sorted(set(columns) - {*NEEDED, *OPTIONAL}):
                raise Stop(f"{file} has an unknown column: {', '.join(unknown)}; {_HOW_TO}")
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
        reason = error.strerror if isinstance(error, OSError) else error
        raise Stop(f"{file} cannot be read: {reason}; {_HOW_TO}") from None
