"""The row of a picture that `tierwise classify` answered."""

from __future__ import annotations

from agents.exports.rows import ExportBox, ExportRow
from models.answering.tier_chain import Classified
from models.card.answering import Outcome
from models.labels.taxonomy import Taxonomy
from pipeline.messages import Privacy
from pipeline.topics import is_name


def row_of(outcome: Outcome, site: str, tree: Taxonomy) -> ExportRow:
    """Return the row of an outcome. The first folder of its path is the camera, if that can be a camera's name."""
    camera = outcome.file.partition("/")[0].lower() if "/" in outcome.file else ""
    device = camera if is_name(camera) else ""
    answer = outcome.answer
    if answer is None:
        refused = outcome.refused
        why = f"{refused.reason}: {refused.detail}" if refused is not None else "unknown"
        # Nobody saw what it shows: it stays where it is.
        return ExportRow(path=outcome.file, site=site, device=device, refused=why, privacy=Privacy.USER_PRIVATE)
    last = answer.answers[-1]
    return ExportRow(
        path=outcome.file,
        media=answer.media,
        time=answer.time,
        time_source=answer.time_source,
        site=site,
        device=device,
        sequence=answer.sighting,
        label=answer.final.label,
        english=english_of(tree, answer),
        label_path=answer.final.path,
        rank=answer.final.rank,
        probability=last.probability,
        person=answer.person,
        privacy=answer.result_privacy,
        model=last.model,
        tier=last.tier.value,
        rule=last.rule,
        boxes=_boxes(answer, last.probability),
        flags=answer.flags,
    )


def english_of(tree: Taxonomy, answer: Classified) -> str:
    """Return the English name of the answer's label; empty where it has none."""
    label = answer.final.label
    return tree.english(label) if label in tree.paths else ""


def _boxes(answer: Classified, probability: float) -> tuple[ExportBox, ...]:
    category = answer.final.path[0] if answer.final.path else ""
    if answer.box is None or category not in ("animal", "person"):
        return ()
    return (ExportBox(category, probability, *answer.box),)
