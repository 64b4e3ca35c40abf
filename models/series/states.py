"""Online statistics of a stream of states (open, closed): how long each state lasts, and how often they change.

Pure, like `models.series.statistics`, whose robust track learns both: the logarithm of each state's durations, since
they differ by factors, and the number of changes in an hour. A reading is unusual if its state has lasted far longer
than it usually does, if it ends a state far sooner or later than usual, or if the hour has far more changes than usual.

    >>> track, verdict = observe(None, "closed", 0.0)
    >>> track, verdict = observe(track, "open", 90.0)
    >>> verdict.state, track.changes
    ('normal', 1)
"""

from __future__ import annotations

import math

import msgspec

from models.series import statistics as series
from pipeline.clock import hour_of


class StateTrack(msgspec.Struct, frozen=True):
    """The memory of a stream of states."""

    state: str
    since_s: float
    """Time of the first reading of this state without another one since."""
    changes: int = 0
    """Changes in the hour of the newest reading so far."""
    hour_s: float = 0.0
    durations: dict[str, series.Track] = {}
    """Logarithms of the completed durations of each state."""
    rate: series.Track | None = None
    """Changes in an hour."""


LEAST_LOG_SCALE = 0.25
"""Durations that differ by less than a quarter are alike."""


def observe(track: StateTrack | None, state: str, time_s: float) -> tuple[StateTrack, series.StateVerdict]:
    """Judge a reading by its stream's past, then learn from it. A late reading changes nothing."""
    hour_s = hour_of(time_s)
    if track is None or time_s < max(track.since_s, track.hour_s):
        verdict = series.StateVerdict("normal", 0.0, False)
        return track or StateTrack(state, time_s, hour_s=hour_s), verdict
    lasted, changes = math.log1p(time_s - track.since_s), track.changes
    of_state, durations, rate = track.durations.get(track.state), track.durations, track.rate
    if hour_s != track.hour_s:
        rate, changes = _hours(rate, track.hour_s, changes, hour_s), 0
    score = series.distance(of_state, lasted, LEAST_LOG_SCALE)
    if state != track.state:
        score, changes = abs(score), changes + 1
        durations = {**durations, track.state: series.observe(of_state, lasted, time_s)[0]}
    # Changes that are independent of each other spread by the root of their number (Poisson).
    score = max(0.0, score, series.distance(rate, changes, math.sqrt(max(1.0, rate.level if rate else 0.0))))
    after = StateTrack(state, track.since_s if state == track.state else time_s, changes, hour_s, durations, rate)
    warm = any(each is not None and each.count >= series.WARM_UP for each in (of_state, rate))
    return after, series.StateVerdict("unusual" if score > series.UNUSUAL_SCORE else "normal", score, warm)


def _hours(rate: series.Track | None, from_s: float, changes: int, until_s: float) -> series.Track:
    """Learn the changes of an hour that ended, and of the silent hours since, at most a day of them."""
    rate, _ = series.observe(rate, float(changes), from_s)
    for ahead in range(1, min(24, int((until_s - from_s) // series.HOUR_S))):
        rate, _ = series.observe(rate, 0.0, from_s + ahead * series.HOUR_S)
    return rate
