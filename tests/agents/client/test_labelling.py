"""Labels on their way to the edge: what is published when, and what an arriving message means."""

from __future__ import annotations

from sample_label_deliveries import ack, answer, given, refusal

from agents.client.labelling import WINDOW, Labelling, replies_to_labels
from agents.client.window import REPEAT_AFTER_S, DeliveryState
from pipeline import topics
from pipeline.messages import Tier

# --- until the edge had its word -------------------------------------------------------------------------------


def test_a_label_is_published_again_until_the_edge_says_that_it_is_in() -> None:
    single = given()
    labelling = Labelling([single])
    assert labelling.due(0.0) == [single]
    single.published_s = 0.0
    assert labelling.due(REPEAT_AFTER_S - 0.1) == []
    assert labelling.due(REPEAT_AFTER_S) == [single]
    assert labelling.receive(*answer()) == []
    assert labelling.receive(*ack(single)) == [(single, single.answer)]
    assert single.state is DeliveryState.DONE
    assert single.answer is not None
    assert single.answer.revision == 3
    assert labelling.is_done()
    assert labelling.receive(*ack(single)) == [], "a second word says nothing new"


def test_a_refused_label_says_why_and_the_others_go_on() -> None:
    bad, good = given(1, "Felis cattus"), given(2)
    labelling = Labelling([bad, good])
    assert labelling.receive(*refusal(bad)) == [(bad, None)]
    assert bad.refusal is not None
    assert not labelling.is_done()
    assert labelling.due(0.0) == [good]
    labelling.receive(*ack(good))
    assert good.answer is None, "nothing was told of its event: it was labelled so before"


def test_equal_labels_are_settled_together_and_strange_messages_by_nobody() -> None:
    labelling = Labelling([given(), given()])
    for topic, payload in (
        (topics.ack("home", "cam1"), b"{}"),
        (topics.rejected("home", "cam1"), b"\xff"),
        ("other/topic", b""),
        ack(given(7)),
    ):
        assert labelling.receive(topic, payload) == []
    assert len(labelling.receive(*ack(given()))) == 2


def test_so_many_labels_are_under_way_at_once() -> None:
    many = [given(number) for number in range(WINDOW + 5)]
    labelling = Labelling(many)
    assert labelling.due(0.0) == many[:WINDOW]
    labelling.receive(*ack(many[0]))
    assert labelling.due(0.0) == many[1 : WINDOW + 1]


def test_what_is_subscribed_to_is_of_the_events_devices_alone() -> None:
    replies = replies_to_labels("home", ["cam1", "cam2", "cam1"])
    assert len(replies) == len(set(replies)) == 2 * (2 + 2 * len(Tier))
