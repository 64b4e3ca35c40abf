"""Labels at the edge: what goes up because of them, and who learns."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from sample_edge import SampleEdge, sample_edge
from sample_labels import (
    CAT,
    acks,
    answer_of_cloud,
    cat,
    cat_vector,
    label,
    refusals,
    results,
    seen,
    still,
)
from sample_messages import (
    NOW_S,
    OPEN,
    SOURCE,
    edge_model,
    event_id,
    settings,
)

from agents.edge.label_rules import LabelledEvent
from agents.edge.labels import PERSONS_MAX
from agents.gateway.agent import check_site
from pipeline import clock, messages, topics
from pipeline.errors import Withheld
from pipeline.messages import (
    Feature,
    Kind,
    Levels,
    Privacy,
    Tier,
    UplinkBatch,
    Vector,
    Vote,
)
from pipeline.privacy import gate
from pipeline.privacy.seal import pseudonym
from pipeline.records import to_record
from pipeline.settings.settings import RuleSettings
from pipeline.stream.router import route


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[SampleEdge]:
    with sample_edge(tmp_path) as opened:
        yield opened


# --- what goes up ------------------------------------------------------------------------------------------------


def test_a_public_label_goes_up_under_a_pseudonym_beside_its_feature(edge: SampleEdge) -> None:
    edge.deliver(cat())
    (asked,) = edge.take_up()
    edge.label(label("Felis catus", at_s=NOW_S))
    feature, said = edge.take_up()
    assert feature == asked, "the same record once more: repeats are harmless"
    assert (said.kind, said.privacy, said.key, said.revision) == (Kind.LABEL, Privacy.PUBLIC, "home/cam1", 1)
    assert (said.event, said.source, said.time) == (feature.event, feature.source, feature.time)
    assert edge.keyring.site is not None
    by = pseudonym(edge.keyring.site, "ann")
    assert len(by) == 12
    assert messages.decode(Vote, said.payload) == Vote(label="Felis catus", by=by, time=clock.rfc3339(NOW_S))
    assert b"ann" not in said.payload


def test_gateway_gate_and_router_take_a_label(edge: SampleEdge) -> None:
    seen(edge)
    edge.label(label("Felis catus"))
    up = tuple(edge.take_up())
    gate.clear(UplinkBatch(site="home", envelopes=up), topics.uplink("home"), to=Tier.CLOUD)
    places = []
    for envelope in up:
        check_site(envelope, "home", "home")
        gate.clear_record(envelope)
        places.append(route(to_record(envelope).headers).topic)
    assert places == [topics.ROUTED[Privacy.PUBLIC], topics.LABELS]
    for payload in (b"no vote", messages.encode(Vote(label="Felis catus", by="ann"))):
        with pytest.raises(Withheld):
            gate.clear_record(msgspec.structs.replace(up[1], payload=payload))


def test_each_change_of_an_events_words_has_the_next_revision(edge: SampleEdge) -> None:
    seen(edge)
    for given in (label("Felis catus"), label("Canis lupus", by="ben"), label("Felis catus"), label(None)):
        edge.label(given)
    said = [up for up in edge.take_up() if up.kind is Kind.LABEL]
    votes = [messages.decode(Vote, up.payload) for up in said]
    assert [up.revision for up in said] == [1, 2, 3]
    assert [vote.label for vote in votes] == ["Felis catus", "Canis lupus", None]
    assert votes[0].by == votes[2].by != votes[1].by


def test_a_frame_that_the_cloud_never_saw_goes_up_with_its_label_and_its_answer_is_no_news(
    edge: SampleEdge,
) -> None:
    seen(edge, cat(1), cat(2))
    edge.label(label("Canis lupus", number=2))
    feature, said = edge.take_up()
    assert (feature.event, said.event) == (event_id(2), event_id(2))
    assert messages.decode(Feature, feature.payload).data == cat_vector()
    edge.take()
    edge.deliver_answers(answer_of_cloud(feature))
    assert edge.take_results() == []


def test_a_feature_that_goes_up_again_changes_nothing_when_it_is_answered_again(edge: SampleEdge) -> None:
    edge.deliver(cat())
    (asked,) = edge.take_up()
    edge.deliver_answers(answer_of_cloud(asked))
    edge.take()
    edge.label(label(None, by="nobody"))
    edge.label(label("Canis lupus"))
    edge.label(label(None))
    before = edge.take_results()[-1]
    (again,) = [up for up in edge.take_up() if up.kind is Kind.FEATURE]
    assert again == asked
    edge.deliver_answers(answer_of_cloud(again))
    assert edge.take_results() == []
    known = edge.store.answer(event_id())
    assert known is not None
    assert known.result == before


@pytest.mark.parametrize(
    "levels",
    [
        msgspec.structs.replace(OPEN, result=Privacy.EDGE_PRIVATE),
        msgspec.structs.replace(OPEN, feature=Privacy.EDGE_PRIVATE),
        msgspec.structs.replace(OPEN, feature=Privacy.USER_PRIVATE),
    ],
)
def test_a_label_is_as_private_as_result_and_feature_together(edge: SampleEdge, levels: Levels) -> None:
    edge.deliver(cat(levels=levels))
    edge.take_up()
    edge.label(label("Felis catus"))
    assert edge.take_results()[-1].path == CAT
    assert edge.take_up() == []


def test_a_feature_that_stays_on_its_device_does_not_rest_at_the_edge(edge: SampleEdge, tmp_path: Path) -> None:
    edge.deliver(cat(1, levels=msgspec.structs.replace(OPEN, feature=Privacy.USER_PRIVATE)))
    assert edge.store.labels.feature(event_id(1)) is None
    edge.deliver(cat(2))
    kept = edge.store.labels.feature(event_id(2))
    assert kept is not None
    assert (kept.vector, kept.space, kept.source) == (cat_vector(), edge_model().space, SOURCE)
    assert (kept.levels.feature, kept.levels.result) == (OPEN.feature, OPEN.result)


def test_a_person_who_was_missed_raises_the_levels_and_nothing_more_goes_up(edge: SampleEdge, tmp_path: Path) -> None:
    edge.deliver(cat())
    edge.label(label("Felis catus", by="ben"))
    edge.label(label("person"))
    edge.label(label("person", by="ben"))
    answers = edge.take_results()
    assert answers[-1].path == ("person",)
    assert [each.privacy for each in answers[2:]] == [Privacy.EDGE_PRIVATE] * len(answers[2:])
    assert edge.take_up() == [], "what had not left does not leave"
    assert edge.store.labels.feature(event_id()) is None
    edge.label(label(None))
    edge.label(label("Felis catus", by="ben"))
    assert edge.take_up() == []
    assert edge.take_results()[-1].privacy is Privacy.EDGE_PRIVATE
    edge.deliver(cat(2))
    with closing(sqlite3.connect(tmp_path / "spool.db")) as db:
        assert db.execute("SELECT count(*) FROM edge_features").fetchone() == (1,)


def test_words_that_the_cloud_has_are_withdrawn_there_when_a_person_was_missed(edge: SampleEdge) -> None:
    edge.deliver(cat())
    edge.label(label("Felis catus", by="ben"))
    edge.label(label("Felis catus"))
    gone = [up for up in edge.take_up() if up.kind is Kind.LABEL]
    edge.label(label("person"))
    taken_back = edge.take_up()
    assert {up.kind for up in taken_back} == {Kind.LABEL}, "and no feature beside it"
    said, withdrawn = ([messages.decode(Vote, up.payload) for up in ups] for ups in (gone, taken_back))
    assert {vote.by for vote in withdrawn} == {vote.by for vote in said}
    assert {vote.label for vote in withdrawn} == {None}
    assert min(up.revision for up in taken_back) > max(up.revision for up in gone)
    edge.label(label("person", by="ben"))
    assert edge.take_up() == []


def test_of_a_feature_that_a_label_made_private_no_byte_rests_in_the_edges_files(
    edge: SampleEdge, tmp_path: Path
) -> None:
    data = bytes(range(256))
    edge.deliver(cat(body=Vector(space=edge_model().space, data=data)))
    edge.take_up()
    assert [file.name for file in tmp_path.glob("spool.db*") if data in file.read_bytes()]
    edge.label(label("person"))
    assert [file.name for file in tmp_path.glob("spool.db*") if data in file.read_bytes()] == []


def test_a_rule_about_a_label_holds_for_what_people_say(tmp_path: Path) -> None:
    rule_ = RuleSettings(
        name="cats-at-home", label="Felis catus", raise_={Kind.RESULT: Privacy.EDGE_PRIVATE}, reason="ours"
    )
    with sample_edge(tmp_path, settings(tmp_path, rules=(rule_,))) as edge:
        edge.deliver(cat())
        edge.label(label("Canis lupus"))
        edge.label(label("Felis catus"))
        assert edge.take_results()[-1].privacy is Privacy.EDGE_PRIVATE
        assert edge.take_up() == []
        assert edge.store.labels.feature(event_id()) is not None, "the edge may still learn from it"


# --- who learns --------------------------------------------------------------------------------------------------


def test_listeners_hear_of_each_change_with_the_feature_and_of_what_is_to_be_forgotten(
    edge: SampleEdge,
) -> None:
    heard: list[LabelledEvent] = []
    edge.labels.subscribe(heard.append)
    seen(edge)
    for given in (
        label("Felis catus"),
        label("Felis catus"),
        label("Canis lupus", by="ben"),
        label("person"),
    ):
        edge.label(given)
    assert [(each.label, each.by) for each in heard] == [
        ("Felis catus", "ann"),
        ("animal", "ben"),
        (None, ""),
    ]
    first, _, last = heard
    assert (first.vector, first.space, first.path) == (cat_vector(), edge_model().space, CAT)
    assert (first.source, first.sighting, first.levels.feature) == (SOURCE, event_id(), Privacy.PUBLIC)
    assert last.vector == cat_vector()
    assert last.levels.feature is Privacy.USER_PRIVATE


def test_a_listener_that_fails_undoes_nothing_and_keeps_nobody_from_hearing(edge: SampleEdge) -> None:
    heard: list[LabelledEvent] = []

    def fail(sent: LabelledEvent) -> None:
        raise RuntimeError(sent.event)

    edge.labels.subscribe(fail)
    edge.labels.subscribe(heard.append)
    seen(edge)
    edge.label(label("Felis catus"))
    sent = edge.take()
    assert (refusals(sent), len(acks(sent)), len(heard)) == ([], 1, 1)


@pytest.mark.slow
def test_of_one_event_the_words_of_so_many_persons_are_kept(edge: SampleEdge) -> None:
    seen(edge)
    for number in range(PERSONS_MAX):
        edge.label(label("Felidae", by=f"p{number}"))
    edge.take()
    edge.label(label("Felidae", by="one more"))
    edge.label(label("Felis catus", by="p0"))
    sent = edge.take()
    assert refusals(sent) == ["too-many-persons"]
    assert results(sent)[-1].path == CAT


def test_all_labelled_events_are_found_again_after_a_restart(tmp_path: Path) -> None:
    with sample_edge(tmp_path) as edge:
        seen(edge, cat(1), cat(2), cat(3), still(4))
        edge.label(label("Canis lupus", number=2, at_s=NOW_S - 1))
        edge.label(label("Felis catus", number=1, at_s=NOW_S - 2))
        edge.label(label("Felis catus", number=3))
        edge.label(label(None, number=3))
        edge.label(label("Felis catus", number=4))
    with sample_edge(tmp_path) as edge:
        found = list(edge.store.labels.all_labelled())
        assert [(each.event, each.label) for each in found] == [
            (event_id(1), "Felis catus"),
            (event_id(2), "Canis lupus"),
        ]
        for number in (1, 2, 3):
            assert edge.store.labels.feature(event_id(number)) is not None
