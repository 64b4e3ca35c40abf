"""Decides the privacy level of each kind of record of an event, and names the rules that decided.

The device asks before any record of an event leaves; a later tier asks again when its answer knows more (a person, a
species). The levels begin with the stream's settings. The built-in `RULES` and the rules of the settings file only
raise them. For a stream without settings, only the answer leaves the device.

    >>> policy = Policy(Settings(streams={"home/cam1/garden": StreamSettings(feature=Privacy.PUBLIC)}))
    >>> policy.levels("home/cam1/garden", 0.0).levels.feature
    <Privacy.PUBLIC: 'public'>
    >>> verdict = policy.levels("home/cam1/garden", 0.0, person=True)
    >>> verdict.levels.feature, verdict.rules
    (<Privacy.USER_PRIVATE: 'user-private'>, ('stream-settings', 'person-in-frame'))
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from pipeline.messages import LEVELLED, Levels, Privacy, Rank, Result, Task
from pipeline.settings.hours import ALL_DAY, Hours, holds
from pipeline.settings.settings import RuleSettings, Settings, StreamSettings

PERSON: Final = "person"
"""The label that raises levels by itself, even without a person threshold."""

LOWEST: Final = Levels(*(Privacy.PUBLIC for _ in LEVELLED))
"""The lattice's bottom: a join with it raises nothing."""

KEPT: Final = "policy-keeps-reading"
"""The rule of an answer whose readings may not travel as far as it does."""

UNNAMED: Final = "unnamed-stream"
NAMED: Final = "stream-settings"


@dataclass(frozen=True, slots=True)
class RuleInput:
    """The facts that a rule may use."""

    source: str
    moment: dt.datetime | None
    """Time at the site. None for an impossible time: then rules with hours hold."""
    path: tuple[str, ...]
    person: bool
    damaged: bool = False
    """A part of the picture is missing, so nobody can say that no person is in it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: where it holds, levels rise at least to its own."""

    name: str
    holds: Callable[[RuleInput], bool]
    levels: Levels
    reason: str


class Verdict(NamedTuple):
    """The levels of an event's records, and the names of the rules that set them."""

    levels: Levels
    rules: tuple[str, ...]


OF_PERSONS: Final = msgspec.structs.replace(
    LOWEST, pixels=Privacy.USER_PRIVATE, feature=Privacy.USER_PRIVATE, result=Privacy.EDGE_PRIVATE
)
"""The lowest levels of a picture that shows a person, or may show one."""

RULES: Final = (
    Rule(
        "person-in-frame",
        lambda given: given.person or PERSON in given.path,
        OF_PERSONS,
        "a picture of a person, and a feature that could identify persons, stay on their device",
    ),
    Rule(
        "image-damaged",
        lambda given: given.damaged,
        OF_PERSONS,
        "a part of the picture is missing, and a person may be in that part",
    ),
)
"""The built-in rules; the settings file can add rules, but cannot remove these."""

ADVICE: Final = {
    Task.WILDLIFE: 'task = "wildlife"\npixels = "edge-private"\nfeature = "public"\nresult = "public"',
    Task.OCCUPANCY: 'task = "occupancy"\nreading = "edge-private"\nsummary = "public"',
    Task.METER: 'task = "meter"\nreading = "edge-private"\nsummary = "public"',
}
"""The usual settings of a stream, as in the starter settings."""


class Policy:
    """The built-in rules and those of the settings as one table. Pure."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._zone = settings.zone
        self.rules = RULES + tuple(_from_settings(rule) for rule in settings.rules)

    def levels(
        self, source: str, time_s: float, *, path: tuple[str, ...] = (), person: bool = False, damaged: bool = False
    ) -> Verdict:
        """Return the levels of an event.

        Parameters
        ----------
        source
            ``site/device/stream``.
        time_s
            When it was observed, seconds since the epoch.
        path
            The answer so far, from its kingdom on.
        person
            Whether a person may be in the frame, at the threshold for this question.
        damaged
            Whether a part of the picture is missing.
        """
        stream = self._settings.stream(source)
        levels = (stream or StreamSettings()).levels
        given = RuleInput(source, _local(time_s, self._zone), path, person, damaged)
        holding = [rule for rule in self.rules if rule.holds(given)]
        for rule in holding:
            levels = levels.join(rule.levels)
        return Verdict(levels, (NAMED if stream else UNNAMED, *(rule.name for rule in holding)))

    def knows(self, source: str) -> bool:
        """Return whether the settings name this stream; those of an edge on another machine may leave it out."""
        return self._settings.stream(source) is not None

    def advice(self, source: str, task: Task = Task.WILDLIFE) -> str:
        """Return the lines of TOML that would name this stream, for the reason in an unnamed stream's result."""
        device_stream = source.partition("/")[2]
        return f'[streams."{device_stream}"]\n{ADVICE[task]}'


def within(result: Result, levels: Levels, reason: str = "") -> Result:
    """Return an answer about readings with no more than its verdict, if the readings are more private than it.

    A value, its state, its distance from the usual and an exact probability would let a reading show through. So would
    the rule by which the device reports a change. `reason` replaces that of the answer.
    """
    if result.task is Task.WILDLIFE or levels.reading.height <= result.privacy.height:
        return result
    return msgspec.structs.replace(
        result,
        value=None,
        unit=None,
        forecast=None,
        label=result.path[0] if result.path else result.label,
        path=result.path[:1],
        probability=float(bool(result.path)),
        rule=KEPT if result.rank is Rank.STATE else result.rule,
        reason=reason or f"these readings are {levels.reading}: their answer says no more",
    )


def _from_settings(settings: RuleSettings) -> Rule:
    hours = Hours.parse(settings.hours) if settings.hours else ALL_DAY
    timed = bool(settings.hours or settings.weekdays)
    label = settings.label.casefold() if settings.label else None

    def matches(given: RuleInput) -> bool:
        if timed and given.moment is not None and not holds(hours, settings.weekdays, given.moment):
            return False
        if label is not None and label not in (name.casefold() for name in given.path):
            return False
        return (given.person or not settings.person) and settings.names_stream(given.source)

    raised = {kind.value: level for kind, level in settings.raise_.items()}
    return Rule(settings.name, matches, msgspec.structs.replace(LOWEST, **raised), settings.reason)


def _local(time_s: float, zone: dt.tzinfo) -> dt.datetime | None:
    try:
        return dt.datetime.fromtimestamp(time_s, zone)
    except (ValueError, OverflowError, OSError):
        return None
