"""Labels at the edge: what is taken, what is told, what goes up, and what is refused."""

from __future__ import annotations

import functools
import hashlib
import itertools
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sample_edge import SampleEdge, sample_edge
from sample_messages import (
    NOW_S,
    OPEN,
    SOURCE,
    cloud_eye,
    edge_eye,
    event,
    event_id,
    photo,
    result,
    settings,
)

from agents.cloud import species_answer
from agents.edge_labels import EARLY_S
from agents.edge_store import DAY_S, SITE
from agents.gateway import check_site
from agents.labels import LABEL_MAX_BYTES, LABELLED, LabelledEvent, agreed
from models.taxonomy import load_taxonomy
from pipeline import clock, messages, topics
from pipeline.errors import Rejected
from pipeline.messages import (
    Ack,
    Envelope,
    Event,
    Feature,
    Kind,
    Label,
    Levels,
    Privacy,
    Rank,
    Refusal,
    Result,
    Task,
    Tier,
    UplinkBatch,
    Vector,
    Vote,
)
from pipeline.mqtt import Message
from pipeline.privacy import gate
from pipeline.privacy.seal import pseudonym
from pipeline.records import to_record
from pipeline.settings import RuleSettings
from pipeline.stream.router import route

CAT = ("animal", "Felidae", "Felis catus")
WOLF = ("animal", "Canidae", "Canis lupus")
TOPIC = topics.label("home", "cam1")


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[SampleEdge]:
    with sample_edge(tmp_path) as opened:
        yield opened


@functools.cache
def cat_vector() -> bytes:
    return edge_eye().see(photo("chelsea.png")).vector.tobytes()


def cat(number: int = 1, **changes: Any) -> Event:
    told = result(event_id(number), sighting=event_id(1))
    fields: dict[str, Any] = {"sequence": number, "body": Vector(space=edge_eye().space, data=cat_vector())}
    return event(told, **(fields | changes))


def still(number: int = 1) -> Event:
    """An event that the device answers alone."""
    return event(result(event_id(number), sighting=event_id(number), pending=None, rule="nothing-moved"))


def label(
    text: str | None, by: str = "ann", number: int = 1, at_s: float | None = None, **more: str
) -> Label:
    time = clock.rfc3339(at_s) if at_s is not None else ""
    return Label(event=event_id(number), label=text, by=by, time=time, **more)


def seen(edge: SampleEdge, *events: Event) -> Result:
    """Events answered, and all of it out of the way; the last answer."""
    edge.deliver(*(events or (cat(),)))
    edge.take_up()
    return edge.take_results()[-1]


def refusals(told: list[msgspec.Struct]) -> list[str]:
    return [each.reason for each in told if isinstance(each, Refusal)]


def acks(told: list[msgspec.Struct]) -> list[Ack]:
    return [each for each in told if isinstance(each, Ack)]


def results(told: list[msgspec.Struct]) -> list[Result]:
    return [each for each in told if isinstance(each, Result)]


def answer_of_cloud(envelope: Envelope) -> Result:
    return species_answer(cloud_eye(), load_taxonomy(), envelope, NOW_S, lambda: NOW_S + 0.001)


# --- what users see --------------------------------------------------------------------------------------------


def test_a_label_corrects_the_answer_in_place_and_is_acknowledged(edge: SampleEdge) -> None:
    family = seen(edge)
    given = label("Canis lupus")
    edge.label(given)
    told = edge.take()
    (answer,) = results(told)
    assert (answer.tier, answer.revision, answer.pending) == (Tier.EDGE, family.revision + 1, None)
    assert (answer.path, answer.rank, answer.probability) == (WOLF, Rank.SPECIES, 1.0)
    assert (answer.rule, answer.reason, answer.model) == (LABELLED, "labelled by ann", family.model)
    (ack,) = acks(told)
    assert (ack.ids, ack.topic) == ((event_id(),), TOPIC)
    assert ack.sha256 == hashlib.sha256(messages.encode(given)).hexdigest()


