"""An evaluation's figures as Markdown, for a terminal or a page.

Example::

    print(render(measure(evaluate(photos))))
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from models.evaluation.metrics import OWN_RANK, EvaluationReport, Persons, Rate, Recall

# Of long lists the worst rows are shown; the JSON has all of them.
ROWS_SHOWN = 10
# A share of fewer photos is uncertain: such species stand in the JSON alone, unless the user named their group.
PHOTOS_SHOWN = 5


def render(report: EvaluationReport) -> str:
    """Return the report as Markdown tables."""
    parts = [
        _head(report),
        _ranks(report),
        _kingdoms(report),
        _persons(report.persons),
        _species(report),
        _confusions(report),
        _forwards(report),
        _prices(report),
    ]
    return "\n".join("\n".join(part) + "\n" for part in parts if part)


def percent(rate: Rate) -> str:
    """Return a share in percent.

    >>> from models.evaluation.metrics import rate
    >>> percent(rate(7, 8))
    '87.5%'
    """
    return f"{rate.share:.1%}"


def interval(rate: Rate) -> str:
    """Return a share with its 95% interval.

    >>> from models.evaluation.metrics import rate
    >>> interval(rate(188, 190))
    '98.9% (96.2 to 99.9)'
    """
    return f"{rate.share:.1%} ({rate.low * 100:.1f} to {rate.high * 100:.1f})"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]], text_columns: int = 1) -> list[str]:
    marks = ["---" if at < text_columns else "---:" for at in range(len(head))]
    body = (f"| {' | '.join(map(str, row))} |" for row in (head, marks, *rows))
    return list(body)


def _head(report: EvaluationReport) -> Iterator[str]:
    of = "frames" if report.motion else "photos"
    answered = dict.fromkeys(report.models.values())
    yield f"{report.photos:,} {of}, answered by {', '.join(answered)}"
    if report.motion:
        stands = report.motion.stands
        yield ""
        yield (
            f"Nothing moved in {percent(stands)} of the frames ({report.motion.apart_s:g} s apart): "
            "there an earlier answer stands"
        )
    if report.left_out:
        yield ""
        yield f"{len(report.left_out):,} left out:"
        yield ""
        yield from (f"* {line}" for line in report.left_out[:ROWS_SHOWN])
        if len(report.left_out) > ROWS_SHOWN:
            yield f"* and {len(report.left_out) - ROWS_SHOWN:,} more"


def _ranks(report: EvaluationReport) -> list[str]:
    head = (
        "tier",
        "rank",
        "right when answered",
        "answered",
        "likeliest right",
        "calibration error",
        "photos",
    )
    rows = [
        (
            row.tier,
            row.rank,
            interval(row.right) if OWN_RANK[row.tier] == row.rank else percent(row.right),
            percent(row.answered),
            percent(row.likeliest),
            f"{row.calibration_error:.3f}",
            f"{row.photos:,}",
        )
        for row in report.ranks
    ]
    return _table(head, rows, text_columns=2)


def _recalls(first: str, recalls: Iterable[Recall]) -> list[str]:
    rows = [(each.label, f"{each.photos:,}", percent(each.answered), interval(each.likeliest)) for each in recalls]
    return _table((first, "photos", "answered rightly", "likeliest right (95%)"), rows)


def _kingdoms(report: EvaluationReport) -> list[str]:
    return _recalls("kingdom, device", report.kingdoms)


def _persons(persons: Sequence[Persons]) -> list[str]:
    rows = []
    for what, rates in (
        ("photos with a person that raise the level", [(each.tier, each.recall) for each in persons]),
        ("photos without one that do", [(each.tier, each.false_alarms) for each in persons]),
    ):
        rows += [(what, tier, f"{rate.of:,}", interval(rate)) for tier, rate in rates if rate is not None]
    return _table(("persons", "tier", "photos", "share (95%)"), rows, text_columns=2)


def _species(report: EvaluationReport) -> list[str]:
    if report.group is not None:
        shown = [*report.species[:ROWS_SHOWN], report.group]
        return _recalls("species, cloud", shown)
    enough = [recall for recall in report.species if recall.photos >= PHOTOS_SHOWN]
    return _recalls("worst species, cloud", enough[:ROWS_SHOWN]) if enough else []


def _confusions(report: EvaluationReport) -> list[str]:
    wrong = [pair for pair in report.families if pair.true != pair.answered]
    if not wrong:
        return []
    rows = [(pair.true, pair.answered, f"{pair.photos:,}") for pair in wrong[:ROWS_SHOWN]]
    return _table(("family", "the edge answered", "photos"), rows, text_columns=2)


def _forwards(report: EvaluationReport) -> list[str]:
    rows = [(f"`{each.wants}`", percent(each.device), percent(each.edge)) for each in report.forwards]
    return _table(("a stream that wants", "device asks the edge", "edge asks the cloud"), rows)


def _prices(report: EvaluationReport) -> list[str]:
    rows = [(f"{tier}, ms", f"{ms.p50:.1f}", f"{ms.p95:.1f}") for tier, ms in report.ms.items()]
    rows += [(f"{hop}, bytes", f"{sent.p50:,.0f}", f"{sent.p95:,.0f}") for hop, sent in report.bytes.items()]
    return _table(("a photo", "median", "95% are below"), rows)
