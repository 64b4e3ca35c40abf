"""Which level each kind of record of an event has, and which rule said so.

The device asks before anything of an event leaves; a later tier asks again when its answer knows more (a person, a
species). Levels begin with what the settings say of the stream and are only ever raised: by the built-in `RULES` and
by the rules of the settings file. Of a stream that the file does not name nothing is known, so nothing but its answer
leaves the device.

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

from pipeline.messages import LEVELLED, Levels, Privacy, Result, Task
from pipeline.settings.hours import ALL_DAY, Hours, holds
from pipeline.settings.settings import RuleSettings, Settings, StreamSettings

PERSON: Final = "person"
"""The label that raises by itself, also where no threshold was asked."""

LOWEST: Final = Levels(*(Privacy.PUBLIC for _ in LEVELLED))
"""The lattice's bottom: joined with it, nothing is raised."""

UNNAMED: Final = "unnamed-stream"
NAMED: Final = "stream-settings"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a rule may look at."""

    source: str
    moment: dt.datetime | None
    """In the site's own time; None: no time that could be meant, and rules that ask for one hold."""
    path: tuple[str, ...]
    person: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """Where it holds, levels rise at least to its own."""

    name: str
    holds: Callable[[Seen], bool]
    levels: Levels
    reason: str


class Verdict(NamedTuple):
    """The levels of an event's records, and the names of the rules that they come from."""

    levels: Levels
    rules: tuple[str, ...]


RULES: Final = (
    Rule(
        "person-in-frame",
        lambda seen: seen.person or PERSON in seen.path,
        msgspec.structs.replace(
            LOWEST, pixels=Privacy.USER_PRIVATE, feature=Privacy.USER_PRIVATE, result=Privacy.EDGE_PRIVATE
        ),
        "a picture of a person, and what could tell persons apart, stays on its device",
    ),
)
"""Built in; the settings file adds its own and takes none away."""

ADVICE: Final = {
    Task.WILDLIFE: 'task = "wildlife"\npixels = "edge-private"\nfeature = "public"\nresult = "public"',
    Task.OCCUPANCY: 'task = "occupancy"\nreading = "edge-private"\nsummary = "public"',
    Task.METER: 'task = "meter"\nreading = "edge-private"\nsummary = "public"',
}
"""What the owner of a stream most often means, as the starter settings have it."""


class Policy:
    """The settings' and the built-in rules as one table; asking it is pure."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._zone = settings.zone
        self.rules = RULES + tuple(_from_settings(rule) for rule in settings.rules)

    def levels(
        self, source: str, time_s: float, *, path: tuple[str, ...] = (), person: bool = False
    ) -> Verdict:
        """The levels of an event.

        Parameters
        ----------
        source
            ``site/device/stream``.
        time_s
            When it was observed, seconds since the epoch.
        path
            The answer so far, from its kingdom on.
        person
            Whether a person may be in the frame, at the threshold that is made for this question.
        """
        stream = self._settings.stream(source)
        levels = (stream or StreamSettings()).levels
        seen = Seen(source, _local(time_s, self._zone), path, person)
        holding = [rule for rule in self.rules if rule.holds(seen)]
        for rule in holding:
            levels = levels.join(rule.levels)
        return Verdict(levels, (NAMED if stream else UNNAMED, *(rule.name for rule in holding)))

    def knows(self, source: str) -> bool:
        """Whether the settings name this stream: an edge on another machine may leave that to its devices."""
        return self._settings.stream(source) is not None

    def advice(self, source: str, task: Task = Task.WILDLIFE) -> str:
        """The lines of TOML that would name this stream, for the reason of an unnamed stream's result."""
        device_stream = source.partition("/")[2]
        return f'[streams."{device_stream}"]\n{ADVICE[task]}'


def within(result: Result, levels: Levels) -> Result:
    """The result without a reading's value where that is more private than the result itself."""
    if result.value is None or levels.reading.height <= result.privacy.height:
        return result
    return msgspec.structs.replace(result, value=None, unit=None)


def _from_settings(settings: RuleSettings) -> Rule:
    hours = Hours.parse(settings.hours) if settings.hours else ALL_DAY
    timed = bool(settings.hours or settings.weekdays)
    label = settings.label.casefold() if settings.label else None

    def matches(seen: Seen) -> bool:
        if timed and seen.moment is not None and not holds(hours, settings.weekdays, seen.moment):
            return False
        if label is not None and label not in (name.casefold() for name in seen.path):
            return False
        return (seen.person or not settings.person) and settings.names_stream(seen.source)

    raised = {kind.value: level for kind, level in settings.raise_.items()}
    return Rule(settings.name, matches, msgspec.structs.replace(LOWEST, **raised), settings.reason)


def _local(time_s: float, zone: dt.tzinfo) -> dt.datetime | None:
    try:
        return dt.datetime.fromtimestamp(time_s, zone)
    except (ValueError, OverflowError, OSError):
        return None