def test_the_sighting_follows_the_label(edge: SampleEdge) -> None:
    seen(edge)
    edge.label(label("Canis lupus"))
    assert [report.path for report in edge.take_reports()] == [WOLF]
    edge.clock.turn(1000)
    edge.sightings.close_quiet(edge.clock.now(), edge.spool)
    (closed,) = edge.take_reports()
    assert (closed.path, closed.closed) == (WOLF, True)


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
    told = edge.take()
    assert (results(told), len(acks(told)), edge.take_up()) == ([], 1, [])


def test_the_last_word_by_the_same_person_counts_in_whatever_order_they_come(edge: SampleEdge) -> None:
    seen(edge)
    edge.label(label("Canis lupus", at_s=NOW_S - 5))
    edge.label(label("Felidae", at_s=NOW_S - 9))
    edge.label(label("Felis catus", at_s=NOW_S - 2))
    assert [told.path for told in edge.take_results()] == [WOLF, CAT]
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
    assert (most.path, most.reason) == (CAT, "labelled by ann, cid; ben says Canis lupus")
    said = {word.by: word.label for word in edge.store.labels.standing(event_id())}
    assert said == {"ann": "Felis catus", "ben": "Canis lupus", "cid": "Felidae"}


def test_who_gives_no_name_is_one_person(edge: SampleEdge) -> None:
    seen(edge)
    edge.label(label("Felidae", by=""))
    edge.label(label("Felis catus", by=" "))
    assert [told.reason for told in edge.take_results()] == ["labelled by anonymous"] * 2


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
    assert [(told.tier, told.revision, told.path) for told in (labelled, again)] == [
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
    (told,) = edge.take_results()
    assert (told.path, told.rule, told.revision) == (WOLF, LABELLED, 4)
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
def test_a_label_that_cannot_be_taken_is_refused_with_its_reason(
    edge: SampleEdge, payload: bytes, reason: str
) -> None:
    seen(edge)
    edge.clock.turn(EARLY_S + 1)
    edge.deliver_raw(Message(TOPIC, payload, False))
    told = edge.take()
    assert refusals(told) == [reason]
    assert (results(told), acks(told)) == ([], [])
    assert edge.store.labels.standing(event_id()) == ()
    edge.label(label("Felis catus"))
    assert edge.take_results()[-1].path == CAT, "the next one is taken"


def test_a_refusal_names_the_nearest_label_and_repeats_no_persons_words(edge: SampleEdge) -> None:
    seen(edge)
    edge.label(label("Felis cattus"))
    (told,) = [each for each in edge.take() if isinstance(each, Refusal)]
    assert "Felis catus" in told.detail


def test_a_retained_label_is_refused(edge: SampleEdge) -> None:
    seen(edge)
    edge.label(label("Felis catus"), retain=True)
    assert refusals(edge.take()) == ["retained"]


def test_a_label_under_another_device_is_refused(edge: SampleEdge) -> None:
    seen(edge)
    edge.label(label("Felis catus"), device="cam2")
    assert refusals(edge.take()) == ["other-source"]


def test_what_is_no_frame_has_no_label(edge: SampleEdge) -> None:
    hour = result(
        event_id(1), sighting=None, task=Task.METER, tier=Tier.CLOUD, rank=Rank.PATTERN, path=("usual",)
    )
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
    assert [told.path for told in edge.take_results()] == [("animal", "Felidae"), WOLF]
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


# --- species that the tree lacks --------------------------------------------------------------------------------


def test_a_new_species_is_taken_under_its_family_and_known_from_then_on(edge: SampleEdge) -> None:
    seen(edge, cat(1), cat(2), cat(3))
    edge.label(label("Cryptoprocta ferox", under="animal/Eupleridae", english="fossa"))
    edge.label(label("FOSSA", number=2, by="ben"))
    edge.label(label("Cryptoprocta ferox", number=3, under="Felidae"))
    told = edge.take()
    assert [answer.path for answer in results(told)] == [("animal", "Eupleridae", "Cryptoprocta ferox")] * 2
    assert refusals(told) == ["under-conflict"]
    votes = [messages.decode(Vote, up.payload) for up in edge.take_up() if up.kind is Kind.LABEL]
    assert {(vote.label, vote.under, vote.english) for vote in votes} == {
        ("Cryptoprocta ferox", "animal/Eupleridae", "fossa")
    }


def test_who_brought_a_species_may_put_right_where_it_belongs(edge: SampleEdge) -> None:
    seen(edge)
    edge.label(label("Cryptoprocta ferox", under="Felidae"))
    edge.label(label("Cryptoprocta ferox", under="animal/Eupleridae"))
    assert edge.take_results()[-1].path == ("animal", "Eupleridae", "Cryptoprocta ferox")


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
    odd = msgspec.structs.replace(up[1], payload=b"no vote")
    with pytest.raises(Rejected, match="its label cannot be read"):
        check_site(odd, "home", "home")


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


def test_a_feature_that_stays_on_its_device_does_not_rest_at_the_edge(
    edge: SampleEdge, tmp_path: Path
) -> None:
    edge.deliver(cat(1, levels=msgspec.structs.replace(OPEN, feature=Privacy.USER_PRIVATE)))
    assert edge.store.labels.feature(event_id(1)) is None
    edge.deliver(cat(2))
    kept = edge.store.labels.feature(event_id(2))
    assert kept is not None
    assert (kept.vector, kept.space, kept.source) == (cat_vector(), edge_eye().space, SOURCE)
    assert (kept.levels.feature, kept.levels.result) == (OPEN.feature, OPEN.result)


def test_a_person_who_was_missed_raises_the_levels_and_nothing_more_goes_up(
    edge: SampleEdge, tmp_path: Path
) -> None:
    edge.deliver(cat())
    edge.label(label("Felis catus", by="ben"))
    edge.label(label("person"))
    edge.label(label("person", by="ben"))
    answers = edge.take_results()
    assert answers[-1].path == ("person",)
    assert [told.privacy for told in answers[2:]] == [Privacy.EDGE_PRIVATE] * len(answers[2:])
    assert edge.take_up() == [], "what had not left does not leave"
    assert edge.store.labels.feature(event_id()) is None
    edge.label(label(None))
    edge.label(label("Felis catus", by="ben"))
    assert edge.take_up() == []
    assert edge.take_results()[-1].privacy is Privacy.EDGE_PRIVATE
    edge.deliver(cat(2))
    with closing(sqlite3.connect(tmp_path / "spool.db")) as db:
        assert db.execute("SELECT count(*) FROM edge_features").fetchone() == (1,)


def test_of_a_feature_that_a_label_made_private_no_byte_rests_in_the_edges_files(
    edge: SampleEdge, tmp_path: Path
) -> None:
    data = bytes(range(256))
    edge.deliver(cat(body=Vector(space=edge_eye().space, data=data)))
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
    edge.labels.listen(heard.append)
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
    assert (first.vector, first.space, first.path) == (cat_vector(), edge_eye().space, CAT)
    assert (first.source, first.sighting, first.levels.feature) == (SOURCE, event_id(), Privacy.PUBLIC)
    assert last.vector == cat_vector()
    assert last.levels.feature is Privacy.USER_PRIVATE


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
        assert [each.event for each in edge.store.labels.features_of(event_id(1))] == sorted(
            event_id(number) for number in (1, 2, 3)
        )


# --- any order, any number -------------------------------------------------------------------------------------

PERSONS = st.sampled_from(["ann", "ben", ""])
WORDS = st.sampled_from([None, "Felis catus", "Felidae", "Canis lupus", "other", "empty", "Felis cattus"])
NUMBERS = st.integers(1, 2)
PATHS = {
    "Felis catus": CAT,
    "Felidae": CAT[:2],
    "Canis lupus": WOLF,
    "other": ("other",),
    "empty": ("other",),
}


class Standing(RuleBasedStateMachine):
    """Persons label two events, in any order of times, again and again, while the cloud answers and time passes; a dict
    by event and person says what stands."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.edge = SampleEdge(Path(self._folder.name))
        self.heard: dict[str, LabelledEvent] = {}
        self.edge.labels.listen(lambda told: self.heard.__setitem__(told.event, told))
        self.edge.deliver(cat(1), cat(2))
        self.features = {up.event: up for up in self.edge.take_up()}
        self.told: dict[str, list[Result]] = {event_id(1): [], event_id(2): []}
        self.votes: dict[str, list[tuple[int, Vote]]] = {event_id(1): [], event_id(2): []}
        self.model: dict[tuple[str, str], tuple[int, str | None]] = {}
        self.sent: list[Label] = []
        self.collect()

    def teardown(self) -> None:
        self.edge.spool.close()
        self._folder.cleanup()

    def collect(self) -> None:
        for told in self.edge.take_results():
            self.told[told.event].append(told)
        for up in self.edge.take_up():
            if up.kind is Kind.LABEL:
                self.votes[up.event].append((up.revision, messages.decode(Vote, up.payload)))

    @rule(by=PERSONS, word=WORDS, number=NUMBERS, at=st.integers(0, 9))
    def somebody_labels(self, by: str, word: str | None, number: int, at: int) -> None:
        self._say(label(word, by=by, number=number, at_s=NOW_S - 60 + at))

    @rule(data=st.data())
    def a_label_comes_again(self, data: st.DataObject) -> None:
        if self.sent:
            self._say(data.draw(st.sampled_from(self.sent)))

    def _say(self, given: Label) -> None:
        self.sent.append(given)
        self.edge.label(given)
        self.collect()
        if given.label is None or given.label in PATHS:
            key, at = (given.event, given.by or "anonymous"), round(clock.seconds(given.time))
            if key not in self.model or at >= self.model[key][0]:
                self.model[key] = (at, PATHS[given.label][-1] if given.label else None)

    @rule(number=NUMBERS)
    def cloud_answers(self, number: int) -> None:
        if event_id(number) in self.features:
            self.edge.deliver_answers(answer_of_cloud(self.features[event_id(number)]))
            self.collect()

    @rule()
    def time_passes(self) -> None:
        self.edge.wait_for_early(0.5)
        for overdue in self.edge.store.overdue(self.edge.clock.now() + 1000):
            self.edge.answers.expire(overdue)
        self.collect()

    def standing(self, event_: str) -> dict[str, str]:
        return {by: word for (of, by), (_, word) in self.model.items() if of == event_ and word is not None}

    @invariant()
    def what_stands_is_what_the_model_says(self) -> None:
        for event_ in self.told:
            words = self.edge.store.labels.standing(event_)
            assert {word.by: word.label for word in words} == self.standing(event_)

    @invariant()
    def what_is_told_is_what_they_agree_on_or_the_models_answer(self) -> None:
        for event_, told in self.told.items():
            path = agreed([PATHS[word] for word in self.standing(event_).values()])
            assert (told[-1].rule == LABELLED) == bool(path)
            assert not path or told[-1].path == path
            assert path or told[-1].path[:2] == ("animal", "Felidae")

    @invariant()
    def revisions_strictly_increase(self) -> None:
        for told in self.told.values():
            assert all(one.revision < other.revision for one, other in itertools.pairwise(told))
        for votes in self.votes.values():
            assert [revision for revision, _ in votes] == list(range(1, len(votes) + 1))

    @invariant()
    def the_votes_that_went_up_lead_to_the_same_words(self) -> None:
        key = self.edge.keyring.site
        assert key is not None
        for event_, votes in self.votes.items():
            last = {vote.by: vote.label for _, vote in votes}
            assert {by: word for by, word in last.items() if word is not None} == {
                pseudonym(key, by): word for by, word in self.standing(event_).items()
            }

    @invariant()
    def who_learns_was_told_the_same(self) -> None:
        for event_ in self.told:
            path = agreed([PATHS[word] for word in self.standing(event_).values()])
            heard = self.heard.get(event_)
            assert (heard.path if heard else ()) == path


TestStanding = Standing.TestCase
TestStanding.settings = hypothesis_settings(max_examples=20, stateful_step_count=15, deadline=None)


def test_labels_leave_over_the_sites_hop_as_json_that_people_read(edge: SampleEdge) -> None:
    seen(edge)
    edge.label(label("Felis catus"))
    waiting = edge.spool.outgoing(SITE, 10, edge.clock.now())
    assert topics.ack("home", "cam1") in [record.topic for record in waiting]
