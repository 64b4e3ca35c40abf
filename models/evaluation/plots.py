"""Draw an evaluation as SVG: calibration, the cost of answering more, confused families, the gain of forwarding.

It needs matplotlib (`tierwise[pictures]`), which nothing else imports.

Example::

    draw(measure(evaluate(photos)), Path("charts"))     # reliability.svg, answered.svg, families.svg
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.evaluation.metrics import OWN_RANK, AtRank, Confusion, EvaluationReport
from models.labels.calibration import UNKNOWN
from models.labels.taxonomy import KINGDOMS
from pipeline.errors import Stop

FAMILIES_SHOWN: Final = 24
"""A picture of more families would be hard to read. The JSON has all of them."""

REST, ROLLED_UP = "(other family)", "(kingdom)"
"""Columns of families without a row, and of answers that stop at the kingdom."""

COLOURS: Final = {"device": "#4c72b0", "edge": "#dd8452", "cloud": "#55a868"}
INK: Final = "#333333"


def require_matplotlib() -> None:
    """Set matplotlib up, without a display. Raises `Stop` where it is not installed."""
    try:
        import matplotlib as found
    except ModuleNotFoundError as error:
        raise Stop("drawing needs matplotlib, which is not installed: pip install 'tierwise[pictures]'") from error
    found.use("svg")
    # Text stays text, and a second run gives the same bytes.
    found.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "tierwise", "font.size": 9})


def draw(report: EvaluationReport, folder: Path) -> tuple[Path, ...]:
    """Write the pictures and return their files. Raises `Stop` without matplotlib or if writing fails."""
    require_matplotlib()
    rows = [report.at(tier, rank) for tier, rank in OWN_RANK.items()]
    made = {
        "reliability.svg": _reliability(rows),
        "answered.svg": _answered(rows),
    }
    if report.families:
        made["families.svg"] = _families(report.families)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in made.items():
            # No date: a second run gives the same bytes.
            figure.savefig(folder / name, format="svg", bbox_inches="tight", metadata={"Date": None})
    except OSError as error:
        raise Stop(f"pictures cannot be written to {folder}: {error.strerror}") from error
    return tuple(folder / name for name in made)


def _axes(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _name(row: AtRank) -> str:
    return f"{row.tier}: {row.rank}"


def _reliability(rows: Sequence[AtRank]) -> Any:
    figure, axes = _axes(4.4, 3.6)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
    for row in rows:
        most = max((count for _, _, count in row.reliability), default=1)
        confidence = [each[0] for each in row.reliability]
        right = [each[1] for each in row.reliability]
        sizes = [6 + 90 * count / most for _, _, count in row.reliability]
        axes.plot(confidence, right, color=COLOURS[row.tier], linewidth=1)
        label = f"{_name(row)} (off by {row.calibration_error:.3f})"
        axes.scatter(confidence, right, sizes, color=COLOURS[row.tier], alpha=0.7, label=label)
    axes.set(xlabel="probability of the likeliest label", ylabel="share right", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(frameon=False, loc="lower right", markerscale=0.6)
    return figure


def _answered(rows: Sequence[AtRank]) -> Any:
    figure, axes = _axes(4.4, 3.6)
    lowest = 1.0
    for row in rows:
        shares = [share for share, _ in row.curve]
        right = [right for _, right in row.curve]
        axes.plot(shares, right, color=COLOURS[row.tier], linewidth=1.4, label=_name(row))
        axes.plot([row.answered.share], [row.right.share], "o", color=COLOURS[row.tier], markersize=6)
        lowest = min([lowest, row.right.share, *right])
    axes.set(xlabel="share answered, the surest first", ylabel="share right of those", xlim=(0, 1.02))
    axes.set_ylim(max(0.0, lowest - 0.02), 1.005)
    axes.legend(frameon=False, loc="lower left", title="dot: at the tier's threshold")
    return figure


def _families(families: Sequence[Confusion]) -> Any:
    """Rows are true families, columns what the edge answered; each row sums to 1."""
    photos: Counter[str] = Counter()
    for pair in families:
        photos[pair.true] += pair.photos
    rows = [name for name, _ in photos.most_common(FAMILIES_SHOWN)]
    columns = [*rows, REST, ROLLED_UP, UNKNOWN]
    counts = np.zeros((len(rows), len(columns)))
    for pair in families:
        if pair.true in rows:
            column = pair.answered
            if column not in (*rows, UNKNOWN):
                column = ROLLED_UP if column in KINGDOMS else REST
            counts[rows.index(pair.true), columns.index(column)] += pair.photos
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    picture, axes = _axes(2.2 + 0.22 * len(columns), 1.6 + 0.22 * len(rows))
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="none", aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=90)
    totals = counts.sum(1).astype(int)
    axes.set_yticks(range(len(rows)), [f"{name} ({n})" for name, n in zip(rows, totals, strict=True)])
    axes.set(xlabel="the edge answered", ylabel="true family (photos)")
    picture.colorbar(shown, ax=axes, label="share of the row", shrink=0.7)
    return picture
