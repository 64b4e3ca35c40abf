"""Revisions at the edge: each answer supersedes the one before, in whatever order and number the messages come."""

from __future__ import annotations

import functools
import itertools
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sample_edge import SampleEdge, sample_edge
from sample_messages import (
    NOW_S,
    OPEN,
    SOURCE,
    cloud_model,
    edge_model,
    event,
    event_id,
    photo,
    result,
    settings,
)

from agents.edge.room_windows import Hour
from agents.edge.store import DAY_S
from models.answering.cloud import species_answer
from models.answering.edge import WITHDRAWN
from models.answering.model_source import FixedModel
from models.vision import images
from pipeline import clock, messages, topics
from pipeline.clock import hour_of
from pipeline.messages import (
    Crop,
    Envelope,
    Event,
    Feature,
    Kind,
    Levels,
    Privacy,
    Rank,
    Refusal,
    Result,
    SightingReport,
    Task,
    Tier,
    Vector,
)
from pipeline.privacy.seal import build_private, unseal
from pipeline.settings.settings import RuleSettings, Settings, StreamSettings, UplinkSettings


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[SampleEdge]:
    with sample_edge(tmp_path) as opened:
        yield opened


@functools.cache
def cat_vector() -> bytes:
    return edge_model().predict(photo("chelsea.png")).vector.tobytes()


def cat(number: int = 1, **changes: object) -> Event:
    """A device's event about a cat, its vector made on the device."""
    answer = result(event_id(number), sighting=event_id(1))
    fields: dict[str, object] = {
        "sequence": number,
        "body": Vector(space=edge_model().space, data=cat_vector()),
    }
    return event(answer, **(fields | changes))


def gave_up(sent: Event) -> Event:
    """The device's notice that the edge did not answer in time."""
    answer = msgspec.structs.replace(sent.result, revision=2, pending=None, rule="deadline", reason="edge out of reach")
    return msgspec.structs.replace(sent, result=answer, body=None)


def answer_of_cloud(envelope: Envelope) -> Result:
    return species_answer(FixedModel(cloud_model()), envelope, NOW_S, lambda: NOW_S + 0.001).result


# --- the way of one event --------------------------------------------------------------------------------------


def test_device_edge_and_cloud_answer_under_one_event_one_deeper_than_the_other(edge: SampleEdge) -> None:
    edge.deliver(cat())
    (family,) = edge.take_results()
    assert (family.tier, family.revision, family.pending) == (Tier.EDGE, 2, Tier.CLOUD)
    assert (family.path, family.rule) == (("animal", "Felidae"), "wants-species")
    (envelope,) = edge.take_up()
    assert (envelope.privacy, envelope.kind, envelope.key) == (Privacy.PUBLIC, Kind.FEATURE, "home/cam1")
    assert len(messages.encode(envelope)) < 600
    edge.deliver_answers(answer_of_cloud(envelope))
    (species,) = edge.take_results()
    assert (species.tier, species.revision, species.pending) == (Tier.CLOUD, 3, None)
    assert species.path[:2] == family.path
    assert species.event == family.event == event_id(1)
    assert species.sighting == family.sighting == event_id(1)


def test_where_the_cloud_does_not_answer_the_edge_says_so_and_a_late_answer_still_supersedes(
    edge: SampleEdge,
) -> None:
    edge.deliver(cat())
    (family,) = edge.take_results()
    (envelope,) = edge.take_up()
    edge.pass_deadlines()
    (said,) = edge.take_results()
    assert (said.tier, said.revision, said.pending, said.rule) == (Tier.EDGE, 3, None, "deadline")
    assert "cloud out of reach" in said.reason
    assert said.path == family.path
    edge.pass_deadlines()
    assert edge.take_results() == []
    edge.deliver_answers(answer_of_cloud(envelope))
    (species,) = edge.take_results()
    assert (species.tier, species.revision, species.pending) == (Tier.CLOUD, 4, None)


def test_an_edge_that_was_away_answers_above_the_devices_notice(edge: SampleEdge) -> None:
    edge.deliver(cat(), gave_up(cat()))
    revisions = [answer.revision for answer in edge.take_results()]
    assert revisions == sorted(set(revisions))
    assert revisions[-1] == 3
    edge.deliver(gave_up(cat()))
    assert edge.take_results() == []


def test_the_notice_may_come_before_its_event(edge: SampleEdge) -> None:
    edge.deliver(gave_up(cat()))
    assert edge.take_results() == []
    edge.deliver(cat())
    (family,) = edge.take_results()
    assert (family.revision, family.tier) == (3, Tier.EDGE)


