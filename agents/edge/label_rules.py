"""Derive a result from people's labels, and the label on which several persons agree. Pure.

::

    Label (JSON) --resolve--> ResolvedLabel (its path in the tree) --decide_vote--> PersonVote --+
                                                                                                 +--agreed--> path
                                                              votes of other persons ------------+

Of each person the last vote counts. The path that they agree on is found by walking down from the kingdoms, at each
rank to where most votes go. It ends where as many go elsewhere::

    >>> agreed([("animal", "Felidae", "Felis catus"), ("animal", "Felidae")])
    ('animal', 'Felidae', 'Felis catus')
    >>> agreed([("animal", "Felidae", "Felis catus"), ("animal", "Canidae")])
    ('animal',)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from models.answering.cascade import rank_of
from models.labels.taxonomy import EMPTY, Species, Taxonomy, UnknownLabel, build
from pipeline import clock
from pipeline.errors import Rejected
from pipeline.messages import Kind, Label, Levels, Privacy, Result, Tier

LABEL_MAX_BYTES: Final = 4 << 10
"""A label takes some 150 bytes; the rest is room for long names."""

NAME_MAX: Final = 64
LABEL_MAX: Final = 120
"""Longest name of a person, and longest label, in characters."""

ANONYMOUS: Final = "anonymous"
"""Name of all people who give none; they count as one person."""

LABELLED: Final = "labelled"
"""Rule of a result that people's labels decide."""

AHEAD_S: Final = 60.0
"""A label's time may be so far ahead of the edge's clock. Farther ahead, the time of receipt counts instead: otherwise
no later label of the same person would count."""

NAMES_LISTED: Final = 3
"""Greatest number of persons that a result's reason names."""


class PersonVote(NamedTuple):
    """One person's last label of an event."""

    event: str
    by: str
    label: str | None
    """None if the vote was withdrawn."""
    path: tuple[str, ...]
    """Path from the kingdom down to the label; empty if the vote was withdrawn."""
    under: str
    """The family of a label that the tree lacks (``animal/Eupleridae``); else empty."""
    english: str
    at_s: float
    """Time of the label, UTC seconds."""
    revision: int
    """Counts the changes of all votes about the event, from 1."""


@dataclass(frozen=True, slots=True)
class LabelledEvent:
    """An event with its agreed label, as the edge learns from it."""

    event: str
    source: str
    label: str | None
    """The label that people agree on. None if they do not agree: then the lesson of this event is to be forgotten."""
    path: tuple[str, ...]
    """The path of the label; a label that the tree lacks stands under its family."""
    by: str
    """The person who voted last."""
    votes: tuple[PersonVote, ...]
    """All votes but the withdrawn."""
    space: str
    vector: bytes
    levels: Levels
    """If `feature` is user-private, the edge has dropped the feature, and this is the last notice of the event."""
    sighting: str
    time: str
    """The time of the event."""


OnLabel = Callable[[LabelledEvent], None]
"""Called after the commit, on the thread that answers. It must be quick, and must not raise."""


# --- one label -------------------------------------------------------------------------------------------------


class ResolvedLabel(NamedTuple):
    """A label with its place in the tree, or the place that it will have."""

    label: str | None
    path: tuple[str, ...]
    under: str
    english: str


TAKEN_BACK: Final = ResolvedLabel(None, (), "", "")


def resolve(label: Label, tree: Taxonomy, votes: Iterable[PersonVote] = ()) -> ResolvedLabel:
    """Find a label in the tree by any of its names, or among the new labels of `votes`; else take it as a new one.

    A new label must name its family, in ``under`` or in short: ``Felidae/Leopardus guigna``.

    Raises
    ------
    Rejected
        ``unknown-label``: the tree lacks it, and it names no family; the message suggests the nearest labels.
        ``under-unknown``: its family is unknown, and no kingdom is given. ``under-conflict``: it belongs to another
        family. ``label-invalid``: it is not a valid name.
    """
    if label.label is None:
        return TAKEN_BACK
    under, slash, text = label.label.rpartition("/")
    if slash and label.under.strip():
        raise Rejected("label-invalid", "a label must not contain / if `under` names its family")
    name = _name(text, "label-invalid", "a label", LABEL_MAX)
    if name.casefold() in EMPTY:
        name = "other"
    known = grown(tree, votes)
    under = under if slash else label.under.strip()
    family = _family(under, known) if under else None
    try:
        found = known.find(name)
    except UnknownLabel as error:
        if family is None:
            raise UnknownLabelHere(error) from None
        english = _name(label.english or name, "label-invalid", "an English name", LABEL_MAX)
        return ResolvedLabel(name, (*family, name), "/".join(family), english)
    path = known.path(found)
    if family is not None and path[: len(family)] != family:
        raise Rejected(
            "under-conflict",
            f"{found} belongs under {'/'.join(path[:-1]) or 'nothing'}, not under {'/'.join(family)}",
        )
    if found in tree.paths:
        return ResolvedLabel(found, path, "", "")
    return ResolvedLabel(found, path, "/".join(path[:-1]), known.english(found))


def names_family(label: Label) -> bool:
    """Return whether a label itself names its family."""
    return bool(label.under.strip()) or "/" in (label.label or "")


class UnknownLabelHere(Rejected):
    """An unknown label. The message names the remedy."""

    def __init__(self, error: UnknownLabel) -> None:
        super().__init__(
            error.reason,
            f"{error}; to add a species, name its family in `under`: a known one (Felidae), or a new one with its "
            "kingdom (animal/Eupleridae)",
        )


