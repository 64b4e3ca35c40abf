"""Rule `sums-of-many`: sums pass the gate in the clear with twenty events of every label in them, and not by what is
said of them."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import messages, topics
from pipeline.errors import Withheld
from pipeline.messages import Envelope, Kind, Privacy, SumIncrement, Tier, UplinkBatch
from pipeline.privacy import gate
from pipeline.privacy.sums_rule import DIMENSION, LARGEST_BYTES, LEAST_EVENTS, complaint, increment_of
from pipeline.sums.packing import pack
from pipeline.sums.sums import Sums

SPACE = "lite0-9f3c"


def sums(counts: dict[str, int], seed: int = 0, space: str = SPACE) -> Sums:
    labels = np.repeat(np.arange(len(counts)), list(counts.values()))
    vectors = np.random.default_rng(seed).integers(0, 256, (len(labels), DIMENSION)).astype(np.uint8)
    return Sums.empty(space, DIMENSION, tuple(counts)).add(vectors, labels)


def envelope(content: SumIncrement | Sums, privacy: Privacy = Privacy.PUBLIC, **changes: object) -> Envelope:
    increment = increment_of(content, 1) if isinstance(content, Sums) else content
    base = Envelope(
        event="0193",
        kind=Kind.SUM,
        privacy=privacy,
        key="home/sums-1",
        payload=messages.encode(increment),
        source="home/sums-1/edge",
        time="2026-05-01T12:00:00.000Z",
        space=increment.space,
        revision=increment.number,
    )
    return msgspec.structs.replace(base, **changes)


def passes(row: Envelope) -> bool:
    """At both of its ways out: the uplink, and Kafka."""
    batch = UplinkBatch(site="home", envelopes=(row,))
    ways = (
        lambda: gate.clear(batch, topics.uplink("home"), to=Tier.CLOUD),
        lambda: gate.clear_record(row),
    )
    results = []
    for way in ways:
        try:
            way()
            results.append(True)
        except Withheld:
            results.append(False)
    assert len(set(results)) == 1
    return results[0]


@pytest.mark.slow
@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(["Felidae", "Canidae", "other", "Lynx lynx"]), st.integers(0, 45), max_size=4))
def test_an_increment_passes_if_every_label_in_it_holds_enough_events(counts: dict[str, int]) -> None:
    assert passes(envelope(sums(counts))) == (bool(counts) and all(count >= LEAST_EVENTS for count in counts.values()))


@pytest.mark.slow
@settings(max_examples=40)
@given(st.integers(1, LEAST_EVENTS - 1), st.data())
def test_no_saying_makes_few_events_many(few: int, data: st.DataObject) -> None:
    """Whatever is stated of them, sums with a label of few events are opened, and stay."""
    row = sums({"Felidae": 40, "Lynx lynx": few})
    stated = data.draw(
        st.sampled_from(
            [
                (("Felidae", 40), ("Lynx lynx", 20)),
                (("Felidae", 40 + few),),
                (("Felidae", 40),),
                (("Felidae", 40), ("Felidae", 40), ("Lynx lynx", 20)),
                (),
            ]
        )
    )
    increment = msgspec.structs.replace(increment_of(row, 1), counts=stated)
    assert not passes(envelope(increment))


@pytest.mark.slow
@settings(max_examples=40)
@given(st.integers(1, LEAST_EVENTS - 1), st.sampled_from(["counts", "gram", "cross"]))
def test_sums_that_were_written_as_of_more_events_than_they_are_of_stay(few: int, where: str) -> None:
    row = sums({"Felidae": 40, "Lynx lynx": few})
    counts, gram, cross = row.counts.copy(), row.gram.copy(), row.cross.copy()
    counts[1] = LEAST_EVENTS
    if where != "counts":
        gram[-1, -1] += LEAST_EVENTS - few
        cross[-1, 1] = LEAST_EVENTS
    if where == "cross":
        cross[-1, 0] += 1
    forged = Sums(row.space, row.labels, counts, gram, cross)
    # What was filled up with events of nothing but zero bytes adds up. docs/privacy.md says so: who makes the
    # sums is trusted with what goes into them.
    assert passes(envelope(forged)) == (where == "gram")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (envelope(sums({"Felidae": 20}), payload=b"a vector"), "not an increment"),
        (envelope(sums({"Felidae": 20}), revision=2), "another increment"),
        (envelope(sums({"Felidae": 20}), space="else"), "another increment"),
        (
            envelope(msgspec.structs.replace(increment_of(sums({"Felidae": 20}), 1), sums=b"x")),
            "cannot be read",
        ),
        (
            envelope(msgspec.structs.replace(increment_of(sums({"Felidae": 20}), 1), sums=bytes(LARGEST_BYTES + 1))),
            "more than",
        ),
        (
            envelope(
                msgspec.structs.replace(
                    increment_of(sums({"Felidae": 20}), 1), sums=pack(sums({"Felidae": 20}, space="else"))
                )
            ),
            "another space",
        ),
        (envelope(sums({"Felidae\n": 20})), "no name"),
        (envelope(sums({"x" * 121: 20})), "no name"),
        (envelope(increment_of(sums({"Felidae": 20}), 1, {"Lynx": "animal/Felidae"})), "places labels"),
        (envelope(increment_of(sums({"Felidae": 20}), 1, {"Felidae": "y" * 121})), "no name"),
    ],
)
def test_what_is_no_increment_stays_and_is_told_why(row: Envelope, why: str) -> None:
    assert why in complaint(row)
    assert not passes(row)


def test_private_sums_stay_at_their_site_however_many_they_are_of() -> None:
    for level in (Privacy.EDGE_PRIVATE, Privacy.USER_PRIVATE):
        assert not passes(envelope(sums({"Felidae": 200}), level))


def test_a_withheld_increment_is_told_without_its_labels() -> None:
    with pytest.raises(Withheld, match="sums-of-many") as caught:
        gate.clear_record(envelope(sums({"my neighbour": 3})))
    assert "neighbour" not in str(caught.value)
