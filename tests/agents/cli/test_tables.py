"""Tables as people see them: at 80 columns every id is whole, at 120 more is shown, and nothing is wider."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, RenderableType
from sample_device import answer
from sample_messages import event_id

from agents.cli.labels import given
from agents.cli.machine.start_picture import StartPicture, line
from agents.cli.sightings import watch
from agents.client import event_ids
from agents.client.edge_reader import GivenLabel
from agents.client.sighting_board import SightingBoard
from agents.up.supervisor import News, UpEvent
from pipeline.messages import Privacy, Result, Tier

EVENT = event_id(1)
LONG = {
    "device": "camera-by-the-old-gate",
    "stream": "garden",
    "label": "Cryptoprocta ferox",
    "path": ("animal", "Eupleridae", "Cryptoprocta ferox"),
    "privacy": Privacy.EDGE_PRIVATE,
}


def lines(shown: RenderableType, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False).print(shown)
    return out.getvalue().splitlines()


def result(**changes: object) -> Result:
    return answer(EVENT, 1, Tier.EDGE, sighting=EVENT, **(LONG | changes))


def sightings(width: int) -> list[str]:
    board = SightingBoard()
    board.take(result())
    return lines(watch.sighting_table(board.rows, width, home="home"), width)


def frames(width: int) -> list[str]:
    return lines(watch.frame_table((result(),), width), width)


def labels(width: int) -> list[str]:
    label = GivenLabel(1_700_000_000.0, EVENT, "anneliese", "Felis catus", result())
    return lines(given.table([label], width), width)


@pytest.mark.parametrize("table", [sightings, frames, labels])
@pytest.mark.parametrize("width", [80, 120])
def test_a_table_fits_and_its_ids_are_whole(table: object, width: int) -> None:
    shown = table(width)  # type: ignore[operator]
    assert max(map(len, shown)) <= width
    row = next(text for text in shown if event_ids.short(EVENT) in text)
    assert "camera-by-the-old-gate/garden" in row


@pytest.mark.parametrize("table", [sightings, frames])
def test_a_wide_terminal_shows_the_privacy_too(table: object) -> None:
    assert "edge-private" not in "".join(table(80))  # type: ignore[operator]
    assert "edge-private" in "".join(table(120))  # type: ignore[operator]


def test_a_table_of_answers_says_why_none_can_come() -> None:
    assert "connection refused" in str(watch.frame_table((), 80, "connection refused").caption)
    assert "connection refused" in str(watch.sighting_table((), 80, "connection refused").caption)


def test_the_picture_of_a_start_has_a_line_a_part_that_turns_green() -> None:
    picture = StartPicture(["mqtt", "edge"])
    assert [text.split() for text in lines(picture, 80)] == [["·", "mqtt", "waits"], ["·", "edge", "waits"]]
    picture.take(News(UpEvent.STARTING, "mqtt"))
    picture.take(News(UpEvent.READY, "mqtt", "127.0.0.1:1883", 0.2))
    picture.take(News(UpEvent.STARTING, "edge"))
    picture.take(News(UpEvent.SLOW, "edge", "mqtt: connecting", 10))
    picture.take(News(UpEvent.LINE, "edge", "warning: late"))
    picture.take(News(UpEvent.ALL_READY, ""))
    mqtt, edge = lines(picture, 80)
    assert mqtt.split() == ["✓", "mqtt", "127.0.0.1:1883", "0.2", "s"]
    assert "mqtt: connecting" in edge
    picture.take(News(UpEvent.DIED, "edge", "ended (exit code 1), starts again in 1 s"))
    assert lines(picture, 80)[1].split()[:2] == ["✗", "edge"]


def test_where_there_is_no_picture_news_are_lines() -> None:
    assert "ready" not in line(News(UpEvent.STARTING, "mqtt"))
    assert line(News(UpEvent.READY, "mqtt", "127.0.0.1:1883", 0.2)).startswith("[green]✓[/] mqtt ")
    assert line(News(UpEvent.ALL_READY, "")) == ""
