"""Turn sensors' reports into hours for the cloud and into answers about a room (vacant, occupied).

`agents.edge.room_windows` decides when to answer. This module keeps the reports and makes the answers.
"""

from __future__ import annotations

import msgspec

from agents.edge import room_windows
from agents.edge.resources import EdgeResources
from agents.edge.store import Context
from models.series.occupancy import OccupancyModel
from pipeline import clock, ids, messages
from pipeline.errors import Rejected
from pipeline.messages import (
    UNKNOWN,
    Envelope,
    Event,
    Kind,
    Privacy,
    Rank,
    Report,
    Result,
    Task,
    Tier,
)
from pipeline.privacy.policy import within
from pipeline.privacy.seal import seal
from pipeline.readings import FUTURE_MAX_S
from pipeline.spool import Item, Transaction


class Rooms:
    """Hours and windows of one site."""

    def __init__(
        self,
        resources: EdgeResources,
        model: OccupancyModel,
    ) -> None:
        self._settings = resources.settings
        self._policy = resources.policy
        self._store = resources.store
        self._keyring = resources.keyring
        self._series = resources.series
        self._clock = resources.clock
        self._model = model
        self._rooms: dict[str, room_windows.Room] = {}
        self._newest_s: dict[str, float] = {}

    def open(self) -> None:
        """Continue the windows as the store has them."""
        for name, end_s in self._store.rooms.ends().items():
            room = room_windows.Room(end_s)
            for source, newest_s in self._store.rooms.newest(name).items():
                room = room_windows.saw(room, source, newest_s, received_s=self._clock.monotonic())
            self._rooms[name] = room

    def take(self, item: Item, event: Event, report: Report) -> None:
        """Count a sensor's report into its hour and its room. The device's answer to it stands."""
        with self._store.transaction() as tx:
            self._count(event, report, tx)
            tx.finish(item)
        self._series.report(event, report)

    def _count(self, event: Event, report: Report, tx: Transaction) -> None:
        result = event.result
        time_s = clock.seconds(result.time)
        self._newest_s[result.source] = max(time_s, self._newest_s.get(result.source, time_s))
        before = self._store.rooms.hour(result.source, clock.hour_of(time_s), tx)
        hour = room_windows.tally(before.hour if before else None, report, time_s)
        levels = event.levels.join(before.levels) if before else event.levels
        self._store.rooms.keep_hour(result.source, hour, levels, tx, changed=True)
        if event.room is not None and report.unit in self._model.units:
            self._store.rooms.add_sample(event.room, result.source, report.unit, time_s, report.value, event.levels, tx)
            room, window_s, now_s = self._rooms.get(event.room), self._settings.edge.window_s, self._clock.now()
            if room is None or room_windows.is_ahead(room, window_s, now_s=now_s):
                room = room_windows.Room(room_windows.first_end(time_s, window_s))
                self._store.rooms.keep_end(event.room, room.end_s, tx)
                self._store.rooms.forget_ahead(event.room, now_s + FUTURE_MAX_S, tx)
            self._rooms[event.room] = room_windows.saw(room, result.source, time_s, received_s=self._clock.monotonic())

    # --- windows ---------------------------------------------------------------------------------------------

    def answer_windows(self) -> list[Result]:
        """Answer each window that can be answered now."""
        results = []
        for name in list(self._rooms):
            while room_windows.due(self._rooms[name], self._streams(name), now_s=self._clock.monotonic()):
                results.append(self._answer_window(name, self._rooms[name]))
        return results

    def _answer_window(self, name: str, room: room_windows.Room) -> Result:
        """Answer a window as vacant or occupied: an event of its own, with an id made of room and window.

        It is as private as the most private report in it, and as policy demands at the window's start and end.
        """
        settings, end_s = self._settings, room.end_s
        started_s = self._clock.now()
        sources = sorted(self._streams(name))
        samples, levels = self._store.rooms.window(name, end_s, self._model.window_s)
        for source in sources:
            for moment_s in (end_s - settings.edge.window_s, end_s):
                levels = levels.join(self._policy.levels(source, moment_s).levels)
        units = ", ".join(sorted(samples))
        try:
            scores = self._model.predict(samples, end_s)
            label, probability = scores.best
            rule, reason = "window-answered", f"{settings.edge.window_s:g} s of {units}"
        except Rejected as error:
            label, probability, rule, reason = UNKNOWN, 0.0, error.reason, str(error)
        result = Result(
            event=ids.derived(end_s, settings.site, name, f"{end_s:.0f}"),
            time=clock.rfc3339(end_s),
            site=settings.site,
            device=sources[0].split("/")[1],
            stream=name,
            sighting=None,
            task=Task.OCCUPANCY,
            tier=Tier.EDGE,
            revision=1,
            pending=None,
            rank=Rank.ACTIVITY,
            label=label,
            path=(label,) if label != UNKNOWN else (),
            probability=round(probability, 4),
            privacy=levels.result,
            rule=rule,
            reason=reason,
            model=self._model.name,
            latency_ms=round((self._clock.now() - started_s) * 1000, 1),
            room=name,
        )
        result = within(result, levels)
        with self._store.transaction() as tx:
            # Within the transaction, as `_count` is, so that no report slips in between.
            first_later_s = self._store.rooms.first_sample(name, end_s, tx)
            after = room_windows.advance(self._rooms[name], settings.edge.window_s, first_later_s=first_later_s)
            self._rooms[name] = after
            self._store.send_result(result, tx)
            self._store.keep(result, Context(started_s, levels, Rank.ACTIVITY), tx)
            self._store.rooms.keep_end(name, after.end_s, tx)
            self._store.rooms.forget_samples(name, end_s - self._model.window_s, tx)
        return result

    def _streams(self, name: str) -> frozenset[str]:
        """Return the streams of a room: those that the settings name, or a pattern; else all that reported."""
        settings, units = self._settings, self._model.units
        reported = self._rooms[name].newest_s
        by_pattern = {source: stream for source in reported if (stream := settings.stream(source))}
        named = frozenset(
            source
            for source, stream in (settings.named_streams | by_pattern).items()
            if stream.room == name and stream.task is Task.OCCUPANCY and (stream.unit is None or stream.unit in units)
        )
        return named or frozenset(reported)

    # --- hours -----------------------------------------------------------------------------------------------

    def send_hours(self) -> None:
        """Send the summaries of finished hours to the cloud, if policy lets them leave."""
        now_s = self._clock.now()
        for seen in self._store.rooms.changed_hours():
            start_s = seen.hour.start_s
            if not room_windows.hour_is_over(start_s, self._newest_s.get(seen.source, start_s), now_s):
                continue
            with self._store.transaction() as tx:
                # Read again, since a report may have been counted meanwhile.
                source, hour, levels = self._store.rooms.hour(seen.source, start_s, tx) or seen
                envelope = self._summary(source, hour, levels.summary)
                published = msgspec.structs.replace(hour, published=hour.published + 1)
                if envelope is not None:
                    self._store.send_up(envelope, tx)
                self._store.rooms.keep_hour(source, published, levels, tx, changed=False)

    def _summary(self, source: str, hour: room_windows.Hour, level: Privacy) -> Envelope | None:
        """Return the hour as it may leave: in the clear or sealed; None if it must stay."""
        stream = self._settings.stream(source)
        text = clock.rfc3339(hour.start_s)
        task = stream.task if stream else Task.METER
        envelope = Envelope(
            event=ids.derived(hour.start_s, source, "hour"),
            kind=Kind.SUMMARY,
            privacy=level,
            key="/".join(source.split("/")[:2]),
            payload=messages.encode(room_windows.summary(hour, text, task, stream.room if stream else None)),
            source=source,
            time=text,
            revision=hour.published + 1,
        )
        if level is Privacy.PUBLIC:
            return envelope
        if level is Privacy.EDGE_PRIVATE and level in self._settings.uplink.sealed and self._keyring.site is not None:
            return seal(envelope, self._keyring.site)
        return None
