"""Answer a reading on the device, and decide whether the edge needs a report of it.

Every reading gets a verdict (normal, unusual) by robust online statistics: of its values or, for a sensor that sends
states (open, closed), of their durations and changes. Then the answer is the state, under its verdict. The device
reports by exception: a value that left the dead-band, or a heartbeat. A report carries the count, the sum and the
extremes of all readings since the last report, so that hourly means stay exact although most readings never leave the
device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from models.series import states
from models.series import statistics as series
from pipeline import clock
from pipeline.clock import hour_of
from pipeline.messages import RANKS, Event, Levels, Report, Result, Task, Tier
from pipeline.privacy.policy import KEPT, Policy, within
from pipeline.readings import Reading
from pipeline.settings.settings import Settings, StreamSettings
from pipeline.topics import Parsed

MODEL = "robust-state@1"
"""Name of the statistics in `models.series.statistics.observe`, as results carry it."""

STATES_MODEL = "states@1"
"""The same for `models.series.states.observe`."""

ANY_CHANGE = series.DeadBand(0.0, 0.0, series.HEARTBEAT_S)
"""The dead-band of states, whose values are their numbers."""


class Meter(msgspec.Struct, frozen=True):
    """The device's memory of a stream of readings."""

    track: series.Track | None = None
    sent_value: float | None = None
    sent_s: float = 0.0
    unsent: Report | None = None
    """Readings since the last report; its value is that of the newest reading."""
    last: Result | None = None
    """The answer to the last reading."""
    last_s: float = 0.0
    last_order: tuple[int, int] = (0, 0)
    levels: Levels = Levels()
    """The levels of the readings in `unsent`. Readings of different levels are never in one report."""
    states: states.StateTrack | None = None


@dataclass(frozen=True, slots=True)
class ReadingAnswer:
    """The answer to one reading, and up to two events: the rest of an hour that ended, and this reading's report."""

    result: Result
    events: tuple[Event, ...]
    meter: Meter


class Readings:
    """Answers readings of all streams."""

    def __init__(self, settings: Settings, policy: Policy) -> None:
        self._settings = settings
        self._policy = policy

    def answer(
        self,
        event: str,
        origin: Parsed,
        reading: Reading,
        *,
        received_s: float,
        now: Callable[[], float],
        order: tuple[int, int],
        meter: Meter,
    ) -> ReadingAnswer:
        """Answer one reading with a checked unit.

        Parameters
        ----------
        received_s, now
            When the device agent received it, and the clock for its latency (UTC seconds).
        order
            The (boot, sequence) of the device.
        """
        source = f"{origin.site}/{origin.device}/{origin.name}"
        stream = self._settings.stream(source)
        task = stream.task if stream and stream.task is not Task.WILDLIFE else Task.METER
        unit = reading.unit or (stream.unit if stream else None) or "1"
        track, of_states, band = meter.track, meter.states, ANY_CHANGE
        if reading.state is None:
            track, verdict = series.observe(track, reading.value, reading.time_s)
            path: tuple[str, ...] = (verdict.state,)
            band = _band(stream, unit)
            still, apart = f"within {band.absolute:g} {unit} of the last report", ""
        else:
            of_states, verdict = states.observe(of_states, reading.state, reading.time_s)
            path = (verdict.state, reading.state)
            still, apart = f"still {reading.state}", f"{of_states.changes} changes this hour, "
        levels = self._policy.levels(source, reading.time_s, path=path)
        rule: str
        worth, rule = series.worth_sending(meter.sent_value, meter.sent_s, reading.value, reading.time_s, band)
        may_leave = levels.levels.reading.reach.depth >= Tier.EDGE.depth
        if not may_leave:
            advice = "" if stream else f"; {self._policy.advice(source, task)}"
            rule, reason = KEPT, f"policy keeps these readings on the device{advice}"
        elif worth:
            reason = f"{rule}: reported to the edge"
        else:
            reason = f"{still}: not reported"
        result = Result(
            event=event,
            time=clock.rfc3339(reading.time_s),
            site=origin.site,
            device=origin.device,
            stream=origin.name,
            sighting=None,
            task=task,
            tier=Tier.DEVICE,
            revision=1,
            pending=None,
            rank=RANKS[task][0],
            label=path[-1],
            path=path,
            probability=round(verdict.scores.best[1], 4),
            privacy=levels.levels.result,
            rule=rule,
            reason=f"{reason} ({apart}{verdict.score:.1f} deviations from the usual)" if verdict.warm else reason,
            model=MODEL if reading.state is None else STATES_MODEL,
            latency_ms=round((now() - received_s) * 1000, 1),
            value=reading.value,
            unit=unit if reading.state is None else None,
            room=stream.room if stream else None,
            flags=reading.flags,
        )

        result = within(result, levels.levels, "" if may_leave else reason)

        def reported(answer: Result, at: tuple[int, int], report: Report, of: Levels) -> Event:
            return Event(
                result=answer,
                boot=at[0],
                sequence=at[1],
                received_s=received_s,
                wants=stream.wants if stream else RANKS[task][-1],
                levels=of,
                room=answer.room,
                body=report,
            )

        events: list[Event] = []
        unsent = meter.unsent
        new_report = hour_of(meter.last_s) != hour_of(reading.time_s) or meter.levels != levels.levels
        if unsent and meter.last and (new_report or unsent.unit != unit):
            events.append(reported(meter.last, meter.last_order, unsent, meter.levels))
            unsent = None
        unsent = _counted(unsent, reading.value, unit)
        sent_value, sent_s = meter.sent_value, meter.sent_s
        if may_leave and worth:
            events.append(reported(result, order, unsent, levels.levels))
            unsent, sent_value, sent_s = None, reading.value, reading.time_s
        after = Meter(
            track=track,
            sent_value=sent_value,
            sent_s=sent_s,
            unsent=unsent if may_leave else None,
            last=result,
            last_s=reading.time_s,
            last_order=order,
            levels=levels.levels,
            states=of_states,
        )
        return ReadingAnswer(result, tuple(events), after)


def _band(stream: StreamSettings | None, unit: str) -> series.DeadBand:
    """Return the stream's own dead-band, or the default one for its unit."""
    usual = series.default_dead_band(unit)
    if stream is None or stream.deadband is None:
        return usual
    return series.DeadBand(absolute=stream.deadband, relative=0.0, heartbeat_s=usual.heartbeat_s)


def _counted(unsent: Report | None, value: float, unit: str) -> Report:
    """Return the next report with one more reading."""
    if unsent is None:
        return Report(value=value, unit=unit, count=1, total=value, low=value, high=value)
    return Report(
        value=value,
        unit=unit,
        count=unsent.count + 1,
        total=unsent.total + value,
        low=min(unsent.low, value),
        high=max(unsent.high, value),
    )