def test_the_cloud_is_asked_once_a_sighting(edge: SampleEdge) -> None:
    edge.deliver(cat(1), cat(2), cat(3))
    rules = [answer.rule for answer in edge.take_results()]
    assert rules == ["wants-species", "already-asked", "already-asked"]
    assert [envelope.event for envelope in edge.take_up()] == [event_id(1)]


def test_a_cloud_that_will_not_guess_leaves_what_the_edge_knew(edge: SampleEdge) -> None:
    edge.deliver(cat())
    (family,) = edge.take_results()
    (envelope,) = edge.take_up()
    shallow = msgspec.structs.replace(
        answer_of_cloud(envelope), path=("animal",), rank=Rank.KINGDOM, label="animal", probability=0.5
    )
    edge.deliver_answers(shallow)
    (published,) = edge.take_results()
    assert (published.tier, published.path, published.rank, published.label) == (
        Tier.CLOUD,
        family.path,
        Rank.FAMILY,
        "Felidae",
    )
    assert published.probability == family.probability


def test_an_answer_never_becomes_more_public_than_the_one_before(edge: SampleEdge) -> None:
    edge.deliver(cat())
    edge.take()
    (envelope,) = edge.take_up()
    with edge.spool.transaction() as tx:
        known = edge.store.answer_in(event_id(1), tx)
        assert known is not None
        raised = msgspec.structs.replace(known.result, privacy=Privacy.EDGE_PRIVATE)
        edge.store.keep(raised, known.context, tx)
    edge.deliver_answers(answer_of_cloud(envelope))
    assert [answer.privacy for answer in edge.take_results()] == [Privacy.EDGE_PRIVATE]


def pattern(**changes: Any) -> Result:
    """What the cloud says of an hour of a meter."""
    fields: dict[str, Any] = {
        "event": event_id(5),
        "stream": "power",
        "device": "meter",
        "sighting": None,
        "task": Task.METER,
        "tier": Tier.CLOUD,
        "pending": None,
        "rank": Rank.PATTERN,
        "label": "usual",
        "path": ("usual",),
        "reason": "mean 210 W",
        "model": "hour-of-week@1",
        "value": 210.0,
        "unit": "W",
    }
    return result(**(fields | changes))


def metered(folder: Path, **levels: Privacy) -> Settings:
    """A meter whose hours are public."""
    open_ = {"result": Privacy.PUBLIC, "reading": Privacy.EDGE_PRIVATE, "summary": Privacy.PUBLIC}
    meter = StreamSettings(task=Task.METER, reason="as in the starter settings", **(open_ | levels))  # type: ignore[arg-type]
    return settings(folder, streams={"home/meter/power": meter})


def test_an_hours_pattern_from_the_cloud_is_published_once_and_again_when_it_is_revised(
    tmp_path: Path,
) -> None:
    with sample_edge(tmp_path, metered(tmp_path)) as edge:
        edge.deliver_answers(pattern(), pattern())
        assert edge.take_results() == [pattern()]
        edge.deliver_answers(pattern(revision=2, reason="mean 220 W", path=("unusual",), label="unusual"))
        (published,) = edge.take_results()
        assert (published.revision, published.label) == (2, "unusual")


def test_what_the_cloud_said_before_does_not_supersede_what_it_says_now(tmp_path: Path) -> None:
    with sample_edge(tmp_path, metered(tmp_path)) as edge:
        edge.deliver_answers(pattern(), pattern(revision=2, path=("unusual",), label="unusual"))
        edge.take()
        edge.deliver_answers(pattern(), pattern(reason="told anew, of the first revision"))
        assert edge.take_results() == []
        known = edge.store.answer(event_id(5))
        assert known is not None
        assert (known.result.label, known.result.revision) == ("unusual", 2)


def test_of_one_revision_each_model_of_the_cloud_is_heard_once(tmp_path: Path) -> None:
    with sample_edge(tmp_path, metered(tmp_path)) as edge:
        newer = pattern(model="hour-of-week@2", path=("unusual",), label="unusual")
        edge.deliver_answers(pattern(), newer, pattern(), newer)
        assert [answer.label for answer in edge.take_results()] == ["usual", "unusual"]


