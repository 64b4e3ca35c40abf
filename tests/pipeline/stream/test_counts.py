"""Counts: whatever the order and the repeats of evidence, a sighting counts once, where its best answer says."""

from __future__ import annotations

from collections import Counter
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_samples import NOON_S, report, result

from pipeline import clock
from pipeline.clock import EARLY_S
from pipeline.messages import UNKNOWN, Malformed, Rank, Task, encode
from pipeline.stream.counts import (
    COUNTED_DAYS,
    DAY_S,
    KEEP_DAYS,
    Cell,
    Count,
    Evidence,
    SightingState,
    Tally,
    evidence_of,
    is_countable,
    remembered,
    totals,
)

UTC = ZoneInfo("UTC")
PATHS = (("animal",), ("animal", "Felidae"), ("animal", "Felidae", "Felis catus"), ("person",))
SEEN = st.builds(
    lambda first, length, path, probability: SightingState(first, first + length, len(path) - 1, probability, path),
    st.sampled_from([NOON_S, NOON_S + 5, NOON_S + DAY_S]),
    st.sampled_from([0.0, 60.0]),
    st.sampled_from(PATHS),
    st.sampled_from([0.5, 0.9]),
)
EVIDENCE = st.builds(Evidence, st.sampled_from(["home/cam1", "home/cam2"]), st.sampled_from("abc"), SEEN)


@given(SEEN, SEEN, SEEN)
def test_the_join_is_commutative_associative_and_idempotent(
    a: SightingState, b: SightingState, c: SightingState
) -> None:
    assert a.join(b) == b.join(a)
    assert a.join(b).join(c) == a.join(b.join(c))
    assert a.join(a) == a


@pytest.mark.slow
@given(st.lists(EVIDENCE, max_size=12), st.randoms())
def test_counts_do_not_depend_on_order_or_repeats(evidence: list[Evidence], random: object) -> None:
    shuffled = [*evidence, *evidence]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert counted(evidence) == counted(shuffled)


@pytest.mark.slow
@given(st.lists(EVIDENCE, max_size=12))
def test_counts_equal_those_of_counting_from_scratch(evidence: list[Evidence]) -> None:
    best: dict[str, SightingState] = {}
    for each in evidence:
        best[each.key] = best[each.key].join(each.state) if each.key in best else each.state
    day = Tally(UTC).day
    plain = Counter(Cell(key.rpartition("/")[0], day(seen.first_s), seen.label) for key, seen in best.items())
    assert {cell: count.sightings for cell, count in counted(evidence).items() if count.sightings} == plain


@pytest.mark.slow
@given(st.lists(EVIDENCE, max_size=12))
def test_every_cell_that_changed_is_told(evidence: list[Evidence]) -> None:
    tally, published = Tally(UTC), {}
    for each in evidence:
        published |= {cell: tally.count(cell) for cell in tally.add(each)}
    assert published == {cell: tally.count(cell) for cell in published}


@given(EVIDENCE)
def test_a_row_of_the_table_is_the_evidence_it_was_made_from(evidence: Evidence) -> None:
    assert remembered(evidence.key, list(evidence.state)) == evidence


def test_a_better_answer_moves_the_count() -> None:
    tally = Tally(UTC)
    family = evidence_of(report())
    species = evidence_of(result())
    assert family and species and family.key == species.key
    tally.add(family)
    before, after = tally.add(species)
    assert (before.label, tally.count(before).sightings) == ("Felidae", 0)
    assert (after.label, tally.count(after).sightings) == ("Felis catus", 1)
    assert tally.count(after).rank is Rank.SPECIES


def test_a_worse_answer_that_comes_late_changes_nothing() -> None:
    tally = Tally(
        UTC,
        [Evidence("home/cam1", "s1", SightingState(0.0, 0.0, 2, 0.5, ("animal", "Felidae", "Felis catus")))],
    )
    assert tally.add(Evidence("home/cam1", "s1", SightingState(0.0, 0.0, 1, 0.99, ("animal", "Felidae")))) == []


def test_a_day_is_the_local_one() -> None:
    late = clock.seconds("2026-05-01T23:30:00Z")
    assert Tally(UTC).day(late) == "2026-05-01"
    assert Tally(ZoneInfo("Europe/Berlin")).day(late) == "2026-05-02"


def test_equal_sighting_ids_of_two_devices_are_two_sightings() -> None:
    counts = counted(
        [Evidence(device, "s1", SightingState(0.0, 0.0, 0, 0.9, ("animal",))) for device in ("a/x", "a/y")]
    )
    assert [count.sightings for count in counts.values()] == [1, 1]


@pytest.mark.parametrize("path", [(), (UNKNOWN,), ("other",)])
def test_an_answer_that_names_nothing_is_not_counted(path: tuple[str, ...]) -> None:
    published = msgspec.structs.replace(report(), path=path, label=path[-1] if path else UNKNOWN, rank=Rank.KINGDOM)
    assert evidence_of(published) is None


