"""`tierwise labels import FILE` with the column `path`: learn from corrected labels of pictures, without an edge.

::

    tierwise classify ~/card -o ~/card/answers.csv     then correct the column `label` in a spreadsheet
    tierwise labels import ~/card/answers.csv          the corrected rows are learned
    tierwise classify ~/other-card                     answers with what was learned

In a file of `classify` the column `label_path` still has the answer, so that corrected rows are known. Of a file
without it, each row that has a label is learned. Pictures of persons are not learned from, as at an edge.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import typer
from rich.markup import escape

from agents.cli.card_progress import CardProgress
from agents.cli.models.open_chain import OpenChain, learned_file, read_site_learning
from agents.cli.tables import text_console
from agents.exports.plain import unguarded
from agents.role import exit_codes
from models.answering.tier_chain import TierChain
from models.evaluation.frame_sequence import with_label
from models.evaluation.process_pool import in_turns, process_count, work_through
from models.labels.taxonomy import Taxonomy, UnknownLabel
from models.site_learning.learned_file import write_learning
from models.site_learning.lesson_log import Learning, Taught
from models.vision.clip_files import digest_of, read_picture
from pipeline import ids
from pipeline.errors import Rejected, Stop
from pipeline.settings.settings import Settings

HOW_TO: Final = "give a CSV with the columns path and label, such as `tierwise classify DIR -o FILE.csv` writes"
PATH_IN_LABELS: Final = " > "


class LabelledFile(NamedTuple):
    """A row: its line, its picture, the label's path from the kingdom down, and the burst that it belongs to."""

    line: int
    file: Path
    label: tuple[str, ...]
    sequence: str


def has_paths(file: Path) -> bool:
    """Return whether the file has the columns `path` and `label` and no `event` in use. False if it cannot be read."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = _reader(lines.readline(), lines)
            names = set(rows.fieldnames or ())
            return {"path", "label"} <= names and ("event" not in names or "label_path" in names)
    except (OSError, UnicodeDecodeError, csv.Error):
        return False


def learn(file: Path, pictures: Path, settings: Settings, *, everything: bool) -> None:
    """Teach the rows of a file; name each that cannot be used, and go on with the others. Raises `Stop`."""
    errors = text_console(stderr=True)
    learning = read_site_learning(settings)
    labelled, unchanged, bad = read_labelled(file, pictures, learning.local.tree, everything=everything)
    vectors: list[bytes | str] = []
    turns = in_turns([row.file for row in labelled])
    with CardProgress(errors, len(labelled)) as progress, closing(_vectors(turns, settings)) as done:
        progress.begin("looking at pictures")
        for some in done:
            vectors += some
            progress.answered(len(some), known=False)
    learned: Counter[str] = Counter()
    for row, vector in zip(labelled, vectors, strict=True):
        learning, problem = (learning, vector) if isinstance(vector, str) else _taught(learning, row, vector)
        if problem:
            bad.append(f"line {row.line}: {problem}")
        else:
            learned[row.label[-1]] += 1
    if learned:
        write_learning(learned_file(settings), learning)
    for complaint in bad:
        errors.print(f"[red]{escape(complaint)}[/]")
    labels = ", ".join(f"{label} {number:,}" for label, number in learned.most_common())
    errors.print(escape(f"{learned.total():,} labels learned ({labels or 'none'}), {len(bad):,} rows not learned"))
    if unchanged:
        errors.print(f"{unchanged:,} rows have the label that was answered, and teach nothing; with --all they do")
    if learned:
        errors.print(f"`tierwise classify` answers as {learning.local.name} from now on")
    if bad:
        raise typer.Exit(exit_codes.STOP)


def read_labelled(
    file: Path, pictures: Path, tree: Taxonomy, *, everything: bool
) -> tuple[list[LabelledFile], int, list[str]]:
    """Return the rows to learn from, the number of rows that were not corrected, and a line about each bad row."""
    labelled: list[LabelledFile] = []
    bad: list[str] = []
    unchanged = 0
    for line, row in _rows(file):
        path, label, answered = (row.get(name, "") for name in ("path", "label", "label_path"))
        if not label:
            continue
        if not everything and label == answered.split(PATH_IN_LABELS)[-1]:
            unchanged += 1
            continue
        picture = pictures / path.replace("\\", "/")
        try:
            tree, known = with_label(tree, label)
            if not path or not picture.is_file():
                raise Rejected(
                    "no-file", f"{picture} is not there: --pictures DIR names the folder that was classified"
                )
        except UnknownLabel as error:
            bad.append(f"line {line}: {path}: {error}; a new species is written as Family/Species name")
        except (Rejected, OSError, ValueError) as error:
            bad.append(f"line {line}: {path}: {error}")
        else:
            labelled.append(LabelledFile(line, picture, tree.path(known), row.get("sequence", "")))
    return labelled, unchanged, bad


def _taught(learning: Learning, row: LabelledFile, vector: bytes) -> tuple[Learning, str]:
    """Return the learning with this row, and why it was not learned, if so."""
    event = ids.of_content(None, "path", digest_of(row.file))
    taught = Taught(event, row.sequence or event, row.label, "", np.frombuffer(vector, np.uint8))
    try:
        learning, step = learning.taught(taught)
    except Rejected as error:
        return learning, str(error)
    if step.verdict is not None and step.verdict.rule == "refused":
        return (
            learning,
            f"{row.file}: with {row.label[-1]}, pictures learned before would be answered worse; look again",
        )
    return learning, ""


# --- the file --------------------------------------------------------------------------------------------------------


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = _reader(lines.readline(), lines)
            for row in rows:
                yield (
                    rows.line_num + 1,
                    {name: unguarded((row.get(name) or "").strip()) for name in rows.fieldnames or ()},
                )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{error}; save it as CSV in UTF-8"
        raise Stop(f"{file} cannot be read: {reason}; {HOW_TO}") from None


def _reader(header: str, lines: Iterator[str]) -> csv.DictReader[str]:
    """Return a reader of the lines after the header. Spreadsheets of many countries separate by semicolons or tabs."""
    delimiter = max(",;\t", key=header.count)
    return csv.DictReader(
        lines, [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])], delimiter=delimiter
    )


# --- what is learned from --------------------------------------------------------------------------------------------


def _vectors(turns: Sequence[Sequence[Path]], settings: Settings) -> Generator[list[bytes | str], None, None]:
    count = process_count(None, sum(map(len, turns)), len(turns))
    return work_through(turns, OpenVectors(OpenChain(settings, ask_all=True)), count)


@dataclass(frozen=True, slots=True)
class OpenVectors:
    """Opens what turns pictures into vectors, in each process anew."""

    opener: Callable[[], TierChain]

    def __call__(self) -> Callable[[Sequence[Path]], list[bytes | str]]:
        """Return a function from files to the vector of each, or why it has none."""
        return partial(_vectors_of, self.opener())


def _vectors_of(chain: TierChain, files: Sequence[Path]) -> list[bytes | str]:
    return [_vector(chain, file) for file in files]


def _vector(chain: TierChain, file: Path) -> bytes | str:
    try:
        answer = chain.answer(read_picture(file))
    except (Rejected, OSError) as error:
        return f"{file}: {error}"
    if answer.edge is None or answer.device.prediction.person_raised or answer.edge.prediction.person_raised:
        return f"{file}: a person may be in it: such pictures are not learned from"
    return answer.edge.prediction.vector.tobytes()