@pytest.mark.parametrize(
    ("named", "privacy", "value"),
    [
        ({}, Privacy.PUBLIC, 210.0),
        ({"result": Privacy.EDGE_PRIVATE}, Privacy.EDGE_PRIVATE, 210.0),
        ({"result": Privacy.USER_PRIVATE}, Privacy.USER_PRIVATE, 210.0),
        ({"summary": Privacy.EDGE_PRIVATE}, Privacy.PUBLIC, None),
    ],
)
def test_an_hours_pattern_is_as_private_as_its_stream_says_and_its_mean_as_an_hour(
    tmp_path: Path, named: dict[str, Privacy], privacy: Privacy, value: float | None
) -> None:
    with sample_edge(tmp_path, metered(tmp_path, **named)) as edge:
        edge.deliver_answers(pattern())
        (published,) = edge.take_results()
        assert (published.privacy, published.value) == (privacy, value)


def test_of_a_stream_that_only_its_device_knows_an_hours_pattern_has_the_hours_levels(
    edge: SampleEdge,
) -> None:
    start_s = hour_of(NOW_S)
    hour = Hour(start_s, "W", count=2, total=420.0, low=200.0, high=220.0)
    with edge.spool.transaction() as tx:
        edge.store.rooms.keep_hour("home/meter/power", hour, OPEN, tx, changed=False)
    edge.deliver_answers(pattern(time=clock.rfc3339(start_s)))
    edge.deliver_answers(pattern(event=event_id(6), stream="water", time=clock.rfc3339(start_s)))
    known, unknown = edge.take_results()
    assert (known.privacy, known.value) == (Privacy.PUBLIC, 210.0)
    assert (unknown.privacy, unknown.value) == (Privacy.EDGE_PRIVATE, None)


def test_what_the_cloud_says_of_an_event_that_is_forgotten_here_is_not_told_again(tmp_path: Path) -> None:
    with sample_edge(tmp_path, metered(tmp_path)) as edge:
        kept_s = edge.settings.edge.keep_days * DAY_S
        edge.deliver_answers(pattern(), pattern(event=event_id(6), revision=4))
        assert len(edge.take_results()) == 2
        edge.clock.turn(kept_s + 1)
        edge.deliver_answers(pattern(revision=2))
        assert len(edge.take_results()) == 1, "it is still known here"
        edge.store.forget(edge.clock.now() + 1 - kept_s)
        edge.deliver_answers(pattern(event=event_id(6), revision=3))
        assert edge.take_results() == []


def test_a_rule_about_a_label_holds_also_where_the_cloud_finds_it(tmp_path: Path) -> None:
    rule_ = RuleSettings(
        name="cats-at-home", label="Felis catus", raise_={Kind.RESULT: Privacy.EDGE_PRIVATE}, reason="ours"
    )
    with sample_edge(tmp_path, settings(tmp_path, rules=(rule_,))) as edge:
        edge.deliver(cat())
        (envelope,) = edge.take_up()
        cats = ("animal", "Felidae", "Felis catus")
        edge.take()
        edge.deliver_answers(
            msgspec.structs.replace(
                answer_of_cloud(envelope), path=cats, label=cats[-1], rank=Rank.SPECIES, probability=0.9
            )
        )
        sent = edge.take()
        assert [each.privacy for each in sent if isinstance(each, Result | SightingReport)] == [
            Privacy.EDGE_PRIVATE,
            Privacy.EDGE_PRIVATE,
        ]
        edge.clock.turn(1000)
        edge.sightings.close_quiet(edge.clock.now())
        assert [report.closed for report in edge.take_reports()] == [True]
        assert edge.take_up() == []


def test_a_question_that_went_unanswered_is_asked_again_with_the_sightings_next_frame(
    edge: SampleEdge,
) -> None:
    edge.deliver(cat(1))
    assert [envelope.event for envelope in edge.take_up()] == [event_id(1)]
    edge.pass_deadlines()
    edge.deliver(cat(2), cat(3))
    assert [envelope.event for envelope in edge.take_up()] == [event_id(2)]


def test_a_question_that_waits_for_its_link_is_not_asked_again(edge: SampleEdge) -> None:
    edge.deliver(cat(1))
    edge.pass_deadlines()
    edge.deliver(cat(2))
    assert [envelope.event for envelope in edge.take_up()] == [event_id(1)]


def test_a_late_answer_is_an_answer_for_the_sighting_too(edge: SampleEdge) -> None:
    edge.deliver(cat(1))
    (envelope,) = edge.take_up()
    edge.pass_deadlines()
    edge.deliver_answers(answer_of_cloud(envelope))
    edge.deliver(cat(2))
    assert edge.take_up() == []


