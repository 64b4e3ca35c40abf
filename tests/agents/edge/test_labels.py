"""Labels at the edge: what is taken, what is told, and what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sample_edge import SampleEdge, sample_edge
from sample_labels import (
    CAT,
    TOPIC,
    WOLF,
    acks,
    answer_of_cloud,
    cat,
    label,
    refusals,
    results,
    seen,
    still,
)
from sample_messages import (
    NOW_S,
    event,
    event_id,
    result,
)

from agents.edge import labels
from agents.edge.label_rules import LABEL_MAX_BYTES, LABELLED
from agents.edge.labels import EARLY_S
from agents.edge.store import DAY_S
from pipeline import messages
from pipeline.messages import (
    Kind,
    Rank,
    Refusal,
    Task,
    Tier,
    Vote,
)
from pipeline.mqtt import Message


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[SampleEdge]:
    with sample_edge(tmp_path) as opened:
        yield opened


# --- what users see --------------------------------------------------------------------------------------------


def test_a_label_corrects_the_answer_in_place_and_is_acknowledged(edge: SampleEdge) -> None:
    family = seen(edge)
    given = label("Canis lupus")
    edge.label(given)
    sent = edge.take()
    (answer,) = results(sent)
    assert (answer.tier, answer.revision, answer.pending) == (Tier.EDGE, family.revision + 1, None)
    assert (answer.path, answer.rank, answer.probability) == (WOLF, Rank.SPECIES, 1.0)
    assert (answer.rule, answer.reason, answer.model) == (LABELLED, "labelled by ann", family.model)
    (ack,) = acks(sent)
    assert (ack.ids, ack.topic) == ((event_id(),), TOPIC)
    assert ack.sha256 == hashlib.sha256(messages.encode(given)).hexdigest()


def test_a_label_that_is_in_the_inbox_is_dealt_with_after_a_restart(tmp_path: Path) -> None:
    with sample_edge(tmp_path) as edge:
        seen(edge)
        edge.receive(Message(TOPIC, messages.encode(label("Canis lupus")), False))
    with sample_edge(tmp_path) as edge:
        edge.deliver_raw()
        sent = edge.take()
        assert [answer.path for answer in results(sent)] == [WOLF]
        assert len(acks(sent)) == 1


def test_the_sighting_follows_the_label(edge: SampleEdge) -> None:
    seen(edge)
    edge.label(label("Canis lupus"))
    assert [report.path for report in edge.take_reports()] == [WOLF]
    edge.clock.turn(1000)
    edge.sightings.close_quiet(edge.clock.now())
    (closed,) = edge.take_reports()
    assert (closed.path, closed.closed) == (WOLF, True)


def test_a_persons_word_about_one_frame_outweighs_what_models_say_of_its_sightings_others(
    edge: SampleEdge,
) -> None:
    seen(edge, *(cat(number) for number in range(1, 8)))
    edge.label(label("Canis lupus", number=3))
    (report,) = edge.take_reports()
    assert (report.path, report.probability, report.frames, report.agree) == (WOLF, 1.0, 7, 1)
    edge.label(label(None, number=3))
    (again,) = edge.take_reports()
    assert (again.path, again.agree) == (("animal", "Felidae"), 7)
    assert again.probability < 1.0


def test_a_label_that_is_taken_back_brings_the_models_answer_back(edge: SampleEdge) -> None:
    family = seen(edge)
    edge.label(label("Canis lupus"))
    edge.label(label(None))
    wrong, again = edge.take_results()
    assert wrong.path == WOLF
    assert (again.path, again.probability, again.rule) == (family.path, family.probability, family.rule)
    assert (again.revision, again.pending, again.tier) == (family.revision + 2, None, Tier.EDGE)
    assert "no label stands" in again.reason


def test_a_repeat_changes_nothing_and_is_acknowledged_again(edge: SampleEdge) -> None:
    seen(edge)
    given = label("Felis catus", at_s=NOW_S)
    edge.label(given)
    edge.take()
    edge.take_up()
    edge.label(given)
    sent = edge.take()
    assert (results(sent), len(acks(sent)), edge.take_up()) == ([], 1, [])


def test_the_last_word_by_the_same_person_counts_in_whatever_order_they_come(edge: SampleEdge) -> None:
    seen(edge)
    edge.label(label("Canis lupus", at_s=NOW_S - 5))
    edge.label(label("Felidae", at_s=NOW_S - 9))
    edge.label(label("Felis catus", at_s=NOW_S - 2))
    assert [answer.path for answer in edge.take_results()] == [WOLF, CAT]
    assert [word.label for word in edge.store.labels.standing(event_id())] == ["Felis catus"]


def test_a_time_that_lies_ahead_shuts_out_no_later_word(edge: SampleEdge) -> None:
    seen(edge)
    edge.label(label("Canis lupus", at_s=NOW_S + 1e6))
    edge.clock.turn(1)
    edge.label(label("Felis catus"))
    assert edge.take_results()[-1].path == CAT


def test_a_taking_back_that_overtakes_its_label_still_takes_it_back(edge: SampleEdge) -> None:
    seen(edge)
    edge.label(label(None, at_s=NOW_S - 1))
    edge.label(label("Canis lupus", at_s=NOW_S - 2))
    assert edge.take_results() == []
    assert edge.store.labels.standing(event_id()) == ()


def test_other_persons_words_are_kept_beside_and_the_answer_is_what_they_share(edge: SampleEdge) -> None:
    seen(edge)
    edge.label(label("Felis catus"))
    edge.label(label("Canis lupus", by="ben"))
    _, parted = edge.take_results()
    assert parted.path == ("animal",)
    edge.label(label("Felidae", by="cid"))
    (most,) = edge.take_results()
    assert (most.path, most.reason) == (CAT, "labelled by ann, cid; ben chose Canis lupus")
    said = {word.by: word.label for word in edge.store.labels.standing(event_id())}
    assert said == {"ann": "Felis catus", "ben": "Canis lupus", "cid": "Felidae"}


def test_who_gives_no_name_is_one_person(edge: SampleEdge) -> None:
    seen(edge)
    edge.label(label("Felidae", by=""))
    edge.label(label("Felis catus", by=" "))
    assert [answer.reason for answer in edge.take_results()] == ["labelled by anonymous"] * 2


def test_the_clouds_answer_stays_below_a_label_and_returns_with_its_withdrawal(edge: SampleEdge) -> None:
    edge.deliver(cat())
    (envelope,) = edge.take_up()
    edge.label(label("Canis lupus"))
    edge.take()
    species = answer_of_cloud(envelope)
    edge.deliver_answers(species)
    edge.pass_deadlines()
    assert edge.take_results() == [], "what was told still stands"
    edge.label(label(None))
    (again,) = edge.take_results()
    assert (again.tier, again.path, again.rule) == (Tier.CLOUD, species.path, species.rule)
    assert again.revision > 3


def test_a_label_of_what_the_device_answered_alone_is_told_by_the_edge(edge: SampleEdge) -> None:
    edge.deliver(still())
    edge.label(label("Felis catus"))
    edge.label(label(None))
    labelled, again = edge.take_results()
    assert [(each.tier, each.revision, each.path) for each in (labelled, again)] == [
        (Tier.EDGE, 2, CAT),
        (Tier.EDGE, 3, ("animal",)),
    ]
    assert edge.take_up() == [], "no feature, so nobody could learn from it"


def test_a_frame_that_comes_after_its_notice_and_its_label_is_still_seen(edge: SampleEdge) -> None:
    notice = event(result(event_id(1), sighting=event_id(1), revision=2, pending=None, rule="deadline"))
    edge.deliver(notice)
    edge.label(label("Canis lupus"))
    edge.take()
    edge.deliver(cat())
    (published,) = edge.take_results()
    assert (published.path, published.rule, published.revision) == (WOLF, LABELLED, 4)
    assert [up.kind for up in edge.take_up()].count(Kind.LABEL) == 1
    edge.label(label(None))
    assert edge.take_results()[-1].path == ("animal", "Felidae")


# --- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "malformed"),
        (b"Felis catus", "malformed"),
        (b"[]", "malformed"),
        (b'{"label": "Felis catus"}', "malformed"),
        (b'{"event": 7, "label": "Felis catus"}', "malformed"),
        (b'{"event": "' + event_id().encode() + b'"}', "malformed"),
        (b'{"event": "x", "label": ' + b"[" * 3000, "malformed"),
        (b'{"event": "x", "label": "' + b"y" * LABEL_MAX_BYTES + b'"}', "label-too-large"),
        (messages.encode(label("Felis cattus")), "unknown-label"),
        (messages.encode(label("Felis catus", under="Canidae")), "under-conflict"),
        (messages.encode(label("Felis nova", under="Felidea")), "under-unknown"),
        (messages.encode(label("Felis catus", by="a\nb\x1b")), "by-invalid"),
        (messages.encode(msgspec.structs.replace(label("Felis catus"), time="soon")), "time-invalid"),
        (messages.encode(msgspec.structs.replace(label("Felis catus"), event="last")), "unknown-event"),
        (messages.encode(label("Felis catus", number=2)), "unknown-event"),
    ],
)
def test_a_label_that_cannot_be_taken_is_refused_with_its_reason(edge: SampleEdge, payload: bytes, reason: str) -> None:
    seen(edge)
    edge.clock.turn(EARLY_S + 1)
    edge.deliver_raw(Message(TOPIC, payload, False))
    sent = edge.take()
    assert refusals(sent) == [reason]
    assert (results(sent), acks(sent)) == ([], [])
    assert edge.store.labels.standing(event_id()) == ()
    edge.label(label("Felis catus"))
    assert edge.take_results()[-1].path == CAT, "the next one is taken"


def test_a_refusal_names_the_nearest_label_and_repeats_no_persons_words(edge: SampleEdge) -> None:
    seen(edge)
    edge.label(label("Felis cattus"))
    (sent,) = [each for each in edge.take() if isinstance(each, Refusal)]
    assert "Felis catus" in sent.detail


def test_a_retained_label_is_refused(edge: SampleEdge) -> None:
    seen(edge)
    edge.label(label("Felis catus"), retain=True)
    assert refusals(edge.take()) == ["retained"]


def test_a_label_under_another_device_is_refused(edge: SampleEdge) -> None:
    seen(edge)
    edge.label(label("Felis catus"), device="cam2")
    assert refusals(edge.take()) == ["other-source"]


def test_what_is_no_frame_has_no_label(edge: SampleEdge) -> None:
    hour = result(event_id(1), sighting=None, task=Task.METER, tier=Tier.CLOUD, rank=Rank.PATTERN, path=("usual",))
    edge.deliver_answers(hour)
    edge.take()
    edge.label(label("Felis catus"))
    assert refusals(edge.take()) == ["not-a-frame"]


def test_a_label_of_an_event_that_was_forgotten_is_refused_and_its_words_and_feature_are_gone(
    edge: SampleEdge,
) -> None:
    seen(edge)
    edge.label(label("Felis catus"))
    edge.take()
    edge.clock.turn(edge.settings.edge.keep_days * DAY_S + 1)
    edge.store.forget(edge.clock.now() - edge.settings.edge.keep_days * DAY_S)
    assert edge.spool.query("SELECT count(*) FROM edge_labels") == [(0,)]
    assert edge.spool.query("SELECT count(*) FROM edge_features") == [(0,)]
    edge.label(label("Felis catus"))
    assert refusals(edge.take()) == ["unknown-event"]


def test_a_label_that_overtakes_its_event_waits_for_it(edge: SampleEdge) -> None:
    edge.label(label("Canis lupus"))
    assert edge.take() == []
    edge.deliver(cat())
    edge.wait_for_early()
    assert [answer.path for answer in edge.take_results()] == [("animal", "Felidae"), WOLF]
    edge.wait_for_early(EARLY_S)
    assert edge.take() == []


def test_a_label_whose_event_never_comes_is_refused_in_the_end(edge: SampleEdge) -> None:
    edge.label(label("Canis lupus"))
    edge.wait_for_early(EARLY_S / 2)
    assert edge.take() == []
    edge.wait_for_early(EARLY_S)
    assert refusals(edge.take()) == ["unknown-event"]
    edge.wait_for_early(EARLY_S)
    assert edge.take() == []


def test_a_label_does_not_wait_for_ever_if_the_clock_is_set_back(edge: SampleEdge) -> None:
    edge.label(label("Canis lupus"))
    edge.wait_for_early(-2 * EARLY_S)
    assert refusals(edge.take()) == ["unknown-event"]


def test_only_so_many_labels_wait_for_their_events(edge: SampleEdge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "EARLY_MAX", 2)
    for number in (1, 2, 3):
        edge.label(label("Canis lupus", number=number))
    assert refusals(edge.take()) == ["too-many-early"]
    edge.deliver(cat(2))
    edge.wait_for_early()
    edge.take()
    edge.label(label("Canis lupus", number=4))
    assert edge.take() == [], "there is room again"


# --- species that the tree lacks --------------------------------------------------------------------------------


def test_a_new_species_is_taken_under_its_family_and_known_from_then_on(edge: SampleEdge) -> None:
    seen(edge, cat(1), cat(2), cat(3))
    edge.label(label("Cryptoprocta ferox", under="animal/Eupleridae", english="fossa"))
    edge.label(label("FOSSA", number=2, by="ben"))
    edge.label(label("Cryptoprocta ferox", number=3, under="Felidae"))
    sent = edge.take()
    assert [answer.path for answer in results(sent)] == [("animal", "Eupleridae", "Cryptoprocta ferox")] * 2
    assert refusals(sent) == ["under-conflict"]
    votes = [messages.decode(Vote, up.payload) for up in edge.take_up() if up.kind is Kind.LABEL]
    assert {(vote.label, vote.under, vote.english) for vote in votes} == {
        ("Cryptoprocta ferox", "animal/Eupleridae", "fossa")
    }


def test_who_brought_a_species_may_name_it_again_without_its_place(edge: SampleEdge) -> None:
    seen(edge)
    edge.label(label("Cryptoprocta ferox", under="animal/Eupleridae"))
    edge.label(label("cryptoprocta ferox"))
    sent = edge.take()
    assert (refusals(sent), len(results(sent)), len(acks(sent))) == ([], 1, 2)


def test_who_brought_a_species_may_put_right_where_it_belongs(edge: SampleEdge) -> None:
    seen(edge)
    edge.label(label("Cryptoprocta ferox", under="Felidae"))
    edge.label(label("Cryptoprocta ferox", under="animal/Eupleridae"))
    assert edge.take_results()[-1].path == ("animal", "Eupleridae", "Cryptoprocta ferox")
