"""Choose the messages to the cloud about an event's labels: votes under pseudonyms, or withdrawals. Pure.

::

    public event  ──> for each new vote: the event's feature, then the vote
    no longer public, and a vote has left ──> for each vote: a withdrawal, so that the cloud learns from none of them
    never public  ──> nothing
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from msgspec.structs import replace

from agents.edge.label_rules import PersonVote, label_level
from models.answering.kept_feature import KeptFeature
from pipeline import clock, messages
from pipeline.messages import Envelope, Kind, Levels, Privacy, Vote
from pipeline.privacy.seal import Key, pseudonym


def label_envelopes(
    feature: KeptFeature,
    levels: Levels,
    votes: Sequence[PersonVote],
    new: Collection[PersonVote],
    unsent: Collection[str],
    key: Key,
) -> list[Envelope]:
    """Return the envelopes that the cloud is to receive after a change of an event's votes or levels.

    Parameters
    ----------
    feature
        As it was kept until now, with the levels that the event had until now.
    levels
        The levels of the event from now on.
    votes
        All votes about the event, those of `new` among them.
    new
        Votes of which the cloud has received nothing.
    unsent
        Ids of the event's envelopes that were still in the outbox until now.
    key
        The site's key, for the pseudonyms.
    """
    if label_level(levels) is Privacy.PUBLIC:
        return [up for vote in new for up in (_feature_up(feature), _vote_up(vote, feature, key))]
    newest = max((vote.revision for vote in votes), default=0)
    sent = (f"{feature.event}/{Kind.LABEL}/{number}" for number in range(1, newest - len(new) + 1))
    if label_level(feature.levels) is not Privacy.PUBLIC or all(name in unsent for name in sent):
        return []
    return list(_withdrawals(feature, votes, newest, key))


def _withdrawals(feature: KeptFeature, votes: Iterable[PersonVote], newest: int, key: Key) -> Iterable[Envelope]:
    for revision, vote in enumerate(votes, start=newest + 1):
        withdrawn = vote._replace(label=None, path=(), under="", english="", revision=revision)
        yield _vote_up(withdrawn, feature, key)


def _feature_up(feature: KeptFeature) -> Envelope:
    """Return a feature's envelope. The cloud may never have received it, or not have it any more."""
    site, device, _ = feature.source.split("/")
    return Envelope(
        event=feature.event,
        kind=Kind.FEATURE,
        privacy=Privacy.PUBLIC,
        key=f"{site}/{device}",
        payload=feature.payload,
        source=feature.source,
        time=feature.time,
        space=feature.space,
    )


def _vote_up(vote: PersonVote, feature: KeptFeature, key: Key) -> Envelope:
    message = Vote(
        label=vote.label,
        by=pseudonym(key, vote.by),
        under=vote.under,
        english=vote.english,
        time=clock.rfc3339(vote.at_s),
    )
    payload = messages.encode(message)
    return replace(_feature_up(feature), kind=Kind.LABEL, payload=payload, space="", revision=vote.revision)