def test_a_question_that_the_cloud_refused_is_asked_again_with_the_sightings_next_frame(
    edge: SampleEdge,
) -> None:
    edge.deliver(cat(1))
    (envelope,) = edge.take_up()
    ack = messages.UplinkAck(ids=(), refused=(envelope.id,))
    edge.deliver_uplink(topics.uplink_ack("home"), messages.encode(ack))
    edge.deliver(cat(2))
    assert [again.event for again in edge.take_up()] == [event_id(2)]


# --- what does not go on ---------------------------------------------------------------------------------------


def test_a_person_found_at_the_edge_is_withdrawn_and_nothing_goes_up(edge: SampleEdge) -> None:
    crop = Crop(jpeg=images.encode_jpeg(photo("astronaut.png")), box=(0, 0, 1, 1))
    edge.deliver(cat(body=crop))
    (published,) = edge.take_results()
    assert (published.rule, published.pending, published.privacy) == (WITHDRAWN, None, Privacy.EDGE_PRIVATE)
    assert edge.take_up() == []
    known = edge.store.answer(event_id(1))
    assert known is not None
    assert known.context.levels.pixels is known.context.levels.feature is Privacy.USER_PRIVATE
    assert edge.spool.query("SELECT count(*) FROM inbox WHERE payload IS NOT NULL") == [(0,)]


def test_of_a_withdrawn_crop_no_byte_rests_in_the_edges_files(edge: SampleEdge, tmp_path: Path) -> None:
    jpeg = images.encode_jpeg(photo("astronaut.png"))
    middle = jpeg[len(jpeg) // 2 :][:48]
    edge.deliver(cat(body=Crop(jpeg=jpeg, box=(0, 0, 1, 1))))
    assert [answer.rule for answer in edge.take_results()] == [WITHDRAWN]
    assert [file.name for file in tmp_path.glob("spool.db*") if middle in file.read_bytes()] == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (Crop(jpeg=b"no picture", box=(0, 0, 1, 1)), "image-unknown-format"),
        (Vector(space="of another release", data=bytes(256)), "other-space"),
    ],
)
def test_a_body_that_cannot_be_answered_is_refused_and_holds_up_nothing(
    edge: SampleEdge, body: Crop | Vector, reason: str
) -> None:
    edge.deliver(cat(1, body=body), cat(2))
    sent = edge.take()
    assert [each.reason for each in sent if isinstance(each, Refusal)] == [reason]
    assert [each.event for each in sent if isinstance(each, Result)] == [event_id(2)]


def test_a_feature_of_the_site_leaves_sealed_and_only_where_the_settings_ask(tmp_path: Path) -> None:
    levels = msgspec.structs.replace(OPEN, feature=Privacy.EDGE_PRIVATE)
    stream = msgspec.structs.replace(settings().streams[SOURCE], feature=Privacy.EDGE_PRIVATE)

    def told(folder: Path, sealed: tuple[Privacy, ...]) -> Settings:
        return settings(folder, uplink=UplinkSettings(sealed=sealed), streams={SOURCE: stream})

    (tmp_path / "closed").mkdir()
    with sample_edge(tmp_path / "closed", told(tmp_path, ())) as closed:
        closed.deliver(cat(levels=levels))
        assert [each.rule for each in closed.take_results()] == ["policy-keeps-feature"]
        assert closed.take_up() == []
    (tmp_path / "sealing").mkdir()
    with sample_edge(tmp_path / "sealing", told(tmp_path, (Privacy.EDGE_PRIVATE,))) as sealing:
        sealing.deliver(cat(levels=levels))
        (envelope,) = sealing.take_up()
        assert envelope.privacy is Privacy.EDGE_PRIVATE
        assert envelope.sealed_by
        feature = messages.decode(Feature, unseal(envelope, sealing.keyring))
        assert feature.path == ("animal", "Felidae")


def test_a_users_own_sealed_record_passes_only_where_the_settings_ask(edge: SampleEdge, tmp_path: Path) -> None:
    assert edge.keyring.user is not None
    envelope = build_private(
        edge.keyring.user, event=event_id(1), kind=Kind.FEATURE, source=SOURCE, time="", payload=b"x"
    )
    person = event(
        result(event_id(1), pending=None, rule="person-in-frame", privacy=Privacy.EDGE_PRIVATE),
        levels=Levels(),
        sealed=(envelope,),
    )
    edge.deliver(person)
    assert edge.take_up() == []
    (tmp_path / "asked").mkdir()
    asked = settings(tmp_path, uplink=UplinkSettings(sealed=(Privacy.USER_PRIVATE,)))
    with sample_edge(tmp_path / "asked", asked) as sealing:
        sealing.deliver(person)
        assert sealing.take_up() == [envelope]


