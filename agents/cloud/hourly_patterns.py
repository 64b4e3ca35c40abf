"""Judge public hourly summaries against the usual course of their weekday, and forecast the next day.

The compacted topic of summaries is the only store; `Patterns` holds a copy in memory that can be filled again at any
time, so a cloud agent needs no database. A revised or repeated hour replaces the earlier one.
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
"""Name of the method in `models.series.statistics`, carried by each result."""

HOUR_S = 3600.0
WEEKS_KEPT = 12
"""Older hours are forgotten, since seasons change."""


@dataclass(slots=True)
class History:
    """The hourly means of one stream, and the profile learned from the hours before `until_s`."""

    means: dict[float, float] = field(default_factory=dict)
    profile: series.Profile = field(default_factory=series.Profile.empty)
    until_s: float = 0.0


class Patterns:
    """The profiles of all streams whose summaries this agent reads."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._histories: dict[str, History] = {}

    def fill(self, summaries: Iterable[HourlySummary]) -> None:
        """Add past summaries, in any order."""
        for summary in summaries:
            self._keep(summary)

    def follows(self, summary: HourlySummary) -> bool:
        """Return whether the hour before this one is known. If not, another agent may have read earlier hours."""
        history = self._histories.get(summary.source)
        start_s = clock.seconds(summary.hour)
        return history is not None and start_s - HOUR_S in history.means

    def answer(self, summary: HourlySummary, started_s: float, now_s: float) -> Result:
        """Judge one hour by the hours before it. The last hour of a day carries tomorrow's forecast.

        Parameters
        ----------
        started_s, now_s
            Receipt of the summary, and now, in UTC seconds; for the latency.
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
        """Return the profile of the hours before this one, continuing from the stored profile where possible."""
        if history.until_s > start_s:
            history.profile, history.until_s = series.Profile.empty(), 0.0
        for hour_s in sorted(s for s in history.means if history.until_s <= s < start_s):
            history.profile = series.learn(history.profile, int(hour_s), history.means[hour_s], self._offset_s(hour_s))
        history.until_s = start_s
        return history.profile

    def _forecast(self, history: History, start_s: float) -> Forecast | None:
        """Return tomorrow's forecast for the last hour of a local day, else None."""
        next_s = start_s + HOUR_S
        if dt.datetime.fromtimestamp(next_s, self._zone).hour != 0:
            return None
        profile = self._profile_before(history, next_s)
        try:
            tomorrow = series.forecast(profile, int(next_s), 24, self._offset_s(next_s))
        except Rejected:  # one day is too little for a forecast
            return None
        return Forecast(
            start=clock.rfc3339(next_s),
            mean=tuple(round(float(v), 3) for v in tomorrow.values),
            low=tuple(round(float(v), 3) for v in tomorrow.low),
            high=tuple(round(float(v), 3) for v in tomorrow.high),
        )

    def _offset_s(self, moment_s: float) -> int:
        offset = dt.datetime.fromtimestamp(moment_s, self._zone).utcoffset()
        return int(offset.total_seconds()) if offset else 0


def _reason(verdict: series.PatternVerdict, summary: HourlySummary) -> str:
    if verdict.pattern == UNKNOWN:
        return f"{verdict.weeks} weeks of this hour are too few for a pattern"
    return (
        f"mean {summary.mean:.4g} {summary.unit}, usually {verdict.low:.4g} to {verdict.high:.4g} "
        f"at this hour ({verdict.weeks} weeks)"
    )
