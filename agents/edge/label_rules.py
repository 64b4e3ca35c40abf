"""What people say of events: what a label means, what several persons agree on, and what then is told. Pure.

::

    Label (JSON) --resolve--> Meant (the label's path in the tree) --Word (one person's last one)--+
                                                                                                   +--agreed--> path
                                                              other persons' words ----------------+

The last word by the same person counts; other persons' stand beside it. What is told of an event is found by walking
down from the kingdoms, each time to where most persons go, and stops where they part::

    >>> agreed([("animal", "Felidae", "Felis catus"), ("animal", "Felidae")])
    ('animal', 'Felidae', 'Felis catus')
    >>> agreed([("animal", "Felidae", "Felis catus"), ("animal", "Canidae")])
    ('animal',)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from models.answering.cascade import rank_of
from models.labels.taxonomy import EMPTY, Species, Taxonomy, UnknownLabel, build
from pipeline import clock
from pipeline.errors import Rejected
from pipeline.messages import Label, Levels, Result, Tier

LABEL_MAX_BYTES: Final = 4 << 10
"""A label takes some 150 bytes; the rest is room for long names."""

NAME_MAX: Final = 64
WORD_MAX: Final = 120
"""Characters of a person's name, and of a label."""

ANONYMOUS: Final = "anonymous"
"""Who gives no name is one person with all who give none."""

LABELLED: Final = "labelled"
"""Rule of an answer that a person gave."""

AHEAD_S: Final = 60.0
"""A label's own time may be so far ahead of the edge's clock; one that is farther ahead takes the time of receipt, else
nothing that the same person says later would count."""

NAMES_TOLD: Final = 3
"""Persons who are named in an answer's reason."""


class Word(NamedTuple):
    """One person's last word about an event."""

    event: str
    by: str
    label: str | None
    """None: taken back."""
    path: tuple[str, ...]
    """From the kingdom down to the label; empty of a word that was taken back."""
    under: str
    """Of a label that the tree lacks: ``animal/Eupleridae``; else empty."""
    english: str
    at_s: float
    """When it was said, UTC seconds."""
    revision: int
    """Counts the changes of the event's words, whoever made them, from 1."""


@dataclass(frozen=True, slots=True)
class LabelledEvent:
    """An event whose label changed, or one that has a label: what the edge learns from."""

    event: str
    source: str
    label: str | None
    """What its people agree on; None: nothing (any more), so that what was learned of this event is to be forgotten."""
    path: tuple[str, ...]
    """Of that label; a label that the tree lacks stands under its family here."""
    by: str
    """Who spoke last."""
    words: tuple[Word, ...]
    """All that stand."""
    space: str
    vector: bytes
    levels: Levels
    """Where `feature` is user-private, the edge has dropped it: this is the last time that it is told."""
    sighting: str
    time: str
    """Of the event."""


OnLabel = Callable[[LabelledEvent], None]
"""Called after the commit, on the thread that answers: be quick, raise nothing."""


# --- what a label means ----------------------------------------------------------------------------------------


class Meant(NamedTuple):
    """A label as the tree has it, or will have it."""

    label: str | None
    path: tuple[str, ...]
    under: str
    english: str


TAKEN_BACK: Final = Meant(None, (), "", "")


def resolve(label: Label, tree: Taxonomy, words: Iterable[Word] = ()) -> Meant:
    """What a label means: one of the tree by any of its names, one that this site's `words` brought, or a new one, which
    says where it belongs: ``Felidae/Leopardus guigna`` is short for ``under``.

    Raises
    ------
    Rejected
        ``unknown-label``: the tree lacks it, and it does not say where it belongs; the message names the nearest.
        ``under-unknown``: where it belongs is no family, and no new one with its kingdom. ``under-conflict``: it belongs
        elsewhere. ``label-invalid``: it is no name.
    """
    if label.label is None:
        return TAKEN_BACK
    under, slash, text = label.label.rpartition("/")
    if slash and label.under.strip():
        raise Rejected("label-invalid", "a label has no / where `under` says where it belongs")
    name = _name(text, "label-invalid", "a label", WORD_MAX)
    if name.casefold() in EMPTY:
        name = "other"
    known = grown(tree, words)
    under = under if slash else label.under.strip()
    family = _family(under, known) if under else None
    try:
        found = known.find(name)
    except UnknownLabel as error:
        if family is None:
            raise UnknownLabelHere(error) from None
        english = _name(label.english or name, "label-invalid", "an English name", WORD_MAX)
        return Meant(name, (*family, name), "/".join(family), english)
    path = known.path(found)
    if family is not None and path[: len(family)] != family:
        raise Rejected(
            "under-conflict",
            f"{found} belongs under {'/'.join(path[:-1]) or 'nothing'}, not under {'/'.join(family)}",
        )
    if found in tree.paths:
        return Meant(found, path, "", "")
    return Meant(found, path, "/".join(path[:-1]), known.english(found))


def says_where(label: Label) -> bool:
    """Whether a label itself says where it belongs."""
    return bool(label.under.strip()) or "/" in (label.label or "")


