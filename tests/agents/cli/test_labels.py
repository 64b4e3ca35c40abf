"""Labelling at the command line: which event is meant, what a CSV may say, what is reviewed."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console
from sample_label_deliveries import TOPIC, ack, answer, refusal
from sample_messages import event_id, result, settings

from agents.cli.labels.csv_file import read_labels
from agents.cli.labels.review import ReviewPage, _through
from agents.cli.labels.sending import find
from agents.cli.labels.thumbnail import COLUMNS, thumbnail
from agents.client import edge_reader
from agents.client.labelling import LabelDelivery, Labelling
from models.labels.taxonomy import load_taxonomy
from pipeline import clock, topics
from pipeline.errors import Rejected, Stop
from pipeline.messages import Label

# --- a CSV -----------------------------------------------------------------------------------------------------


def known(name: str, device: str) -> tuple[str, str, str]:
    """The event `1`, `2`, ...; no other."""
    if not name.isdigit():
        raise Rejected("unknown-event", f"{name}: no such event")
    return event_id(int(name)), "home", device or "cam1"


def read(folder: Path, text: str | bytes) -> tuple[list[LabelDelivery], list[str]]:
    file = folder / "labels.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_labels(file, known, "me")


def test_a_csv_names_events_labels_persons_and_times(tmp_path: Path) -> None:
    rows = "\ufeffevent, label ,by,time,under,english,device\n1,Felis catus,ann,1700000000,,,\n"
    more = "2,fossa sp., ,2026-11-22T14:02:11Z,animal/Eupleridae,fossa,cam2\n"
    labels, bad = read(tmp_path, rows + more)
    assert bad == []
    first, second = labels
    assert first.label == Label(event=event_id(1), label="Felis catus", by="ann", time=clock.rfc3339(1_700_000_000))
    assert second.label == Label(
        event=event_id(2),
        label="fossa sp.",
        by="me",
        time="2026-11-22T14:02:11.000Z",
        under="animal/Eupleridae",
        english="fossa",
    )
    assert (first.topic, second.topic) == (TOPIC, topics.label("home", "cam2"))


def test_each_bad_row_is_told_with_its_line_and_the_others_are_kept(tmp_path: Path) -> None:
    labels, bad = read(
        tmp_path,
        'event,label,time\n1,"Felis\ncatus",\nx,Felidae,\n2,,\n,Felidae,\n3,Felidae,soon\n4,Felidae,,more\n5,Felidae\n'
        f"6,{'y' * 9999},\n7,Felidae,1e300\n",
    )
    assert [each.label.event for each in labels] == [event_id(1), event_id(5)]
    assert [complaint.split(":")[0] for complaint in bad] == [f"line {number}" for number in (4, 5, 6, 7, 8, 10, 11)]


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
        ("event,label,colour\n1,a,b\n", "unknown column: colour"),
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


def test_without_an_edge_here_an_event_is_named_in_full_with_its_device(tmp_path: Path) -> None:
    loaded = settings(tmp_path)
    with edge_reader.opened(tmp_path) as reader:
        assert reader is None
        assert find(reader, loaded, event_id(1), "cam9") == (event_id(1), "home", "cam9")
        for name, device in ((event_id(1), ""), ("last", "cam9"), (event_id(1)[:8], "cam9")):
            with pytest.raises(Stop, match="no edge ran on this machine"):
                find(reader, loaded, name, device)
        with pytest.raises(Stop, match="not a device's name"):
            find(reader, loaded, event_id(1), "Cam 9")


# --- the pages -------------------------------------------------------------------------------------------------


class Desk:
    """Answers as typed, and an edge that knows `Felis catus` and nothing else."""

    def __init__(self, *typed: str) -> None:
        self._typed = iter(typed)
        self.said: list[str | None] = []
        self.console = Console(file=io.StringIO(), width=200)

    def read(self) -> str | None:
        return next(self._typed, None)

    def send(self, sent: LabelDelivery) -> None:
        self.said.append(sent.label.label)
        labelling = Labelling([sent])
        if sent.label.label in (None, "Felis catus"):
            for message in (answer(), ack(sent)):
                labelling.receive(*message)
        else:
            labelling.receive(*refusal(sent))

    def go(self, pages: int = 2) -> tuple[int, str]:
        pages_ = [ReviewPage(result(event_id(number)), "asked", None) for number in range(1, pages + 1)]
        count = _through(pages_, self.read, self.send, self.console, load_taxonomy(), "ann", draw=False)
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
