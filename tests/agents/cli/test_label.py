"""Labelling at the command line: what is published, what the edge's word means, what a CSV may say, what is reviewed."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console
from sample_edge import SampleEdge, sample_edge
from sample_messages import NOW_S, edge_model, event, event_id, photo, result, settings

from agents.cli.label import find
from agents.cli.label_csv import read_labels
from agents.cli.review import Page, _through
from agents.cli.thumbnail import COLUMNS, thumbnail
from agents.client.labelling import REPEAT_AFTER_S, WINDOW, Given, Labelling, State, subscriptions
from agents.edge import store_reader
from models.labels.taxonomy import load_taxonomy
from pipeline import clock, messages, topics
from pipeline.errors import Rejected, Stop
from pipeline.messages import Ack, Ask, Label, Privacy, Refusal, Tier, Vector

TOPIC = topics.label("home", "cam1")


def given(number: int = 1, text: str | None = "Felis catus") -> Given:
    return Given(f"event {number}", Label(event=event_id(number), label=text, by="ann"), TOPIC)


def ack(of: Given) -> tuple[str, bytes]:
    told = Ack(ids=(of.label.event,), topic=of.topic, sha256=of.sha256)
    return topics.ack("home", "cam1"), messages.encode(told)


def refusal(of: Given) -> tuple[str, bytes]:
    told = Refusal(
        reason="unknown-label", detail="no such", topic=of.topic, size_bytes=9, sha256=of.sha256, time=""
    )
    return topics.rejected("home", "cam1"), messages.encode(told)


def answer(number: int = 1, revision: int = 3) -> tuple[str, bytes]:
    told = result(event_id(number), tier=Tier.EDGE, revision=revision, pending=None, rule="labelled")
    return topics.result("home", "cam1", Tier.EDGE, Privacy.PUBLIC), messages.encode(told)


# --- until the edge had its word -------------------------------------------------------------------------------


def test_a_label_is_published_again_until_the_edge_says_that_it_is_in() -> None:
    one = given()
    labelling = Labelling([one])
    assert labelling.to_publish(0.0) == [one]
    one.published_s = 0.0
    assert labelling.to_publish(REPEAT_AFTER_S - 0.1) == []
    assert labelling.to_publish(REPEAT_AFTER_S) == [one]
    assert labelling.hear(*answer()) == []
    assert labelling.hear(*ack(one)) == [one]
    assert one.state is State.TAKEN
    assert one.answer is not None
    assert one.answer.revision == 3
    assert labelling.is_done()
    assert labelling.hear(*ack(one)) == [], "a second word says nothing new"


def test_a_refused_label_says_why_and_the_others_go_on() -> None:
    bad, good = given(1, "Felis cattus"), given(2)
    labelling = Labelling([bad, good])
    assert labelling.hear(*refusal(bad)) == [bad]
    assert bad.refusal is not None
    assert not labelling.is_done()
    assert labelling.to_publish(0.0) == [good]
    labelling.hear(*ack(good))
    assert good.answer is None, "nothing was told of its event: it was labelled so before"


def test_equal_labels_are_settled_together_and_strange_messages_by_nobody() -> None:
    labelling = Labelling([given(), given()])
    for topic, payload in (
        (topics.ack("home", "cam1"), b"{}"),
        (topics.rejected("home", "cam1"), b"\xff"),
        ("other/topic", b""),
        ack(given(7)),
    ):
        assert labelling.hear(topic, payload) == []
    assert len(labelling.hear(*ack(given()))) == 2


def test_so_many_labels_are_under_way_at_once() -> None:
    many = [given(number) for number in range(WINDOW + 5)]
    labelling = Labelling(many)
    assert labelling.to_publish(0.0) == many[:WINDOW]
    labelling.hear(*ack(many[0]))
    assert labelling.to_publish(0.0) == many[1 : WINDOW + 1]


def test_what_is_subscribed_to_is_of_the_events_devices_alone() -> None:
    heard = subscriptions("home", ["cam1", "cam2", "cam1"])
    assert len(heard) == len(set(heard)) == 2 * (2 + 2 * len(Tier))


# --- a CSV -----------------------------------------------------------------------------------------------------


def known(name: str, device: str) -> tuple[str, str]:
    """The event `1`, `2`, ...; no other."""
    if not name.isdigit():
        raise Rejected("unknown-event", f"{name}: no such event")
    return event_id(int(name)), topics.label("home", device or "cam1")


def read(folder: Path, text: str | bytes) -> tuple[list[Given], list[str]]:
    file = folder / "labels.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_labels(file, known, "me")


def test_a_csv_names_events_labels_persons_and_times(tmp_path: Path) -> None:
    rows = "\ufeffevent, label ,by,time,under,english,device\n1,Felis catus,ann,1700000000,,,\n"
    more = "2,fossa sp., ,2026-11-22T14:02:11Z,animal/Eupleridae,fossa,cam2\n"
    labels, bad = read(tmp_path, rows + more)
    assert bad == []
    one, two = labels
    assert one.label == Label(
        event=event_id(1), label="Felis catus", by="ann", time=clock.rfc3339(1_700_000_000)
    )
    assert two.label == Label(
        event=event_id(2),
        label="fossa sp.",
        by="me",
        time="2026-11-22T14:02:11.000Z",
        under="animal/Eupleridae",
        english="fossa",
    )
    assert (one.topic, two.topic) == (TOPIC, topics.label("home", "cam2"))


def test_each_bad_row_is_told_with_its_line_and_the_others_are_kept(tmp_path: Path) -> None:
    labels, bad = read(
        tmp_path,
        'event,label,time\n1,"Felis\ncatus",\nx,Felidae,\n2,,\n,Felidae,\n3,Felidae,soon\n4,Felidae,,more\n5,Felidae\n'
        f"6,{'y' * 9999},\n7,Felidae,1e300\n",
    )
    assert [each.label.event for each in labels] == [event_id(1), event_id(5)]
    assert [complaint.split(":")[0] for complaint in bad] == [
        f"line {number}" for number in (4, 5, 6, 7, 8, 10, 11)
    ]


def test_rows_without_a_time_are_in_the_order_of_the_file(tmp_path: Path) -> None:
    labels, _ = read(tmp_path, "event,label\n" + "1,Felidae\n" * 20)
    times = [each.label.time for each in labels]
    assert times == sorted(set(times))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "columns none"),
        ("event,label\n", "no rows"),
        ("path,label\na,b\n", "columns path, label"),
        ("event,label,label\n1,a,b\n", "columns event, label, label"),
        ("event,label,colour\n1,a,b\n", "not known: colour"),
        ('event,label\n1,"a\n', "cannot be read"),
        (b"event,label\n1,\xff\n", "cannot be read"),
    ],
)
def test_of_a_file_that_is_no_such_table_nothing_is_sent(tmp_path: Path, text: str | bytes, why: str) -> None:
    with pytest.raises(Stop, match=why):
        read(tmp_path, text)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Stop, match="cannot be read"):
        read_labels(tmp_path / "none.csv", known, "me")


# --- which event is meant --------------------------------------------------------------------------------------


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[SampleEdge]:
    (tmp_path / "edge").mkdir()
    with sample_edge(tmp_path / "edge") as opened:
        yield opened


@functools.cache
def cat_vector() -> tuple[int, ...]:
    return tuple(edge_model().predict(photo("chelsea.png")).vector.tolist())


def frame(edge: SampleEdge, number: int, sighting: int | None = None) -> None:
    """One of a cat, some clearer than others."""
    noise = np.random.default_rng(number).integers(-number, number + 1, 256)
    data = np.clip(np.array(cat_vector()) + noise, 0, 255).astype(np.uint8).tobytes()
    told = result(event_id(number), sighting=event_id(sighting or number))
    edge.deliver(event(told, sequence=number, body=Vector(space=edge_model().space, data=data)))
    edge.clock.turn(1)


def test_an_event_is_found_by_its_id_a_part_of_it_or_as_the_last(edge: SampleEdge, tmp_path: Path) -> None:
    frame(edge, 1)
    frame(edge, 2)
    with store_reader.opened(tmp_path) as view:
        assert view is not None
        for text in (event_id(1), event_id(1)[-8:]):
            assert view.event(text).event == event_id(1)
        assert view.event("last").event == event_id(2)
        assert find(view, edge.settings, event_id(2)[-8:], "") == (event_id(2), TOPIC)
        with pytest.raises(Stop, match="is of device cam1"):
            find(view, edge.settings, event_id(2)[-8:], "cam2")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (event_id(1)[:8], "event-ambiguous"),
        ("ffff0000", "unknown-event"),
        ("%", "event-invalid"),
        ("", "event-invalid"),
        ("zz'; --", "event-invalid"),
    ],
)
def test_what_names_no_event_or_several_is_refused(
    edge: SampleEdge, tmp_path: Path, text: str, reason: str
) -> None:
    frame(edge, 1)
    frame(edge, 2)
    with store_reader.opened(tmp_path) as view, pytest.raises(Rejected) as refused:
        assert view is not None
        view.event(text)
    assert refused.value.reason == reason


def test_without_an_edge_here_an_event_is_named_in_full_with_its_device(tmp_path: Path) -> None:
    told = settings(tmp_path)
    with store_reader.opened(tmp_path) as view:
        assert view is None
        assert find(view, told, event_id(1), "cam9") == (event_id(1), topics.label("home", "cam9"))
        for name, device in ((event_id(1), ""), ("last", "cam9"), (event_id(1)[:8], "cam9")):
            with pytest.raises(Stop, match="no edge ran on this machine"):
                find(view, told, name, device)
        with pytest.raises(Stop, match="no device is called so"):
            find(view, told, event_id(1), "Cam 9")


def test_an_edge_that_told_nothing_has_no_last_event(edge: SampleEdge, tmp_path: Path) -> None:
    with store_reader.opened(tmp_path) as view, pytest.raises(Rejected, match="no last event"):
        assert view is not None
        view.event("last")


# --- what is worth asking about --------------------------------------------------------------------------------


def test_the_least_sure_of_each_sighting_comes_first_and_what_has_a_label_not_at_all(
    edge: SampleEdge, tmp_path: Path
) -> None:
    for number in range(1, 9):
        frame(edge, number, sighting=1 if number < 4 else None)
    edge.label(Label(event=event_id(8), label="Felis catus", by="ann"))
    with store_reader.opened(tmp_path) as view:
        assert view is not None
        unsure = view.unsure()
        assert view.asks() == []
    sureness = [(len(told.path), told.probability) for told in unsure]
    assert sureness == sorted(sureness)
    assert event_id(8) not in {told.event for told in unsure}
    assert len(unsure) == len({told.sighting for told in unsure}) == 5


def test_what_the_edge_asks_about_is_read_from_its_table_without_what_has_a_label(
    edge: SampleEdge, tmp_path: Path
) -> None:
    frame(edge, 1)
    frame(edge, 2)
    with edge.spool.transaction() as tx:
        for number, settled in ((1, None), (2, None), (3, NOW_S)):
            ask = Ask(
                event=event_id(number),
                time=clock.rfc3339(NOW_S),
                site="home",
                device="cam1",
                stream="garden",
                label="animal",
                path=("animal",),
                probability=0.6,
                privacy=Privacy.PUBLIC,
                rule="unsure",
                reason="unsure",
                budget_left=3,
            )
            tx.db.execute(
                "INSERT INTO asks VALUES (?, ?, ?, ?, ?)",
                (ask.event, ask.event, number, messages.encode(ask), settled),
            )
    edge.label(Label(event=event_id(2), label="Felis catus", by="ann"))
    with store_reader.opened(tmp_path) as view:
        assert view is not None
        assert [ask.event for ask in view.asks()] == [event_id(1)]


# --- the pages -------------------------------------------------------------------------------------------------


class Desk:
    """Answers as typed, and an edge that knows `Felis catus` and nothing else."""

    def __init__(self, *typed: str) -> None:
        self._typed = iter(typed)
        self.said: list[str | None] = []
        self.console = Console(file=io.StringIO(), width=200)

    def read(self) -> str | None:
        return next(self._typed, None)

    def give(self, its: Given) -> None:
        self.said.append(its.label.label)
        labelling = Labelling([its])
        if its.label.label in (None, "Felis catus"):
            for message in (answer(), ack(its)):
                labelling.hear(*message)
        else:
            labelling.hear(*refusal(its))

    def go(self, pages: int = 2) -> tuple[int, str]:
        told = [Page(result(event_id(number)), "asked", None) for number in range(1, pages + 1)]
        count = _through(told, self.read, self.give, self.console, load_taxonomy(), "ann", draw=False)
        file = self.console.file
        assert isinstance(file, io.StringIO)
        return count, file.getvalue()


def test_a_page_is_labelled_skipped_or_taken_back() -> None:
    desk = Desk("Felis catus", "", "-")
    count, shown = desk.go(3)
    assert (count, desk.said) == (1, ["Felis catus", None])
    assert "3 of 3" in shown


def test_a_refused_label_is_told_and_the_page_asked_again() -> None:
    desk = Desk("Felis cattus", "Felis catus", "q")
    count, shown = desk.go()
    assert (count, desk.said) == (1, ["Felis cattus", "Felis catus"])
    assert "no such" in shown


def test_help_names_the_nearest_labels() -> None:
    _, shown = Desk("? Felis cattus", "?", "? zzzzzzzz").go()
    assert "Felis catus" in shown
    assert "Enter: skip" in shown
    assert "nothing in the tree" in shown


def test_the_end_of_the_input_is_the_end() -> None:
    count, shown = Desk().go()
    assert count == 0
    assert "2 of 2" not in shown


def test_a_picture_is_drawn_by_two_pixels_a_character(tmp_path: Path) -> None:
    file = tmp_path / "red.png"
    picture = np.zeros((60, 120, 3), np.uint8)
    picture[:, :, 2] = 255
    cv2.imwrite(str(file), picture)
    drawn = thumbnail(file)
    assert drawn is not None
    lines = drawn.plain.splitlines()
    assert {len(line) for line in lines} == {COLUMNS}
    assert len(lines) == COLUMNS // 4
    assert "rgb(255,0,0)" in str(drawn.spans[0].style)
    file.write_bytes(b"no picture")
    assert thumbnail(file) is None
    assert thumbnail(tmp_path / "gone.png") is None
