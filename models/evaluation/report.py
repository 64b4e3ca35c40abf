"""An evaluation's figures as Markdown, for a terminal or a page.

Example::

    print(render(measure(evaluate(photos))))
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from models.evaluation.metrics import OWN_RANK, EvaluationReport, Persons, Rate, Recall

# Of long lists the worst are shown; all of them are in the JSON.
ROWS_SHOWN = 10
# Of a species with fewer photos a share says little: it is left to the JSON, unless it was asked for.
PHOTOS_SHOWN = 5


def render(report: EvaluationReport) -> str:
    """The report as Markdown tables."""
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


def percent(its: Rate) -> str:
    """A share in percent.

    >>> from models.evaluation.metrics import rate
    >>> percent(rate(7, 8))
    '87.5%'
    """
    return f"{its.share:.1%}"


def interval(its: Rate) -> str:
    """A share with its 95% interval.

    >>> from models.evaluation.metrics import rate
    >>> interval(rate(188, 190))
    '98.9% (96.2 to 99.9)'
    """
    return f"{its.share:.1%} ({its.low * 100:.1f} to {its.high * 100:.1f})"


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
            its.tier,
            its.rank,
            interval(its.right) if OWN_RANK[its.tier] == its.rank else percent(its.right),
            percent(its.answered),
            percent(its.likeliest),
            f"{its.calibration_error:.3f}",
            f"{its.photos:,}",
        )
        for its in report.ranks
    ]
    return _table(head, rows, text_columns=2)


def _recalls(first: str, recalls: Iterable[Recall]) -> list[str]:
    rows = [(its.label, f"{its.photos:,}", percent(its.answered), interval(its.likeliest)) for its in recalls]
    return _table((first, "photos", "answered rightly", "likeliest right (95%)"), rows)


def _kingdoms(report: EvaluationReport) -> list[str]:
    return _recalls("kingdom, device", report.kingdoms)


def _persons(persons: Sequence[Persons]) -> list[str]:
    rows = []
    for what, rates in (
        ("photos with a person that raise the level", [(its.tier, its.recall) for its in persons]),
        ("photos without one that do", [(its.tier, its.false_alarms) for its in persons]),
    ):
        rows += [(what, tier, f"{its.of:,}", interval(its)) for tier, its in rates if its is not None]
    return _table(("persons", "tier", "photos", "share (95%)"), rows, text_columns=2)


def _species(report: EvaluationReport) -> list[str]:
    if report.group is not None:
        told = [*report.species[:ROWS_SHOWN], report.group]
        return _recalls("species, cloud", told)
    enough = [its for its in report.species if its.photos >= PHOTOS_SHOWN]
    return _recalls("worst species, cloud", enough[:ROWS_SHOWN]) if enough else []


def _confusions(report: EvaluationReport) -> list[str]:
    wrong = [its for its in report.families if its.true != its.answered]
    if not wrong:
        return []
    rows = [(its.true, its.answered, f"{its.photos:,}") for its in wrong[:ROWS_SHOWN]]
    return _table(("family", "the edge answered", "photos"), rows, text_columns=2)


def _forwards(report: EvaluationReport) -> list[str]:
    rows = [(f"`{its.wants}`", percent(its.device), percent(its.edge)) for its in report.forwards]
    return _table(("a stream that wants", "device asks the edge", "edge asks the cloud"), rows)


def _prices(report: EvaluationReport) -> list[str]:
    rows = [(f"{tier}, ms", f"{its.p50:.1f}", f"{its.p95:.1f}") for tier, its in report.ms.items()]
    rows += [(f"{hop}, bytes", f"{its.p50:,.0f}", f"{its.p95:,.0f}") for hop, its in report.bytes.items()]
    return _table(("a photo", "median", "95% are below"), rows)
