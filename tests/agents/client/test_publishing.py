"""Photos and readings on their way: what is published when, and what an arriving message means."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from sample_device import answer

from agents.client.publishing import WINDOW, Capture, Publishing
from agents.client.window import REPEAT_AFTER_S, DeliveryState
from pipeline import topics
from pipeline.messages import Ack, Privacy, Refusal, Result, Tier, encode

TOPIC = topics.frame("home", "cam1", "garden")


def photos(*contents: bytes) -> list[Capture]:
    return [Capture(f"{number}.jpg", TOPIC, content) for number, content in enumerate(contents)]


def published(publishing: Publishing, now_s: float = 0.0) -> list[Capture]:
    items = publishing.due(now_s)
    for item in items:
        item.published_s = now_s
    return items


def ack(
    publishing: Publishing, event: str, item: Capture, *, repeat: bool = False
) -> list[tuple[Capture, Result | None]]:
    message = Ack(ids=(event,), topic=TOPIC, sha256=item.sha256, repeat=repeat)
    return publishing.receive(topics.ack("home", "cam1"), encode(message))


def tell(publishing: Publishing, result: Result) -> list[tuple[Capture, Result | None]]:
    return publishing.receive(topics.result("home", "cam1", result.tier, result.privacy), encode(result))


def test_an_item_is_published_again_until_it_is_acknowledged() -> None:
    publishing = Publishing(photos(b"a"))
    (item,) = published(publishing)
    assert publishing.due(REPEAT_AFTER_S - 0.1) == []
    assert published(publishing, REPEAT_AFTER_S) == [item]
    ack(publishing, "e1", item)
    assert publishing.due(1e9) == []
    assert not publishing.is_done()


def test_a_publication_is_done_when_no_tier_may_refine_it_and_answers_may_come_in_any_order() -> None:
    for order in ([1, 2, 3], [2, 1, 3], [3, 2, 1]):
        publishing = Publishing(photos(b"a"))
        (item,) = published(publishing)
        ack(publishing, "e1", item)
        shown = [tell(publishing, answer("e1", n, None if n == 3 else Tier.CLOUD)) for n in order]
        assert all(shown) and publishing.is_done()
        assert item.answer is not None and item.answer.revision == 3
        assert tell(publishing, answer("e1", 3)) == []


def test_an_answer_that_overtakes_its_acknowledgement_is_told_after_it() -> None:
    publishing = Publishing(photos(b"a"))
    (item,) = published(publishing)
    early = answer("e1", 1)
    assert tell(publishing, early) == []
    assert ack(publishing, "e1", item) == [(item, None), (item, early)]
    assert publishing.is_done()


def test_two_equal_photos_are_one_event_with_one_answer() -> None:
    for overtaking in (True, False):
        publishing = Publishing(photos(b"same", b"same"))
        first, second = published(publishing)
        ack(publishing, "e1", first)
        if overtaking:
            tell(publishing, answer("e1", 1))
        ack(publishing, "e1", second, repeat=True)
        if not overtaking:
            tell(publishing, answer("e1", 1))
        assert first.answer == second.answer is not None
        assert publishing.is_done()


def test_a_photo_that_was_published_before_shows_the_answer_that_stands() -> None:
    standing = {"e1": answer("e1", 3)}
    publishing = Publishing(photos(b"known", b"new", b"forgotten"), standing.get)
    known, new, forgotten = published(publishing)
    assert ack(publishing, "e1", known, repeat=True) == [(known, None), (known, standing["e1"])]
    assert ack(publishing, "e2", new) == [(new, None)]
    assert ack(publishing, "e3", forgotten, repeat=True) == [(forgotten, None)]
    assert tell(publishing, answer("e3", 1)) == [(forgotten, answer("e3", 1))]


def test_a_reading_is_recognised_by_its_own_id_and_not_by_another_sensors_ack() -> None:
    item = Capture("21.5", TOPIC, b'{"value":21.5}', id="mine")
    publishing = Publishing([item])
    published(publishing)
    ack(publishing, "another", item)
    assert item.state is DeliveryState.WAITING
    ack(publishing, "mine", item)
    assert item.state is DeliveryState.ACCEPTED


def test_a_refusal_ends_only_the_item_that_it_is_about() -> None:
    publishing = Publishing(photos(b"bad", b"good"))
    bad, good = published(publishing)
    refusal = Refusal(reason="image-truncated", detail="", topic=TOPIC, size_bytes=3, sha256=bad.sha256, time="")
    assert publishing.receive(topics.rejected("home", "cam1"), encode(refusal)) == [(bad, None)]
    assert (bad.state, good.state) == (DeliveryState.REFUSED, DeliveryState.WAITING)


def test_what_a_busy_agent_refuses_is_published_again() -> None:
    publishing = Publishing(photos(b"later"))
    (later,) = published(publishing)
    refusal = Refusal(reason="busy", detail="", topic=TOPIC, size_bytes=5, sha256=later.sha256, time="")
    assert publishing.receive(topics.rejected("home", "cam1"), encode(refusal)) == []
    assert later.state is DeliveryState.WAITING
    assert publishing.due(REPEAT_AFTER_S) == [later]


def test_a_folder_is_published_a_window_at_a_time() -> None:
    publishing = Publishing(photos(*(bytes([n]) for n in range(3 * WINDOW))))
    for _ in range(3):
        items = published(publishing)
        assert len(items) == WINDOW
        random.shuffle(items)
        for item in items:
            ack(publishing, item.name, item)
    assert publishing.due(0) == []


@given(st.text(), st.binary())
def test_no_foreign_message_disturbs_a_publication(topic: str, payload: bytes) -> None:
    publishing = Publishing(photos(b"a"))
    for place in (
        topic,
        topics.ack("home", "cam1"),
        topics.result("home", "cam1", Tier.EDGE, Privacy.PUBLIC),
    ):
        assert publishing.receive(place, payload) == []
