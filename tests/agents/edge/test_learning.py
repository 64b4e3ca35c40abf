"""A site learns by itself: labels change the edge's answers and its name with nothing restarted, and private ones
teach nothing."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sample_edge import SampleEdge, sample_edge
from sample_learning import PATHS, PRIVATE, SampleLearning, feature, general, vector
from sample_messages import (
    CAMERA,
    SOURCE,
    edge_model,
    event,
    event_id,
    photo,
    result,
    settings,
)

from agents.edge.label_store import labelled_event
from agents.edge.store import Context
from models.site_learning.lesson_log import General
from models.vision import images
from pipeline.messages import Event, Label, Levels, Privacy, Rank, Result, Tier, Vector

NEW = ("animal", "Felidae", "Leopardus guigna")
SEEDS = 12


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[SampleEdge]:
    with sample_edge(tmp_path) as opened:
        yield opened


@functools.cache
def view(name: str, seed: int) -> bytes:
    """The vector of a part of a photo: as if a camera saw it again and again."""
    picture, rng = photo(name), np.random.default_rng(seed)
    high, wide = picture.shape[:2]
    top, left = (int(rng.integers(0, size // 6)) for size in (high, wide))
    part = picture[top : top + high * 5 // 6, left : left + wide * 5 // 6]
    return edge_model().predict(images.decode(images.encode_jpeg(part))).vector.tobytes()


def frame(number: int, name: str, seed: int | None = None, **changes: object) -> Event:
    """Each a visit of its own."""
    given = result(event_id(number), sighting=event_id(number), path=("animal",))
    vector = Vector(space=edge_model().space, data=view(name, number % SEEDS if seed is None else seed))
    return event(given, sequence=number, body=vector, **changes)


def answer(edge: SampleEdge, seen: Event) -> Result:
    edge.take_results()
    edge.deliver(seen)
    return edge.take_results()[-1]


def teach(edge: SampleEdge, numbers: range, name: str, label: str, under: str = "") -> None:
    for number in numbers:
        edge.deliver(frame(number, name))
        edge.label(Label(event=event_id(number), label=label, under=under, by="ann"))
        edge.learning.work()


def taught(edge: SampleEdge) -> None:
    """Ten cats that live here and nowhere else, and ten cups."""
    teach(edge, range(100, 110), "chelsea.png", NEW[-1], "Felidae")
    teach(edge, range(200, 210), "coffee.png", "other")


@pytest.mark.slow
def test_labels_change_name_and_answers_with_nothing_restarted(edge: SampleEdge) -> None:
    before = answer(edge, frame(1, "chelsea.png", 50))
    assert (before.model, before.path[:2]) == (edge_model().name, ("animal", "Felidae"))
    assert before.pending is Tier.CLOUD
    taught(edge)
    after = answer(edge, frame(2, "chelsea.png", 50))
    assert after.model == "lite0@2+home.20" == edge.model
    assert (after.path, after.rank, after.label) == (NEW, Rank.SPECIES, NEW[-1])
    assert (after.rule, after.pending, after.tier) == ("site-knows", None, Tier.EDGE)
    assert edge.learning.state == "lite0@2+home.20: 20 visits of 2 labels"


@pytest.mark.slow
def test_what_was_never_labelled_is_still_named_by_what_the_cloud_knows(edge: SampleEdge) -> None:
    before = answer(edge, frame(1, "rocket.jpg", 50))
    teach(edge, range(100, 110), "chelsea.png", NEW[-1], "Felidae")
    after = answer(edge, frame(2, "rocket.jpg", 50))
    assert after.path == before.path
    assert after.path[:2] != NEW[:2]


@pytest.mark.slow
def test_the_cloud_refines_what_the_site_is_sure_of_and_does_not_overrule_it(edge: SampleEdge) -> None:
    teach(edge, range(100, 112), "chelsea.png", "Felidae")
    teach(edge, range(200, 212), "coffee.png", "other")
    for number, path, stands in (
        (1, ("animal", "Felidae", "Lynx lynx"), ("animal", "Felidae", "Lynx lynx")),
        (2, ("animal", "Canidae", "Canis lupus"), ("animal", "Felidae")),
        (3, ("animal",), ("animal", "Felidae")),
    ):
        given = answer(edge, frame(number, "chelsea.png", 50))
        assert (given.path, given.pending) == (("animal", "Felidae"), Tier.CLOUD), "species is wanted"
        known = edge.store.answer(given.event)
        assert known is not None
        assert known.context.known_here == ("animal", "Felidae")
        cloud = result(
            given.event,
            tier=Tier.CLOUD,
            revision=given.revision + 1,
            pending=None,
            path=path,
            label=path[-1],
            probability=0.9,
            rule="species-named",
            model="lite0@2",
        )
        edge.deliver_answers(cloud)
        last = edge.take_results()[-1]
        assert (last.path, last.pending, last.revision) == (stands, None, given.revision + 1)
    assert answer_rule(edge, 2) == ("site-knows", Tier.EDGE)


def answer_rule(edge: SampleEdge, number: int) -> tuple[str, Tier]:
    known = edge.store.answer(event_id(number))
    assert known is not None
    return known.result.rule, known.result.tier


@pytest.mark.slow
def test_a_start_serves_what_was_learned_and_finds_labels_that_were_not(tmp_path: Path) -> None:
    with sample_edge(tmp_path) as edge:
        taught(edge)
        given = answer(edge, frame(2, "chelsea.png", 50))
        edge.deliver(frame(110, "chelsea.png"))
        edge.label(Label(event=event_id(110), label=NEW[-1], by="ann"))
        # Killed here: the label is committed, and not learned.
    with sample_edge(tmp_path) as edge:
        assert edge.model == "lite0@2+home.21"
        again = answer(edge, frame(3, "chelsea.png", 50))
        assert (again.path, again.rule) == (given.path, given.rule)
    with sample_edge(tmp_path) as edge:
        assert edge.model == "lite0@2+home.21", "nothing is learned twice"


@pytest.mark.slow
def test_a_label_that_is_taken_back_or_changed_is_taken_out(edge: SampleEdge) -> None:
    taught(edge)
    before = {lesson.event for lesson in edge.store.learning.lessons(edge_model().space)}
    edge.label(Label(event=event_id(100), label=None, by="ann"))
    edge.label(Label(event=event_id(101), label="other", by="ann"))
    edge.learning.work()
    after = {lesson.event: lesson.path for lesson in edge.store.learning.lessons(edge_model().space)}
    assert before - after.keys() == {event_id(100)}
    assert after[event_id(101)] == ("other",)


@pytest.mark.slow
def test_a_person_in_the_picture_teaches_nothing_and_is_forgotten_at_once(tmp_path: Path) -> None:
    with sample_edge(tmp_path) as edge:
        taught(edge)
        edge.label(Label(event=event_id(100), label="person", by="ann"))
        # Killed here: its label was learned, and that it is a person's picture was not heard.
    with sample_edge(tmp_path) as edge:
        lessons = edge.store.learning.lessons(edge_model().space)
        assert event_id(100) not in {lesson.event for lesson in lessons}
        assert edge.learning._learning.local.everything.events == 19


@pytest.mark.parametrize("level", list(Privacy))
def test_only_what_the_edge_may_see_teaches_it(tmp_path: Path, level: Privacy) -> None:
    camera = msgspec.structs.replace(CAMERA, feature=level, result=Privacy.EDGE_PRIVATE)
    configured = settings(tmp_path, streams={SOURCE: camera})
    levels = Levels(Privacy.EDGE_PRIVATE, level, Privacy.EDGE_PRIVATE)
    with sample_edge(tmp_path, configured) as edge:
        edge.deliver(frame(1, "chelsea.png", levels=levels))
        edge.label(Label(event=event_id(1), label="Felis catus", by="ann"))
        edge.learning.work()
        learned = edge.model != edge_model().name
        assert learned == (level is not Privacy.USER_PRIVATE)
        kept = edge.spool.query("SELECT count(*) FROM edge_lessons WHERE vector = ?", (view("chelsea.png", 1),))
        assert kept == [(int(learned),)]


@pytest.mark.slow
def test_a_release_is_transferred_and_answers_wait_for_nothing(edge: SampleEdge) -> None:
    taught(edge)
    model = edge_model()
    edge.learning.on_model(renamed(General.of(model), name="lite0@3"))
    edge.learning.work()
    assert edge.learning.state.startswith("lite0@3+home.21: 20 visits")
    # The general model here is still the old version: it answers, without the head of another model.
    assert answer(edge, frame(2, "chelsea.png", 50)).model == model.name


def renamed(general: General, *, name: str) -> General:
    return General(name, general.space, general.tree, general.dimension, general.predict)


@pytest.mark.slow
def test_wrong_labels_are_refused_and_that_is_said(tmp_path: Path) -> None:
    sample = SampleLearning(tmp_path)
    sample.learning.open()
    for number in range(60):
        sample.label(feature(f"e{number}", vector(number % 3, number).tobytes()), PATHS[number % 3])
    for number in range(100, 140):
        # Foxes that somebody calls cats.
        sample.label(feature(f"e{number}", vector(1, number).tobytes()), PATHS[0])
    sample.learning.work()
    rules = [lesson.rule for lesson in sample.store.learning.lessons("space")]
    assert rules.count("refused") > 25
    assert sample.learning.state.endswith(f"{rules.count('refused')} labels refused")
    counted = sample.metrics.registry.get_sample_value("tierwise_refused_total", {"reason": "label-not-learned"})
    assert counted == rules.count("refused")
    sample.spool.close()


def test_labels_of_another_space_teach_nothing(tmp_path: Path) -> None:
    sample = SampleLearning(tmp_path, general())
    sample.learning.open()
    sample.label(feature("e1", vector(0, 1).tobytes(), space="another"), PATHS[0])
    sample.learning.work()
    assert sample.learning.state == "nothing learned yet"
    sample.spool.close()


def test_learning_goes_on_in_a_thread_of_its_own_and_ends_with_the_edge(tmp_path: Path) -> None:
    sample = SampleLearning(tmp_path)
    sample.learning.start()
    for number in range(5):
        sample.label(feature(f"e{number}", vector(0, number).tobytes()), PATHS[0])
    sample.learning.stop(60)
    sample.spool.close()
    again = SampleLearning(tmp_path)
    again.learning.open()
    again.learning.work()
    assert again.model == "lite0@2+home.5"
    again.spool.close()


def test_a_lesson_of_a_space_that_serves_no_more_is_forgotten_with_its_persons(tmp_path: Path) -> None:
    sample = SampleLearning(tmp_path)
    sample.learning.open()
    kept = feature("e1", vector(0, 1).tobytes())
    sample.label(kept, PATHS[0])
    sample.learning.work()
    sample.learning.on_model(general("lite1@1", "another"))
    sample.learning.work()
    sample.learning.on_label(labelled_event((), kept._replace(levels=Levels())))
    sample.learning.work()
    assert sample.store.learning.events() == []
    sample.spool.close()


@pytest.mark.parametrize("restarted", [False, True])
def test_a_lesson_whose_answer_alone_became_user_private_is_forgotten(tmp_path: Path, restarted: bool) -> None:
    sample = SampleLearning(tmp_path)
    sample.learning.open()
    sample.label(feature("e1", vector(0, 1).tobytes()), PATHS[0])
    sample.learning.work()
    levels = msgspec.structs.replace(PRIVATE, result=Privacy.USER_PRIVATE)
    if restarted:  # killed before it was told
        with sample.spool.transaction() as tx:
            sample.store.keep(result("e1"), Context(sample.clock.now(), levels, Rank.SPECIES), tx)
        sample.learning.open()
    else:
        sample.label(feature("e1", vector(0, 1).tobytes(), levels), PATHS[0], 2)
    sample.learning.work()
    assert sample.store.learning.events() == []
    sample.spool.close()
