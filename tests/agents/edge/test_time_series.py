"""What a site's time series get to see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from sample_edge import sample_edge
from sample_messages import OPEN, event, event_id, result

from agents.edge.time_series import SiteSeries
from pipeline.messages import Event, Privacy, Rank, Report, Task, Tier
from pipeline.series.points import Point
from pipeline.series.writer import Writer

LOW = [Privacy.PUBLIC, Privacy.EDGE_PRIVATE]


class Memory:
    """A store that keeps what it is given."""

    def __init__(self) -> None:
        self.points: list[Point] = []

    def write(self, points: Sequence[Point]) -> None:
        self.points += points

    def close(self) -> None:
        pass


def power(reading: Privacy) -> tuple[Event, Report]:
    answer = result(event_id(1), device="meter", stream="power", sighting=None, task=Task.METER, rank=Rank.STATE)
    report = Report(value=210.0, unit="W", count=1, total=210.0, low=210.0, high=210.0)
    levels = msgspec.structs.replace(OPEN, reading=reading)
    return event(msgspec.structs.replace(answer, value=210.0, unit="W"), body=report, levels=levels), report


def written(memory: Memory, writer: Writer) -> list[str]:
    writer.start()
    writer.close()
    return [point.measurement for point in memory.points]


@pytest.mark.parametrize("privacy", list(Privacy))
def test_answers_are_kept_up_to_the_edges_level(privacy: Privacy) -> None:
    memory = Memory()
    writer = Writer(memory)
    SiteSeries(writer).results(result(event_id(1), privacy=privacy))
    assert written(memory, writer) == (["result"] if privacy in LOW else [])


@pytest.mark.parametrize("reading", list(Privacy))
def test_a_reading_is_kept_up_to_the_edges_level_and_above_it_neither_is_the_answer_that_holds_it(
    reading: Privacy,
) -> None:
    memory = Memory()
    writer = Writer(memory)
    SiteSeries(writer).report(*power(reading))
    assert written(memory, writer) == (["reading", "result"] if reading in LOW else [])


def test_an_answer_that_only_its_user_may_know_is_told_to_no_time_series(tmp_path: Path) -> None:
    memory = Memory()
    writer = Writer(memory)
    with sample_edge(tmp_path, series=writer) as edge:
        edge.deliver(event(result(event_id(1), pending=None, privacy=Privacy.USER_PRIVATE)))
        edge.deliver(event(result(event_id(2), sighting=None, pending=None)))
        cloud = {"tier": Tier.CLOUD, "revision": 3, "pending": None, "path": ("animal", "Felidae")}
        edge.deliver_answers(result(event_id(1), **cloud))
    points = written(memory, writer)
    assert points == ["result"]
    assert [point.fields["event"] for point in memory.points] == [event_id(2)]
