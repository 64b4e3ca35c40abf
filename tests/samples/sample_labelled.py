"""Labelled features of a species that the shipped model never met, as a site's edge sends them."""

from __future__ import annotations

import numpy as np

from models.shipped import load_zoo
from pipeline.messages import Envelope, Feature, Kind, Labelled, Privacy, Rank, Vote, encode

NEW = "Herpestes edwardsi"
UNDER = "animal/Herpestidae"
SOURCE = "home/cam1/garden"
NOON = "2026-05-01T12:00:00.000Z"


def vectors(count: int, seed: int = 7) -> list[bytes]:
    """Like each other, and like nothing that the model knows."""
    manifest = load_zoo().base()
    rng = np.random.default_rng(seed)
    middle = rng.integers(30, 226, manifest.sums.dimension)
    noise = rng.normal(0, 12, (count, len(middle)))
    return [row.tobytes() for row in np.clip(middle + noise, 0, 255).astype(np.uint8)]


def events(count: int, prefix: str = "new") -> list[str]:
    return [f"{prefix}-{number:03d}" for number in range(count)]


def labelled(event: str, data: bytes, label: str = NEW, under: str = UNDER, revision: int = 1) -> Labelled:
    """As the stream role tells it."""
    votes = (Vote(label, "0a11ce0a11ce", under),)
    space = load_zoo().base().sums.space
    return Labelled(event, SOURCE, NOON, space, data, votes, revision, ("animal", "Felidae"))


def envelopes(event: str, data: bytes, label: str | None = NEW, revision: int = 1) -> list[Envelope]:
    """Its feature and somebody's word about it, as its edge sends them."""
    feature = encode(Feature(data, "", Rank.SPECIES, 2, ("animal", "Felidae"), 0.6, 41.0))
    vote = encode(Vote(label, "0a11ce0a11ce", UNDER if label == NEW else "", time=NOON))

    def envelope(kind: Kind, payload: bytes, space: str, number: int) -> Envelope:
        return Envelope(
            event=event,
            kind=kind,
            privacy=Privacy.PUBLIC,
            key="home/cam1",
            payload=payload,
            source=SOURCE,
            time=NOON,
            space=space,
            revision=number,
        )

    space = load_zoo().base().sums.space
    return [envelope(Kind.FEATURE, feature, space, 1), envelope(Kind.LABEL, vote, "", revision)]
