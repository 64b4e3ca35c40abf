"""What a label means, and what several persons agree on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_messages import NOW_S, event_id, result

from agents.edge.label_rules import (
    AHEAD_S,
    ANONYMOUS,
    LABELLED,
    NAME_MAX,
    TAKEN_BACK,
    PersonVote,
    ResolvedLabel,
    agreed,
    given_at,
    grown,
    labelled,
    person_name,
    resolve,
)
from models.labels.taxonomy import load_taxonomy
from pipeline import clock
from pipeline.errors import Rejected
from pipeline.messages import Label, Rank, Tier

TREE = load_taxonomy()
CAT = ("animal", "Felidae", "Felis catus")
FAMILY = CAT[:2]
DOG = ("animal", "Canidae", "Canis lupus")


def label(text: str | None, under: str = "", english: str = "") -> Label:
    return Label(event=event_id(), label=text, under=under, english=english)


def word(path: tuple[str, ...], by: str = "ann", at_s: float = NOW_S, under: str = "") -> PersonVote:
    return PersonVote(event_id(), by, path[-1] if path else None, path, under, path[-1] if under else "", at_s, 1)


BROUGHT = word(("animal", "Eupleridae", "Cryptoprocta ferox"), under="animal/Eupleridae")._replace(english="fossa")


# --- what a label means ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("Felis catus", CAT),
        ("felis CATUS", CAT),
        ("  Felis   catus ", CAT),
        ("Felidae", FAMILY),
        ("animal", ("animal",)),
        ("person", ("person",)),
        ("empty", ("other",)),
        ("Nothing", ("other",)),
    ],
)
def test_a_label_of_any_rank_is_found_by_its_names_in_any_case(text: str, path: tuple[str, ...]) -> None:
    assert resolve(label(text), TREE) == ResolvedLabel(path[-1], path, "", "")


def test_an_english_name_is_as_good_as_the_scientific_one() -> None:
    assert resolve(label("red fox"), TREE).label == "Vulpes vulpes"


def test_null_takes_back() -> None:
    assert resolve(label(None), TREE) == TAKEN_BACK


def test_a_label_that_the_tree_lacks_is_refused_with_the_nearest_and_with_what_to_do() -> None:
    with pytest.raises(Rejected, match=r"Felis catus.*name its family in `under`") as refused:
        resolve(label("Felis cattus"), TREE)
    assert refused.value.reason == "unknown-label"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (
            label("Leopardus guigna", "Felidae"),
            ResolvedLabel(
                "Leopardus guigna",
                (*FAMILY, "Leopardus guigna"),
                "animal/Felidae",
                "Leopardus guigna",
            ),
        ),
        (
            label("Felidae/Leopardus guigna"),
            ResolvedLabel(
                "Leopardus guigna",
                (*FAMILY, "Leopardus guigna"),
                "animal/Felidae",
                "Leopardus guigna",
            ),
        ),
        (
            label("Cryptoprocta ferox", "animal/Eupleridae", "fossa"),
            ResolvedLabel("Cryptoprocta ferox", BROUGHT.path, "animal/Eupleridae", "fossa"),
        ),
        (
            label("animal/Eupleridae/Cryptoprocta ferox", english="fossa"),
            ResolvedLabel("Cryptoprocta ferox", BROUGHT.path, "animal/Eupleridae", "fossa"),
        ),
    ],
)
def test_a_species_that_the_tree_lacks_is_taken_under_a_family_or_a_new_one(given: Label, meant: ResolvedLabel) -> None:
    assert resolve(given, TREE) == meant


@pytest.mark.parametrize("name", ["Cryptoprocta ferox", "FOSSA", "cryptoprocta  Ferox"])
def test_what_the_site_brought_once_is_known_by_its_names(name: str) -> None:
    assert resolve(label(name), TREE, [BROUGHT]) == ResolvedLabel(
        "Cryptoprocta ferox", BROUGHT.path, "animal/Eupleridae", "fossa"
    )
    assert "Cryptoprocta ferox" in grown(TREE, [BROUGHT]).species


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (label("Felis catus", "Canidae"), "under-conflict"),
        (label("Cryptoprocta ferox", "Felidae"), "under-conflict"),
        (label("Leopardus guigna", "plant/Felidae"), "under-conflict"),
        (label("Leopardus guigna", "Felidea"), "under-unknown"),
        (label("Leopardus guigna", "animal"), "under-unknown"),
        (label("Leopardus guigna", "Felis catus"), "under-unknown"),
        (label("Leopardus guigna", "other/Felidae2"), "under-unknown"),
        (label("Leopardus guigna", "mineral/Felidae2"), "under-unknown"),
        (label("Leopardus guigna", "animal/x/y"), "under-unknown"),
        (label("Leopardus guigna", "/"), "under-unknown"),
        (label("Felidae/Leopardus guigna", "Felidae"), "label-invalid"),
        (label(""), "label-invalid"),
        (label(" \n "), "label-invalid"),
        (label("Felis\x00catus"), "label-invalid"),
        (label("x" * 500), "label-invalid"),
        (label("Felidae/"), "label-invalid"),
    ],
)
def test_what_contradicts_the_tree_or_is_no_name_is_refused(given: Label, reason: str) -> None:
    with pytest.raises(Rejected) as refused:
        resolve(given, TREE, [BROUGHT])
    assert refused.value.reason == reason


@pytest.mark.slow
@given(st.text(max_size=200), st.text(max_size=60), st.text(max_size=60))
def test_any_text_is_resolved_or_refused_and_what_is_new_can_be_added_to_the_tree(
    text: str, under: str, english: str
) -> None:
    try:
        meant = resolve(label(text, under, english), TREE, [BROUGHT])
    except Rejected:
        return
    assert meant.label is not None
    assert meant.path[-1] == meant.label
    assert not any("/" in step for step in meant.path)
    new = PersonVote(event_id(), "ann", *meant, NOW_S, 1)
    assert grown(TREE, [BROUGHT, new]).path(meant.label) == meant.path


# --- who, and when ---------------------------------------------------------------------------------------------


def test_who_gives_no_name_is_anonymous() -> None:
    assert (person_name(""), person_name("  "), person_name(" ann ")) == (ANONYMOUS, ANONYMOUS, "ann")
    for odd in ("a\x1b[2J", "x" * (NAME_MAX + 1)):
        with pytest.raises(Rejected, match="a person's name"):
            person_name(odd)


def test_a_labels_time_is_its_own_unless_it_lies_ahead() -> None:
    assert given_at("", NOW_S) == NOW_S
    assert given_at(clock.rfc3339(NOW_S - 5), NOW_S) == NOW_S - 5
    assert given_at(clock.rfc3339(NOW_S + AHEAD_S + 1), NOW_S) == NOW_S
    for odd in ("yesterday", "2026-13-01T00:00:00Z", "9" * 40):
        with pytest.raises(Rejected, match="RFC 3339"):
            given_at(odd, NOW_S)


# --- what several persons say ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paths", "path"),
    [
        ([], ()),
        ([CAT], CAT),
        ([CAT, FAMILY], CAT),
        ([CAT, DOG], ("animal",)),
        ([CAT, CAT, DOG], CAT),
        ([CAT, DOG, ("animal", "Felidae", "Lynx lynx")], FAMILY),
        ([CAT, ("person",)], ()),
        ([CAT, ("other",), ("other",)], ("other",)),
    ],
)
def test_persons_agree_as_deep_as_most_of_them_go(paths: list[tuple[str, ...]], path: tuple[str, ...]) -> None:
    assert agreed(paths) == path


@pytest.mark.slow
@given(st.lists(st.sampled_from([CAT, FAMILY, DOG, ("animal",), ("person",), ("other",)])), st.randoms())
def test_agreement_knows_no_order_and_is_what_somebody_said(
    paths: list[tuple[str, ...]], random: st.DataObject
) -> None:
    path = agreed(paths)
    shuffled = list(paths)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert agreed(shuffled) == path
    assert not path or any(each[: len(path)] == path for each in paths)


def test_a_labelled_answer_names_who_says_so_and_who_says_otherwise() -> None:
    words = [word(CAT, "ann"), word(FAMILY, "ben", NOW_S + 1), word(CAT, "eve", NOW_S + 3), word(DOG, "cid")]
    answer = labelled(result(event_id()), words, revision=4)
    assert answer is not None
    assert (answer.tier, answer.revision, answer.pending, answer.rule) == (Tier.EDGE, 4, None, LABELLED)
    assert (answer.path, answer.label, answer.rank, answer.probability) == (
        CAT,
        "Felis catus",
        Rank.SPECIES,
        1.0,
    )
    assert answer.reason == "labelled by ann, ben, eve; cid chose Canis lupus"
    assert answer.model == result(event_id()).model


def test_of_many_persons_some_are_named() -> None:
    answer = labelled(result(event_id()), [word(CAT, f"p{n}", NOW_S + n) for n in range(9)], revision=2)
    assert answer is not None
    assert answer.reason == "labelled by p0, p1, p2 and 6 more"


def test_where_nobody_agrees_or_all_was_taken_back_the_models_answer_stands() -> None:
    models = result(event_id())
    assert labelled(models, [word(CAT), word(("person",), "ben")], revision=2) is None
    assert labelled(models, [word(())], revision=2) is None