def test_answers_about_readings_are_not_counted() -> None:
    assert evidence_of(result(rank=Rank.ACTIVITY, task=Task.OCCUPANCY)) is None


def test_old_days_are_forgotten_whole_and_their_counts_stay_as_told() -> None:
    tally = Tally(UTC)
    old = Evidence("home/cam1", "s1", SightingState(NOON_S, NOON_S, 0, 0.9, ("animal",)))
    tally.add(old)
    tally.add(old._replace(sighting="s2", state=old.state._replace(first_s=NOON_S + DAY_S)))
    assert tally.forget("home/cam1", NOON_S + KEEP_DAYS * DAY_S) == {}
    forgotten_s = NOON_S + (KEEP_DAYS + 1) * DAY_S
    assert tally.forget("home/cam1", forgotten_s) == {"home/cam1/s1": [forgotten_s]}
    assert tally.forget("home/cam2", NOON_S + 99 * DAY_S) == {}


def old_photo(sighting: str, arrived_s: float) -> Evidence:
    year_ago_s = NOON_S - 365 * DAY_S
    return Evidence("home/cam1", sighting, SightingState(year_ago_s, year_ago_s, 0, 0.9, ("animal",), arrived_s))


def test_a_photo_of_last_year_counts_on_its_own_day_whenever_it_arrives() -> None:
    """A card is read in two parts, with weeks between them; the state is bounded by arrival."""
    tally, published = Tally(UTC), {}
    for week in (0, 0, 3):
        arrived_s = NOON_S + week * 7 * DAY_S
        for cell in tally.add(old_photo(f"s{len(published)}-{week}", arrived_s)):
            published[cell.key] = encode(tally.count(cell))
        tally.forget("home/cam1", arrived_s)
    assert set(published) == {"home/cam1|2025-05-01|animal|2026-05-01", "home/cam1|2025-05-01|animal|2026-05-22"}
    (total,) = totals(published.values())
    assert (total.day, total.sightings, total.devices) == ("2025-05-01", 3, ("cam1",))


def test_a_late_answer_about_a_counted_sighting_does_not_count_it_again() -> None:
    tally, rows = Tally(UTC), {}
    for sighting in (old_photo("old", NOON_S), old_photo("new", NOON_S)._replace(state=SEEN_NOW)):
        tally.add(sighting)
    rows |= tally.forget("home/cam1", NOON_S + 10 * DAY_S)
    assert set(rows) == {"home/cam1/old", "home/cam1/new"}
    recovered = Tally.of_table(UTC, {key: row for key, row in rows.items() if row})
    for known in (tally, recovered):
        assert known.add(old_photo("old", NOON_S + 11 * DAY_S)) == []
        assert known.add(old_photo("new", NOON_S + 11 * DAY_S)) == []
        assert known.forget("home/cam1", NOON_S + (10 + COUNTED_DAYS + 1) * DAY_S) == dict.fromkeys(rows)


SEEN_NOW = SightingState(NOON_S, NOON_S, 0, 0.9, ("animal",), NOON_S)


@pytest.mark.parametrize(
    ("first_s", "countable"),
    [(0.0, True), (-KEEP_DAYS * DAY_S - 1, True), (-9999 * DAY_S, True), (EARLY_S, True), (EARLY_S + 1, False)],
)
def test_all_but_sightings_from_the_future_count(first_s: float, countable: bool) -> None:
    seen = SightingState(NOON_S + first_s, NOON_S + first_s, 0, 0.9, ("animal",))
    assert is_countable(Evidence("home/cam1", "s1", seen), NOON_S) is countable


def test_totals_add_up_the_devices_of_a_site_and_leave_out_what_fell_to_zero() -> None:
    def count(device: str, day: str, label: str, sightings: int) -> bytes:
        return encode(
            Count(
                site="home",
                device=device,
                day=day,
                label=label,
                path=(label,),
                rank=Rank.KINGDOM,
                sightings=sightings,
                first=f"{day}T0{sightings}",
                last=f"{day}T1{sightings}",
            )
        )

    found = totals(
        [
            count("cam1", "2026-05-01", "animal", 2),
            count("cam2", "2026-05-01", "animal", 3),
            count("cam1", "2026-05-01", "person", 0),
            count("cam1", "2026-05-02", "plant", 1),
        ]
    )
    assert [(total.day, total.label, total.sightings, total.devices) for total in found] == [
        ("2026-05-02", "plant", 1, ("cam1",)),
        ("2026-05-01", "animal", 5, ("cam1", "cam2")),
    ]
    assert (found[1].first, found[1].last) == ("2026-05-01T02", "2026-05-01T13")


def test_a_value_that_is_no_count_is_malformed() -> None:
    with pytest.raises(Malformed):
        totals([b"{}"])


def counted(evidence: list[Evidence]) -> dict[Cell, Count]:
    tally = Tally(UTC)
    cells = {cell for each in evidence for cell in tally.add(each)}
    return {cell: count for cell in cells if (count := tally.count(cell)).sightings}
