"""What the cloud makes of public hourly summaries: is this hour usual for its weekday and time, and what comes tomorrow?

The truth is the compacted topic of summaries; this keeps what was read of it and can be filled again at any time, so a
cloud agent needs no database. Hours that come again, revised or repeated, replace themselves.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from models.series import statistics as series
from pipeline import clock, ids
from pipeline.errors import Rejected
from pipeline.messages import UNKNOWN, Forecast, Privacy, Rank, Result, Tier
from pipeline.records import HourlySummary

MODEL = "hour-of-week@1"
"""Name of the method in `models.series.statistics`, as results carry it."""

HOUR_S = 3600.0
WEEKS_KEPT = 12
"""Older hours say little about today: seasons turn."""


@dataclass(slots=True)
class History:
    """One stream's hours, and the profile learned from those before `until_s`."""

    means: dict[float, float] = field(default_factory=dict)
    profile: series.Profile = field(default_factory=series.Profile.empty)
    until_s: float = 0.0


class Patterns:
    """Profiles of all streams whose summaries this agent reads."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._histories: dict[str, History] = {}

    def fill(self, summaries: Iterable[HourlySummary]) -> None:
        """Take in what was told before, in any order."""
        for summary in summaries:
            self._keep(summary)

    def follows(self, summary: HourlySummary) -> bool:
        """Whether the hour before this one is known, or this is the stream's first: else some were read by others."""
        history = self._histories.get(summary.source)
        start_s = clock.seconds(summary.hour)
        return history is not None and start_s - HOUR_S in history.means

    def answer(self, summary: HourlySummary, started_s: float, now_s: float) -> Result:
        """Judge one hour by the hours before it; the day's last hour brings tomorrow's forecast.

        Parameters
        ----------
        started_s, now_s
            When the summary was received, and now (UTC seconds), for the latency.
        """
        start_s = clock.seconds(summary.hour)
        history = self._keep(summary)
        profile = self._profile_before(history, start_s)
        offset_s = self._offset_s(start_s)
        verdict = series.judge_hour(profile, int(start_s), summary.mean, offset_s)
        site, device, stream = summary.source.split("/")
        label = verdict.pattern
        probability = verdict.scores.best[1] if label != UNKNOWN else 0.0
        return Result(
            event=ids.derived(start_s, summary.source, "hour"),
            time=summary.hour,
            site=site,
            device=device,
            stream=stream,
            sighting=None,
            task=summary.task,
            tier=Tier.CLOUD,
            revision=summary.revision,
            pending=None,
            rank=Rank.PATTERN,
            label=label,
            path=(label,) if label != UNKNOWN else (),
            probability=round(probability, 4),
            privacy=Privacy.PUBLIC,
            rule="hour-of-week" if label != UNKNOWN else "too-few-weeks",
            reason=_reason(verdict, summary),
            model=MODEL,
            latency_ms=round((now_s - started_s) * 1000, 1),
            value=round(summary.mean, 4),
            unit=summary.unit,
            room=summary.room,
            forecast=self._forecast(history, start_s),
        )

    def _keep(self, summary: HourlySummary) -> History:
        history = self._histories.setdefault(summary.source, History())
        start_s = clock.seconds(summary.hour)
        if start_s < history.until_s and history.means.get(start_s) != summary.mean:
            history.profile, history.until_s = series.Profile.empty(), 0.0
        history.means[start_s] = summary.mean
        oldest_s = max(history.means) - WEEKS_KEPT * 7 * 24 * HOUR_S
        for old_s in [s for s in history.means if s < oldest_s]:
            del history.means[old_s]
        return history

    def _profile_before(self, history: History, start_s: float) -> series.Profile:
        """What the hours before this one teach; goes on from what was learned so far where it can."""
        if history.until_s > start_s:
            history.profile, history.until_s = series.Profile.empty(), 0.0
        for hour_s in sorted(s for s in history.means if history.until_s <= s < start_s):
            history.profile = series.learn(
                history.profile, int(hour_s), history.means[hour_s], self._offset_s(hour_s)
            )
        history.until_s = start_s
        return history.profile

    def _forecast(self, history: History, start_s: float) -> Forecast | None:
        """Tomorrow's hours, once a day: with the local day's last hour."""
        next_s = start_s + HOUR_S
        if dt.datetime.fromtimestamp(next_s, self._zone).hour != 0:
            return None
        profile = self._profile_before(history, next_s)
        try:
            told = series.forecast(profile, int(next_s), 24, self._offset_s(next_s))
        except Rejected:  # a stream's first day tells nothing of the next one yet
            return None
        return Forecast(
            start=clock.rfc3339(next_s),
            mean=tuple(round(float(v), 3) for v in told.values),
            low=tuple(round(float(v), 3) for v in told.low),
            high=tuple(round(float(v), 3) for v in told.high),
        )

    def _offset_s(self, moment_s: float) -> int:
        offset = dt.datetime.fromtimestamp(moment_s, self._zone).utcoffset()
        return int(offset.total_seconds()) if offset else 0


def _reason(verdict: series.PatternVerdict, summary: HourlySummary) -> str:
    if verdict.pattern == UNKNOWN:
        return f"{verdict.weeks} weeks of this hour are too few to tell"
    return (
        f"mean {summary.mean:.4g} {summary.unit}, usually {verdict.low:.4g} to {verdict.high:.4g} "
        f"at this hour ({verdict.weeks} weeks)"
    )
