"""Labels become a signed release: router, join, fold, trainer and `tierwise.models`, on the embedded Kafka."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import closing

from kafka_brokers import eventually
from sample_labelled import NEW, envelopes, events, vectors
from stack import PATIENCE_S, Stack, Stage

from agents.role.run_file import ask_health, running
from agents.trainer.reports import Reports
from models.heads.release import HeadRelease
from models.releases.repository import Repository
from pipeline import topics
from pipeline.clock import SystemClock
from pipeline.kafka import Producer
from pipeline.messages import Envelope
from pipeline.privacy import gate

TRAINING_S = 180.0
"""A training takes some 20 s of an idle core."""
COUNT = 25


def deliver(stack: Stack, sent: Iterable[Envelope]) -> None:
    with closing(Producer(stack.settings.kafka, "test")) as producer:
        assert producer.deliver([gate.clear_record(one) for one in sent]) == ()


def says(stack: Stack) -> dict[str, str]:
    """What the trainer says of its parts; nothing while it is away."""
    told = running(stack.data, "trainer")
    return dict(ask_health(told.port)[1]) if told and told.port else {}


def test_labels_of_a_new_species_become_a_release_also_when_the_trainer_is_killed_while_it_trains(
    stage: Stage,
) -> None:
    stack = stage.fresh()
    stack.start("kafka", "stream", "trainer")
    pairs = list(zip(events(COUNT), vectors(COUNT), strict=True))
    sent = [one for event, data in pairs for one in envelopes(event, data)]
    deliver(stack, [*sent, *sent[:10], *envelopes(*pairs[0], label=None, revision=2)])
    eventually(lambda: says(stack).get("training", "").startswith("training: "), PATIENCE_S)
    killed = stack.kill_part("trainer")
    stack.wait_ready("trainer", other_than=killed)
    reports = Reports(stack.data)
    eventually(lambda: reports.last, TRAINING_S)
    kept = reports.last
    assert kept is not None
    assert (kept.outcome, kept.rule, kept.title) == ("released", "new-class", "lite0@3"), kept.text
    assert kept.events == {NEW: COUNT - 1}

    repository = Repository(stack.settings.releases_dir, stack.data / "keys" / "releases", SystemClock())
    assert repository.versions == (3,)
    release = HeadRelease.of(repository.files(3))
    assert [row.label for row in release.rows] == [NEW]
    assert repository.current is not None and repository.current.why.startswith("new-class: ")
    metadata, files = repository.published()
    eventually(lambda: stack.table(topics.MODELS).get(b"timestamp.json") == metadata["timestamp.json"])
    held = list(stack.table(topics.MODELS).values())
    assert all(any(data[:1000] in value for value in held) for data in files.values())

    shown = stack.run("training", "list", "--json")
    assert shown.wait(PATIENCE_S) == 0
    assert json.loads((stack.folder / "training.out").read_text())[0]["title"] == "lite0@3"

    assert stack.run("training", "forget", "--site", "home").wait(PATIENCE_S) == 0
    eventually(lambda: reports.next_number > 2, TRAINING_S)
    last = reports.last
    assert last is not None
    assert (last.outcome, last.events) == ("failed", {})
    assert last.why[0].startswith("too-few-events: ")
    assert repository.current.version == 3
