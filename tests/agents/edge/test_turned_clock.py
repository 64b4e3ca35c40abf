"""A clock that is wrong, at a device or here, blocks nothing for longer than it takes to notice."""

from __future__ import annotations

from pathlib import Path

import msgspec
from sample_edge import sample_edge
from sample_messages import edge_model, event, event_id, photo, result

from agents.edge.label_rules import TAKEN_BACK, decide_vote
from agents.edge.store import DAY_S
from pipeline import clock
from pipeline.messages import Label, Vector
from pipeline.readings import FUTURE_MAX_S, TIME_IMPLAUSIBLE

STEP_S = 3 * DAY_S


def test_a_frame_from_the_future_is_kept_at_its_receipt_and_flagged(tmp_path: Path) -> None:
    with sample_edge(tmp_path) as edge:
        now_s = edge.clock.now()
        vector = edge_model().predict(photo("chelsea.png")).vector.tobytes()
        ahead = result(event_id(1), sighting=event_id(1), time=clock.rfc3339(now_s + FUTURE_MAX_S + 1))
        edge.forge(event(ahead, body=Vector(space=edge_model().space, data=vector)))
        (answer,) = edge.take_results()
        assert (answer.time, answer.flags) == (clock.rfc3339(now_s), (TIME_IMPLAUSIBLE,))
        close = msgspec.structs.replace(ahead, event=event_id(2), time=clock.rfc3339(now_s + FUTURE_MAX_S))
        edge.forge(event(close, body=Vector(space=edge_model().space, data=vector)))
        assert edge.take_results()[0].time == close.time


def test_what_is_awaited_from_the_cloud_is_over_when_the_clock_was_set_back(tmp_path: Path) -> None:
    with sample_edge(tmp_path) as edge:
        vector = edge_model().predict(photo("chelsea.png")).vector.tobytes()
        edge.deliver(event(result(event_id(1), sighting=event_id(1)), body=Vector(edge_model().space, vector)))
        wait_s, now_s = edge.settings.edge.cloud_deadline_s, edge.clock.now()
        assert edge.store.overdue(now_s, wait_s) == []
        assert edge.store.overdue(now_s - STEP_S, wait_s) == [event_id(1)]
        edge.sightings.close_quiet(now_s)
        assert not any(report.closed for report in edge.take_reports())
        edge.clock.set_wall(-STEP_S)
        edge.sightings.close_quiet(edge.clock.now())
        assert [report.closed for report in edge.take_reports()] == [True]


def test_a_label_of_a_clock_that_was_set_back_is_outvoted_by_the_next_one() -> None:
    resolved = TAKEN_BACK
    first = decide_vote("e", "ann", 1000.0 + STEP_S, resolved, ())
    assert first is not None
    assert decide_vote("e", "ann", 1000.0, resolved, (first,)) is None
    assert decide_vote("e", "ann", 1000.0, resolved, (first,), latest_s=1060.0) is not None


def test_a_label_given_while_the_clock_was_ahead_can_be_corrected(tmp_path: Path) -> None:
    with sample_edge(tmp_path) as edge:
        vector = edge_model().predict(photo("chelsea.png")).vector.tobytes()
        edge.deliver(event(result(event_id(1), sighting=event_id(1)), body=Vector(edge_model().space, vector)))
        edge.clock.set_wall(STEP_S)
        edge.label(Label(event=event_id(1), label="Canis lupus", by="ann"))
        edge.clock.set_wall(-STEP_S)
        edge.label(Label(event=event_id(1), label="Felis catus", by="ann"))
        assert edge.take_results()[-1].label == "Felis catus"