class UnknownLabelHere(Rejected):
    """An unknown label, and what to do about it."""

    def __init__(self, error: UnknownLabel) -> None:
        super().__init__(
            error.reason,
            f"{error}; a species that it lacks says where it belongs: under = a family (Felidae), or a new one with its "
            "kingdom (animal/Eupleridae)",
        )


def grown(tree: Taxonomy, words: Iterable[Word]) -> Taxonomy:
    """The tree with the species, and their families, that these words brought."""
    new = {word.label: word for word in words if word.label and word.under and word.label not in tree.paths}
    if not new:
        return tree
    rows = [Species(word.path[0], word.path[1], word.path[2], word.english, (), ()) for word in new.values()]
    return build((*tree.rows, *rows))


def _family(under: str, tree: Taxonomy) -> tuple[str, ...]:
    """The path of the family that a label is to stand under: (kingdom, family)."""
    text = _name(under, "under-unknown", "where a label belongs", WORD_MAX)
    *above, name = (part.strip() for part in text.split("/"))
    if len(above) > 1 or not name or not all(above):
        raise Rejected("under-unknown", "where a label belongs is a family, or kingdom/family")
    path = _path(name, tree)
    if above:
        kingdom = _path(above[0], tree)
        if kingdom is None or kingdom not in BRANCHING:
            raise Rejected("under-unknown", f"{above[0]!r} has no families: write animal/... or plant/...")
        if path is None:
            path = (*kingdom, name)
        if path[:1] != kingdom:
            raise Rejected("under-conflict", f"{name} belongs under {path[0]}, not under {kingdom[0]}")
    if path is None:
        near = " or ".join(tree.nearest(name)) or "none that is spelled like it"
        raise Rejected(
            "under-unknown",
            f"the label tree has no family {name!r} (nearest: {near}); name a new one with its kingdom: animal/{name}",
        )
    if len(path) != 2:
        raise Rejected("under-unknown", f"{name!r} is no family; a label belongs under a family")
    return path


def _path(name: str, tree: Taxonomy) -> tuple[str, ...] | None:
    try:
        return tree.path(tree.find(name))
    except UnknownLabel:
        return None


BRANCHING: Final = (("animal",), ("plant",))
"""Kingdoms that have families."""


def person(by: str) -> str:
    """Who gave a label, as it is kept. Raises `Rejected` (``by-invalid``)."""
    return _name(by, "by-invalid", "a person's name", NAME_MAX) if by.strip() else ANONYMOUS


def said_at(time: str, received_s: float) -> float:
    """When a label was given, UTC seconds. Raises `Rejected` (``time-invalid``)."""
    if not time:
        return received_s
    try:
        at_s = clock.seconds(time)
    except (ValueError, OverflowError):
        raise Rejected("time-invalid", "a label's time is no RFC 3339 date and time; leave it out") from None
    return at_s if at_s <= received_s + AHEAD_S else received_s


def _name(text: str, reason: str, what: str, longest: int) -> str:
    """One line of text that can be printed."""
    name = " ".join(text.split())
    if not name or len(name) > longest or not name.isprintable():
        raise Rejected(reason, f"{what} is one line of 1 to {longest} characters that can be printed")
    return name


# --- what several persons say ----------------------------------------------------------------------------------


def agreed(paths: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Walk down to where most persons go; where as many go elsewhere, stop. Who named no deeper label has no say there."""
    path: tuple[str, ...] = ()
    standing = [tuple(each) for each in paths]
    while steps := Counter(each[len(path)] for each in standing if len(each) > len(path)).most_common(2):
        if len(steps) == 2 and steps[0][1] == steps[1][1]:
            break
        path += (steps[0][0],)
        standing = [each for each in standing if each[: len(path)] == path]
    return path


def agreed_among(words: Iterable[Word]) -> tuple[str, ...]:
    """The same of words, of which those count that were not taken back."""
    return agreed(word.path for word in words if word.label is not None)


def labelled(models: Result, words: Iterable[Word], *, revision: int) -> Result | None:
    """The answer about an event by what its people say, in place of the models'; None where they agree on nothing.

    Model, time and stream are those of the models' answer; a person's word is certain, and nobody refines it.
    """
    standing = sorted((word for word in words if word.label is not None), key=lambda word: word.at_s)
    path = agreed_among(standing)
    if not path:
        return None
    return msgspec.structs.replace(
        models,
        tier=Tier.EDGE,
        revision=revision,
        pending=None,
        rank=rank_of(path),
        label=path[-1],
        path=path,
        probability=1.0,
        rule=LABELLED,
        reason=_reason(path, standing),
    )


def _reason(path: tuple[str, ...], words: Sequence[Word]) -> str:
    """Who says so, and who says otherwise."""
    by = [word.by for word in words if word.path[: len(path)] == path[: len(word.path)]]
    others = [f"{word.by} says {word.label}" for word in words if word.by not in by]
    return f"labelled by {_listed(by)}" + (f"; {_listed(others)}" if others else "")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMES_TOLD
    return ", ".join(names[:NAMES_TOLD]) + (f" and {more} more" if more > 0 else "")