# --- any order, any number -------------------------------------------------------------------------------------

numbers = st.integers(1, 3)


class Revisions(RuleBasedStateMachine):
    """Messages about three frames of one sighting, in any order, any number of times."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.edge = SampleEdge(Path(self._folder.name))
        self.published: dict[str, list[Result]] = defaultdict(list)
        self.features: dict[str, Envelope] = {}
        self.delivered: set[tuple[str, str]] = set()
        self.noticed: dict[str, int] = {}

    def teardown(self) -> None:
        self.edge.spool.close()
        self._folder.cleanup()

    def _collect(self) -> int:
        found = self.edge.take_results()
        for published in found:
            self.published[published.event].append(published)
        for envelope in self.edge.take_up():
            if envelope.kind is Kind.FEATURE:
                self.features[envelope.event] = envelope
        return len(found)

    def _deliver(self, what: str, event_: str, deliver: object) -> None:
        deliver()  # type: ignore[operator]
        count = self._collect()
        if (what, event_) in self.delivered:
            assert count == 0, "a repeat was answered again"
        self.delivered.add((what, event_))

    @rule(number=numbers)
    def device_answers(self, number: int) -> None:
        self._deliver("event", event_id(number), lambda: self.edge.deliver(cat(number)))

    @rule(number=numbers)
    def device_gives_up(self, number: int) -> None:
        self.noticed[event_id(number)] = 2
        self._deliver("notice", event_id(number), lambda: self.edge.deliver(gave_up(cat(number))))

    @precondition(lambda self: self.features)
    @rule(data=st.data())
    def cloud_answers(self, data: st.DataObject) -> None:
        envelope = self.features[data.draw(st.sampled_from(sorted(self.features)))]
        self._deliver("cloud", envelope.event, lambda: self.edge.deliver_answers(answer_of_cloud(envelope)))

    @rule()
    def time_passes(self) -> None:
        self.edge.pass_deadlines()
        self._collect()

    @invariant()
    def revisions_of_an_event_strictly_increase(self) -> None:
        for answers in self.published.values():
            revisions = [each.revision for each in answers]
            assert revisions == sorted(set(revisions))
            assert revisions[0] > 1, "the first is the device's"

    @invariant()
    def the_last_word_is_the_deepest_tiers(self) -> None:
        for event_, answers in self.published.items():
            deepest = Tier.CLOUD if ("cloud", event_) in self.delivered else Tier.EDGE
            assert answers[-1].tier is deepest
            assert answers[-1].revision > self.noticed.get(event_, 1)
            assert max(answers, key=lambda each: each.revision) == answers[-1]

    @invariant()
    def paths_only_deepen(self) -> None:
        for answers in self.published.values():
            assert all(len(earlier.path) <= len(other.path) for earlier, other in itertools.pairwise(answers))

    @invariant()
    def a_sighting_counts_each_frame_once(self) -> None:
        with self.edge.spool.transaction() as tx:
            report = self.edge.store.sightings.report(event_id(1), tx)
        seen = {event_ for what, event_ in self.delivered if what != "cloud"}
        assert (report.frames if report else 0) == len(seen)


TestRevisions = pytest.mark.slow(pytest.mark.slow(Revisions.TestCase))
TestRevisions.settings = hypothesis_settings(max_examples=15, stateful_step_count=12, deadline=None)


def test_an_edge_with_a_full_spool_answers_and_keeps_deadlines_and_takes_events_again_after_the_cloud(
    tmp_path: Path,
) -> None:
    with sample_edge(tmp_path, limit_bytes=1) as edge:
        edge.deliver(cat())
        (family,) = edge.take_results()
        assert (family.tier, family.pending) == (Tier.EDGE, Tier.CLOUD)
        assert edge.spool.full, "the envelope waits for the cloud"
        edge.deliver(cat(2))
        (refusal,) = edge.take()
        assert isinstance(refusal, Refusal)
        assert refusal.reason == "store-full"
        edge.pass_deadlines()
        assert [each.rule for each in edge.take_results()] == ["deadline"]
        edge.take_up()  # the cloud has taken what waited
        edge.deliver(cat(2))
        assert event_id(2) in {each.event for each in edge.take_results()}