def grown(tree: Taxonomy, votes: Iterable[PersonVote]) -> Taxonomy:
    """Return the tree with the new species of these votes, and their families."""
    new = {vote.label: vote for vote in votes if vote.label and vote.under and vote.label not in tree.paths}
    if not new:
        return tree
    rows = [Species(vote.path[0], vote.path[1], vote.path[2], vote.english, (), ()) for vote in new.values()]
    return build((*tree.rows, *rows))


def _family(under: str, tree: Taxonomy) -> tuple[str, ...]:
    """Return the path (kingdom, family) of the family that `under` names. Raises `Rejected`."""
    text = _name(under, "under-unknown", "the family of a label", LABEL_MAX)
    *above, name = (part.strip() for part in text.split("/"))
    if len(above) > 1 or not name or not all(above):
        raise Rejected("under-unknown", "write the family of a label as family, or as kingdom/family")
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
        near = " or ".join(tree.nearest(name)) or "none is spelled like it"
        raise Rejected(
            "under-unknown",
            f"the label tree has no family {name!r} (nearest: {near}); name a new one with its kingdom: animal/{name}",
        )
    if len(path) != 2:
        raise Rejected("under-unknown", f"{name!r} is not a family; name the family of the label")
    return path


def _path(name: str, tree: Taxonomy) -> tuple[str, ...] | None:
    try:
        return tree.path(tree.find(name))
    except UnknownLabel:
        return None


BRANCHING: Final = (("animal",), ("plant",))
"""Kingdoms that have families."""


def person_name(by: str) -> str:
    """Return the name of the person who gave a label. Raises `Rejected` (``by-invalid``)."""
    return _name(by, "by-invalid", "a person's name", NAME_MAX) if by.strip() else ANONYMOUS


def given_at(time: str, received_s: float) -> float:
    """Return when a label was given, in UTC seconds. Raises `Rejected` (``time-invalid``)."""
    if not time:
        return received_s
    try:
        at_s = clock.seconds(time)
    except (ValueError, OverflowError):
        raise Rejected(
            "time-invalid", "the time of a label must be an RFC 3339 date and time; or leave it out"
        ) from None
    return at_s if at_s <= received_s + AHEAD_S else received_s


def _name(text: str, reason: str, what: str, longest: int) -> str:
    """Return the text as one printable line. Raises `Rejected` with this reason."""
    name = " ".join(text.split())
    if not name or len(name) > longest or not name.isprintable():
        raise Rejected(reason, f"{what} must be one line of 1 to {longest} printable characters")
    return name


# --- several persons -------------------------------------------------------------------------------------------


def agreed(paths: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Return the path that most follow; it ends where as many go elsewhere. A path counts only down to its own end."""
    path: tuple[str, ...] = ()
    following = [tuple(each) for each in paths]
    while steps := Counter(each[len(path)] for each in following if len(each) > len(path)).most_common(2):
        if len(steps) == 2 and steps[0][1] == steps[1][1]:
            break
        path += (steps[0][0],)
        following = [each for each in following if each[: len(path)] == path]
    return path


def agreed_votes(votes: Iterable[PersonVote]) -> tuple[str, ...]:
    """Return the path that the votes agree on, without those that were taken back."""
    return agreed(vote.path for vote in votes if vote.label is not None)


def label_level(levels: Levels) -> Privacy:
    """Return how private a label is with its feature: the higher of both levels."""
    return levels.feature.join(levels.of(Kind.LABEL))


def decide_vote(
    event: str,
    by: str,
    at_s: float,
    resolved: ResolvedLabel,
    votes: Sequence[PersonVote],
    *,
    latest_s: float = math.inf,
) -> PersonVote | None:
    """Return the vote of a person's label beside the event's votes; None if the same person gave a later one.

    A vote that changes nothing but the time keeps its revision. A vote given after `latest_s` is of a clock that was
    set back since: the new one replaces it.
    """
    before = next((vote for vote in votes if vote.by == by), None)
    if before is not None and at_s < before.at_s <= latest_s:
        return None
    newest = max((vote.revision for vote in votes), default=0)
    content = (before.label, before.path, before.under, before.english) if before else TAKEN_BACK
    kept = before.revision if before else newest
    return PersonVote(event, by, *resolved, at_s, newest + 1 if resolved != content else kept)


def labelled(models: Result, votes: Iterable[PersonVote], *, revision: int) -> Result | None:
    """Return the result by people's labels, in place of the models'; None if the votes agree on nothing.

    Model, time and stream are those of the models' answer. People's labels are certain, and no tier refines them.
    """
    standing = sorted((vote for vote in votes if vote.label is not None), key=lambda vote: vote.at_s)
    path = agreed_votes(standing)
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


def unlabelled(published: Result, models: Result, *, revision: int) -> Result | None:
    """Return the models' answer again, after the last label was taken back; None if none had been published."""
    if published.rule != LABELLED:
        return None
    return msgspec.structs.replace(
        models,
        tier=Tier.EDGE if models.tier is Tier.DEVICE else models.tier,
        revision=revision,
        pending=None,
        reason=f"{models.reason}; no label stands any more",
    )


def _reason(path: tuple[str, ...], votes: Sequence[PersonVote]) -> str:
    """Name the persons who agree with the path, and those who do not."""
    by = [vote.by for vote in votes if vote.path[: len(path)] == path[: len(vote.path)]]
    others = [f"{vote.by} chose {vote.label}" for vote in votes if vote.by not in by]
    return f"labelled by {_listed(by)}" + (f"; {_listed(others)}" if others else "")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMES_LISTED
    return ", ".join(names[:NAMES_LISTED]) + (f" and {more} more" if more > 0 else "")
