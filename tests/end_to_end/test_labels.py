"""Labels on the real processes: from a person's MQTT message to the corrected answer, and to Kafka where it may go."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import pytest
from kafka_brokers import eventually
from stack import GARDEN, HALL, PATIENCE_S, SITE, Capture, Listener, Stack, cat, cats, jpeg, photo

from agents.edge.label_rules import LABELLED
from pipeline import messages, topics
from pipeline.messages import Label, Privacy, Result, Tier, Vote

pytestmark = pytest.mark.e2e

TOPIC = topics.label(SITE, "cam1")


def say(listener: Listener, event: str, text: str | None, topic: str = TOPIC, **more: str) -> str:
    """Publish a label; the SHA-256 by which its word comes back."""
    payload = messages.encode(Label(event=event, label=text, **({"by": "ann"} | more)))
    listener.publish(topic, payload)
    return hashlib.sha256(payload).hexdigest()


def corrected(listener: Listener, event: str, label: str) -> Result:
    return listener.wait(
        lambda: next((r for r in listener.answers(event) if (r.rule, r.label) == (LABELLED, label)), None),
        f"the answer corrected to {label}; there are {listener.answers(event)}",
    )


def votes(stack: Stack, event: str) -> list[Vote]:
    """What Kafka has of people's words about an event, in its order."""
    return [
        messages.decode(Vote, record.value)
        for record in stack.records(topics.LABELS)
        if dict(record.headers)[topics.Header.ID] == event.encode()
    ]


def features(stack: Stack, event: str) -> int:
    records = stack.records(topics.ROUTED[Privacy.PUBLIC])
    return sum(dict(record.headers)[topics.Header.ID] == event.encode() for record in records)


def command(stack: Stack, *words: str, said: str = "") -> subprocess.CompletedProcess[str]:
    """One of our commands beside the running system, as its user."""
    return subprocess.run(
        [sys.executable, "-m", "agents", *words, "--settings", str(stack.file)],
        cwd=stack.folder,
        env=os.environ | stack.environ | {"COLUMNS": "200"},
        input=said,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_a_label_corrects_the_answer_and_goes_to_kafka_under_a_pseudonym(shared: Stack, listener: Listener) -> None:
    event = listener.capture(GARDEN, cat())
    last = listener.last_word(event, Tier.CLOUD)
    digest = say(listener, event, "red fox")
    answer = corrected(listener, event, "Vulpes vulpes")
    assert (answer.tier, answer.revision > last.revision, answer.pending) == (Tier.EDGE, True, None)
    assert answer.reason == "labelled by ann"
    assert listener.wait(lambda: listener.acknowledged.get(digest), "the acknowledgement") == [event]
    (vote,) = eventually(lambda: votes(shared, event), PATIENCE_S)
    assert (vote.label, len(vote.by)) == ("Vulpes vulpes", 12)
    assert all(b"ann" not in record.value for record in shared.records(topics.LABELS))
    eventually(lambda: features(shared, event) >= 2, PATIENCE_S)

    say(listener, event, None)
    again = listener.wait(
        lambda: next((r for r in listener.answers(event) if r.revision == answer.revision + 1), None),
        "the models' answer once more",
    )
    assert (again.path, again.tier, again.rule) == (last.path, Tier.CLOUD, last.rule)
    published = eventually(lambda: len(found := votes(shared, event)) == 2 and found, PATIENCE_S)
    assert [each.label for each in published] == ["Vulpes vulpes", None]


def test_a_label_of_a_persons_event_stays_at_the_site(shared: Stack, listener: Listener) -> None:
    event = listener.capture(HALL, jpeg(photo("astronaut.png")))
    listener.wait(lambda: listener.answers(event), "the device's answer")
    say(listener, event, "Pan troglodytes", topics.label(SITE, "cam2"))
    answer = corrected(listener, event, "Pan troglodytes")
    assert answer.privacy is Privacy.EDGE_PRIVATE
    other = listener.capture(GARDEN, cats(1)[0])
    listener.last_word(other, Tier.CLOUD)
    say(listener, other, "Felis catus")
    eventually(lambda: votes(shared, other), PATIENCE_S)  # what came after it is there
    assert votes(shared, event) == []


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b'{"event": [], "label": 1}', "malformed"),
        (b" " * 5000, "label-too-large"),
        (b'{"event": "00000000-0000-7000-8000-000000000000", "label": "Felis catus"}', "unknown-event"),
    ],
)
def test_bad_labels_are_refused_over_mqtt_and_the_edge_goes_on(listener: Listener, payload: bytes, reason: str) -> None:
    listener.publish(TOPIC, payload)
    topic, refusal = listener.refused(payload)
    assert (topic, refusal.reason) == (topics.rejected(SITE, "cam1"), reason)


def test_the_command_labels_the_last_event_and_says_what_became_of_it(shared: Stack, listener: Listener) -> None:
    event = listener.capture(GARDEN, cats(2)[1])
    listener.last_word(event, Tier.CLOUD)
    done = command(shared, "label", "last", "panthera TIGRIS", "--by", "ben")
    assert done.returncode == 0, done.stderr
    assert "labelled by ben" in done.stdout
    again = command(shared, "label", event[-8:], "Panthera tigris", "--by", "ben", "--json")
    published = json.loads(again.stdout)
    assert (published["state"], published["label"]["event"], "result" in published) == ("taken", event, False)
    wrong = command(shared, "label", event, "Panthera tigerr")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "Panthera tigris" in wrong.stderr
    back = command(shared, "label", event, "--withdraw", "--by", "ben")
    assert back.returncode == 0, back.stderr
    assert "withdrawn" in back.stdout


def test_a_csv_is_taken_row_by_row_and_a_review_line_by_line(shared: Stack, listener: Listener) -> None:
    events = listener.capture_all([Capture(GARDEN, frame) for frame in cats(5)[2:]])
    for event in events:  # of one sighting, perhaps: then the cloud is asked about the first
        listener.wait(lambda e=event: any(r.pending is None for r in listener.answers(e)), "a last word")
    file = shared.folder / "labels.csv"
    rows = [
        (events[0], "Felis catus", ""),
        (events[1][-8:], "Felis cattus", ""),
        ("ffffffff", "Felidae", ""),
        (events[2], "Genetta genetta", "animal/Viverridae"),
    ]
    file.write_text("event,label,under\n" + "".join(f"{','.join(row)}\n" for row in rows), encoding="utf-8")
    done = command(shared, "labels", "import", str(file), "--by", "cid")
    assert done.returncode == 2
    assert "2 labels accepted, 1 refused by the edge, 1 rows not sent" in done.stderr
    assert "line 3: refused (unknown-label)" in done.stderr
    assert "line 4: " in done.stderr
    assert corrected(listener, events[2], "Genetta genetta").path == (
        "animal",
        "Viverridae",
        "Genetta genetta",
    )
    done = command(shared, "labels", "review", "--by", "cid", said="? fox\nFelis cattus\nFelis catus\nq\n")
    assert done.returncode == 0, done.stderr
    assert "1 of " in done.stdout.splitlines()[-1]
    assert "did you mean" in done.stdout
    assert ".jpg" in done.stdout, "the ring is this user's own"
