"""The fold: what counts, what does not and why, and that anything can be taken out again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fold_samples import (
    DIMENSION,
    SPACE,
    SmallTree,
    entry,
    increment,
    labelled,
    names,
    sums_of,
    twin,
    vector,
)
from msgspec.structs import replace

from pipeline.errors import Rejected, Stop
from pipeline.messages import Vote
from pipeline.spool.file import InUse
from pipeline.sums.fold import Fold
from pipeline.sums.fold_file import DISPUTED, UNPLACED
from pipeline.sums.fold_records import SiteContribution
from pipeline.sums.new_labels import NewLabel
from pipeline.sums.sums import SpaceMismatch

CAT, FOX = Vote("cat", "ann"), Vote("fox", "bob")
HERPESTES = Vote("herpestes", "ann", "animal/Herpestidae", "mongoose")


@pytest.fixture
def new_fold(tmp_path: Path) -> Iterator[Callable[[], Fold]]:
    """Opens the same file; closes what was opened before."""
    opened: list[Fold] = []

    def new() -> Fold:
        for each in opened:
            each.close()
        opened.append(Fold(tmp_path / "fold.db", SPACE, DIMENSION, SmallTree()))
        return opened[-1]

    yield new
    opened[-1].close()


@pytest.fixture
def fold(new_fold: Callable[[], Fold]) -> Fold:
    return new_fold()


def take(fold: Fold, *messages: object, site: str = "") -> list[str]:
    """Put them behind what was taken; the reasons of what was refused."""
    source = "sums" if site else "labelled"
    start = fold.next(source, 0)
    entries = [entry(each, start + n, site=site) for n, each in enumerate(messages)]  # type: ignore[arg-type]
    return [refused.reason for refused in fold.take(entries)]


def test_a_labelled_event_adds_its_vector_under_its_label_and_site(fold: Fold) -> None:
    each, two = names(2)
    assert take(fold, labelled(each, CAT), labelled(two, FOX, source="barn/cam1/yard")) == []
    found = fold.snapshot()
    assert found.learned.snapshot() == sums_of([(vector(each), "cat"), (vector(two), "fox")]).snapshot()
    assert found.sites["barn"].snapshot() == sums_of([(vector(two), "fox")]).snapshot()
    assert found.shares == (
        SiteContribution("barn", {"fox": 1}, two, two),
        SiteContribution("home", {"cat": 1}, each, each),
    )


def test_held_out_events_judge_and_never_teach(fold: Fold) -> None:
    teacher, judge = names(1, 1)
    take(fold, labelled(teacher, CAT), labelled(judge, FOX))
    found = fold.snapshot()
    assert found.learned.labels == ("cat",)
    assert [(each.event, each.label) for each in found.judges] == [(judge, "fox")]
    assert found.vectors.tobytes() == vector(judge)
    assert found.events == fold.events() == {"cat": 1, "fox": 1}


def test_a_changed_word_moves_the_event_and_an_old_or_repeated_one_does_nothing(fold: Fold) -> None:
    (each,) = names(1)
    take(fold, labelled(each, CAT), labelled(each, Vote("fox", "ann"), revision=3))
    changes = fold.changes()
    take(fold, labelled(each, CAT, revision=2), labelled(each, CAT, revision=3))
    assert fold.snapshot().learned.labels == ("fox",)
    assert fold.changes() == changes


def test_the_majority_stands_and_a_tie_teaches_nothing_and_is_listed(fold: Fold) -> None:
    (each,) = names(1)
    take(fold, labelled(each, CAT), labelled(each, CAT, FOX, revision=2))
    assert fold.snapshot().learned.events == 0
    assert [(row.event, row.label) for row in fold.undecided()[DISPUTED]] == [(each, "cat | fox")]
    take(fold, labelled(each, CAT, FOX, Vote("fox", "eve"), revision=3))
    assert fold.snapshot().learned.labels == ("fox",)
    assert fold.undecided()[DISPUTED] == []


def test_an_event_whose_words_were_all_taken_back_is_as_if_it_had_never_been(fold: Fold) -> None:
    each, two = names(2)
    take(fold, labelled(each, CAT))
    alone = fold.snapshot()
    take(fold, labelled(two, FOX), labelled(two, revision=2))
    assert fold.snapshot().digest == alone.digest


def test_what_was_taken_already_is_passed_over_also_by_a_fold_that_was_opened_again(
    new_fold: Callable[[], Fold],
) -> None:
    each, two = names(2)
    entries = [entry(labelled(each, CAT), 7), entry(labelled(two, FOX), 8)]
    assert new_fold().take(entries) == []
    before = new_fold().snapshot()
    assert new_fold().take(entries) == []
    after = new_fold().snapshot()
    assert (after.digest, after.changes) == (before.digest, before.changes)
    assert [tuple(each) for each in after.ranges] == [("labelled", 0, 7, 9)]


def test_a_record_that_was_refused_elsewhere_only_moves_the_offset(fold: Fold) -> None:
    assert fold.take([entry(None, 4)]) == []
    assert fold.next("labelled", 0) == 5
    fold.rewind("labelled", 0)
    assert fold.next("labelled", 0) == 0


@pytest.mark.parametrize("what", ["event", "device", "site"])
def test_what_is_forgotten_is_out_bit_for_bit_and_a_replay_does_not_bring_it_back(
    fold: Fold, new_fold: Callable[[], Fold], what: str
) -> None:
    ids = names(4, 1)
    kept = labelled(ids[0], CAT, source="barn/cam1/yard")
    gone = [labelled(each, FOX) for each in (ids[1:2] if what == "event" else ids[1:])]
    take(fold, kept)
    before = fold.snapshot()
    take(fold, *gone)
    name = {"event": ids[1], "device": "home/cam1", "site": "home"}[what]
    assert fold.forget(**{what: name}) == len(gone)
    fold = new_fold()
    assert (fold.snapshot().digest, fold.snapshot().judges) == (before.digest, before.judges)
    assert fold.forgotten() == [(what, name)]
    fold.rewind("labelled", 0)
    assert take(fold, kept, *gone) == ["forgotten"] * len(gone)
    assert fold.snapshot().digest == before.digest


def test_forgetting_names_one_thing_and_a_device_with_its_site(fold: Fold) -> None:
    for wrong in ({}, {"device": "cam1"}):
        with pytest.raises(Rejected):
            fold.forget(**wrong)
    assert fold.forgotten() == []


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("space-mismatch", {"space": "s2"}),
        ("space-mismatch", {"data": b"1234"}),
        ("malformed", {"source": "home"}),
        ("malformed", {"event": ""}),
        ("source-mismatch", {"source": "barn/cam1/garden", "revision": 2}),
    ],
)
def test_what_does_not_fit_is_refused_and_the_rest_counts(fold: Fold, reason: str, change: dict[str, object]) -> None:
    each, two = names(2)
    wrong = replace(labelled(each, FOX, revision=2), **change)
    assert take(fold, labelled(each, CAT), wrong, labelled(two, CAT)) == [reason]
    assert fold.snapshot().learned.snapshot() == twin([labelled(each, CAT), labelled(two, CAT)]).snapshot()
    assert fold.next("labelled", 0) == 3


# --- labels that the tree lacks --------------------------------------------------------------------------------


def test_a_new_label_stands_where_its_events_put_it_and_those_that_do_not_say_follow(fold: Fold) -> None:
    each, two = names(2)
    assert take(fold, labelled(each, Vote("herpestes", "bob"))) == ["unknown-label"]
    assert [row.event for row in fold.undecided()[UNPLACED]] == [each]
    assert take(fold, labelled(two, HERPESTES)) == []
    found = fold.snapshot()
    assert found.new_labels == (NewLabel("herpestes", "animal", "Herpestidae", "mongoose"),)
    assert found.learned.snapshot() == sums_of([(vector(e), "herpestes") for e in (each, two)]).snapshot()


def test_a_new_label_goes_with_the_events_that_brought_it(fold: Fold) -> None:
    each, two, three = names(3)
    take(fold, labelled(three, CAT))
    before = fold.snapshot()
    take(fold, labelled(each, Vote("herpestes", "bob")), labelled(two, HERPESTES))
    assert fold.forget(event=two) == 2
    found = fold.snapshot()
    assert (found.new_labels, found.digest) == ((), before.digest)


def test_where_people_disagree_about_a_new_label_most_events_decide_whatever_came_first(fold: Fold) -> None:
    ids = names(3)
    wrong = Vote("herpestes", "eve", "Felidae")
    assert take(fold, labelled(ids[0], wrong)) == []
    assert take(fold, labelled(ids[1], HERPESTES), labelled(ids[2], HERPESTES)) == []
    assert fold.snapshot().new_labels[0].family == "Herpestidae"
    assert [row.event for row in fold.undecided()[UNPLACED]] == [ids[0]]
    assert take(fold, labelled(ids[0], wrong, revision=2)) == ["label-conflict"]


def test_a_new_label_may_stand_in_a_family_that_another_one_brought(fold: Fold) -> None:
    each, two = names(2)
    assert take(fold, labelled(each, Vote("a-galidia", "ann", "Herpestidae"))) == ["unknown-label"]
    assert take(fold, labelled(two, HERPESTES)) == []
    assert {row.label: row.family for row in fold.snapshot().new_labels} == {
        "a-galidia": "Herpestidae",
        "herpestes": "Herpestidae",
    }


def test_a_family_that_a_new_label_brought_is_a_label_as_long_as_that_stands(fold: Fold) -> None:
    each, two = names(2)
    take(fold, labelled(each, HERPESTES), labelled(two, Vote("Herpestidae", "bob")))
    assert fold.snapshot().learned.labels == ("Herpestidae", "herpestes")
    assert [row.label for row in fold.snapshot().new_labels] == ["herpestes"]
    assert fold.forget(event=each) == 2
    assert [row.event for row in fold.undecided()[UNPLACED]] == [two]


# --- sums that sites tell ----------------------------------------------------------------------------------------

PAIRS = [(vector(f"own{number}"), "cat") for number in range(3)]


def test_sums_of_a_site_count_once_under_their_number_and_go_with_the_site(fold: Fold) -> None:
    (each,) = names(1)
    take(fold, labelled(each, FOX))
    before = fold.snapshot()
    shared = increment(1, PAIRS)
    assert take(fold, shared, shared, site="barn") == []
    fold.rewind("sums", 0)
    assert take(fold, shared, site="barn") == []
    found = fold.snapshot()
    assert found.learned.snapshot() == sums_of([*PAIRS, (vector(each), "fox")]).snapshot()
    assert found.sites["barn"].events == 3
    assert take(fold, increment(2, PAIRS), site="barn") == []
    assert fold.snapshot().sites["barn"].events == 6
    assert fold.forget(site="barn") == 6
    assert fold.snapshot().digest == before.digest
    assert take(fold, shared, site="barn") == ["forgotten"]


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("number-taken", {"number": 1}),
        ("malformed", {"number": 0}),
        ("space-mismatch", {"space": "s2"}),
        ("counts-mismatch", {"counts": (("cat", 4),)}),
        ("counts-mismatch", {"counts": (("cat", 3), ("cat", 3))}),
        ("bad-sums", {"sums": b"no sums"}),
    ],
)
def test_sums_that_do_not_fit_are_refused_whole(fold: Fold, reason: str, change: dict[str, object]) -> None:
    take(fold, increment(1, [*PAIRS, PAIRS[0]]), site="home")
    before = fold.snapshot()
    assert take(fold, replace(increment(2, PAIRS), **change), site="home") == [reason]
    assert fold.snapshot().digest == before.digest


def test_sums_of_a_new_label_say_where_it_belongs_or_are_refused(fold: Fold) -> None:
    pairs = [(data, "herpestes") for data, _ in PAIRS]
    assert take(fold, increment(1, [*PAIRS, *pairs]), site="home") == ["unknown-label"]
    assert fold.snapshot().learned.events == 0
    shared = increment(1, [*PAIRS, *pairs], under=(("herpestes", "animal/Herpestidae"),))
    assert take(fold, shared, site="home") == []
    assert fold.snapshot().new_labels[0].family == "Herpestidae"


def test_sums_of_a_label_that_a_release_brought_need_not_say_where_it_belongs_and_keep_its_place(
    fold: Fold,
) -> None:
    (each,) = names(1)
    take(fold, labelled(each, HERPESTES))
    assert take(fold, increment(1, [(data, "herpestes") for data, _ in PAIRS]), site="barn") == []
    fold.forget(event=each)
    found = fold.snapshot()
    assert (found.learned.events, found.new_labels[0].family) == (3, "Herpestidae")


# --- the file ----------------------------------------------------------------------------------------------------


def test_a_file_of_another_space_or_in_use_or_of_a_newer_release_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "fold.db"
    held = Fold(path, SPACE, DIMENSION, SmallTree())
    with pytest.raises(InUse):
        Fold(path, SPACE, DIMENSION, SmallTree())
    held.close()
    with pytest.raises(SpaceMismatch, match="move it away"):
        Fold(path, "s2", DIMENSION, SmallTree())
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(Stop, match="newer"):
        Fold(path, SPACE, DIMENSION, SmallTree())
