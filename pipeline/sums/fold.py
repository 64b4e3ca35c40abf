"""The fold: adds labelled features to sums, each event once; any event can be taken out again.

The offsets that the fold has read and the sums change in one SQLite transaction. So after a kill, a rebalance or a
replay no event counts twice and none is missing: whatever the order and the batches of the records, the sums are, bit
for bit, those over the latest labels of all events::

    labelled # 3/17: e1 {ann: cat}           e1 adds its vector to (home, cat)
    labelled # 3/18: e1 {ann: cat, bob: fox} disputed: e1 is taken out of (home, cat)
    sums     # 3/4:  home 1, 60 events       once, under its number

The trainer has a fold over the public events of all sites. `source`, `partition` and `offset` name a record::

    fold = Fold(path, "lite0-9f3c", dimension=256, place=Placing(tree))
    for refused in fold.take([FoldRecord("tierwise.labelled", 3, 17, labelled)]):
        log.warning("refused", reason=refused.reason)
    fold.snapshot().learned              # Sums over all sites; .sites: by site; .ranges: the records it was made of
    fold.forget(device="home/cam1")      # takes it out for good, even if its records are read again

`votes.held_out` decides whether an event teaches or judges. Judges are kept apart and are never in `learned`.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from pipeline.errors import Rejected
from pipeline.messages import Labelled, SumIncrement
from pipeline.sums.fold_file import (
    DISPUTED,
    JUDGES,
    SHARED,
    SILENT,
    STANDS,
    TAUGHT,
    UNPLACED,
    EventRow,
    FoldFile,
    vectors_of,
)
from pipeline.sums.fold_records import FoldRecord, FoldRefusal, Judge, SiteContribution, Snapshot
from pipeline.sums.new_labels import Place, Places, find_places
from pipeline.sums.packing import unpack
from pipeline.sums.sums import SpaceMismatch, Sums
from pipeline.sums.votes import held_out, majority

_Delta = dict[tuple[str, str], tuple[list[EventRow], list[EventRow]]]
"""Events to add and events to take out, by site and part."""


class Fold:
    """The fold in one file. Thread-safe."""

    def __init__(self, path: Path, space: str, dimension: int, place: Place) -> None:
        """Open or create the file. Raises `SpaceMismatch` if it is of another space, `Stop` if it cannot be used."""
        self.space = space
        self.dimension = dimension
        self._place = place
        self._file = FoldFile(path)
        try:
            with self._file.transaction():
                if (known := self._file.about("space")) not in ("", space):
                    raise SpaceMismatch(
                        f"{path} holds events of {known}, not of {space}: move it away, and a new file begins"
                    )
                self._file.set_about("space", space)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    # --- in ------------------------------------------------------------------------------------------------------

    def take(self, entries: Iterable[FoldRecord]) -> list[FoldRefusal]:
        """Take records in, except those taken before. Return the records that do not count, and why.

        All changes and the offsets are committed together, or nothing is: the same records may be taken again.
        """
        refused: list[FoldRefusal] = []
        labelled: dict[str, FoldRecord] = {}
        with self._file.transaction():
            delta: _Delta = defaultdict(lambda: ([], []))
            for entry in entries:
                if entry.offset < self._file.next(entry.source, entry.partition):
                    continue
                try:
                    if isinstance(entry.message, Labelled):
                        self._label(entry.message, delta)
                        labelled[entry.message.event] = entry
                    elif isinstance(entry.message, SumIncrement):
                        self._add_shared(entry.site, entry.message)
                except Rejected as error:
                    refused.append(FoldRefusal(entry, error.reason, str(error)))
                self._file.took(entry.source, entry.partition, entry.offset)
            places = self._settle(delta)
            for event, entry in labelled.items():
                row = self._file.event(event)
                if row and row.state == UNPLACED:
                    why = places.complaints[row.label, row.under]
                    refused.append(FoldRefusal(entry, why.reason, f"{row.source}, event {event}: {why}"))
        return refused

    def next(self, source: str, partition: int) -> int:
        """Return the offset to read next."""
        with self._file.transaction():
            return self._file.next(source, partition)

    def rewind(self, source: str, partition: int) -> None:
        """Start a partition from its beginning, after its topic was created anew; revisions prevent double counts."""
        with self._file.transaction():
            self._file.rewind(source, partition)

    def _label(self, labelled: Labelled, delta: _Delta) -> None:
        names = labelled.source.split("/")
        if len(names) != 3 or not labelled.event:
            raise Rejected("malformed", "a labelled feature names its event, and its source as site/device/stream")
        site, device, _ = names
        if self._file.is_forgotten((("event", labelled.event), ("device", f"{site}/{device}"), ("site", site))):
            raise Rejected("forgotten", f"{labelled.source}, event {labelled.event}: was taken out for good")
        if labelled.space != self.space or len(labelled.data) != self.dimension:
            raise SpaceMismatch(
                f"{labelled.source}, event {labelled.event}: {len(labelled.data)} bytes of {labelled.space}; "
                f"this fold holds {self.dimension} of {self.space}"
            )
        before = self._file.event(labelled.event)
        if before and before.source != labelled.source:
            raise Rejected(
                "source-mismatch",
                f"event {labelled.event} belongs to {before.source}; {labelled.source} cannot change it",
            )
        if before and labelled.revision <= before.revision:
            return
        found = majority(labelled.votes)
        known = found.label is None or self._place.knows(found.label)
        row = EventRow(
            event=labelled.event,
            source=labelled.source,
            site=site,
            device=device,
            time=labelled.time,
            path="/".join(labelled.path),
            revision=labelled.revision,
            vector=labelled.data,
            votes=msgspec.msgpack.encode(labelled.votes),
            # Events of a new label count once the label has a place in the tree.
            state=(STANDS if known else UNPLACED) if found.label else DISPUTED if found.disputed else SILENT,
            label=found.label or " | ".join(found.disputed),
            part=JUDGES if held_out(labelled.event) else TAUGHT,
            known=known,
            under="" if known else found.under,
            english="" if known else found.english,
            change=int(self._file.about("changes") or 0) + 1,
        )
        self._file.put(row)
        _move(before, row, delta)

    def _add_shared(self, site: str, increment: SumIncrement) -> None:
        where = f"sums {increment.number} of {site or 'no site'}"
        if not site or increment.number < 1:
            raise Rejected("malformed", f"{where}: a site numbers its increments from 1 on")
        if self._file.is_forgotten((("site", site),)):
            raise Rejected("forgotten", f"{where}: {site} was taken out for good")
        if increment.space != self.space:
            raise SpaceMismatch(f"{where}: of {increment.space}; this fold holds {self.space}")
        sha256 = hashlib.sha256(msgspec.msgpack.encode(increment)).digest()
        if known := self._file.increment(site, increment.number):
            if known != sha256:
                raise Rejected(
                    "number-taken",
                    f"{where}: another increment has this number already; this one does not count",
                )
            return
        sums = unpack(increment.sums, self.dimension)
        if sums.space != self.space:
            raise SpaceMismatch(f"{where}: states {increment.space}, but its sums are of {sums.space}")
        counted = {label: int(count) for label, count in zip(sums.labels, sums.counts, strict=True) if count}
        if len(dict(increment.counts)) != len(increment.counts) or dict(increment.counts) != counted:
            raise Rejected("counts-mismatch", f"{where}: states {dict(increment.counts)}, but its sums hold {counted}")
        under = self._places_of({label for label in counted if not self._place.knows(label)}, increment)
        total = _joined(self.space, self.dimension, [self._file.sums(site, SHARED), sums])
        self._file.set_sums(site, SHARED, total)
        self._file.add_increment(site, increment.number, sha256, sums.events)
        for label, where_to in under.items():
            self._file.add_shared_new_label(site, label, where_to, counted[label])
        self._changed(1)

    def _places_of(self, new: set[str], increment: SumIncrement) -> dict[str, str]:
        """Return the places of labels that the shipped tree lacks: as the increment states, or as the fold knows them.

        The places are noted for the site, so its sums keep them even after the events that brought the label are gone.
        """
        rows = {row.label: f"{row.kingdom}/{row.family}" for row in self._file.new_labels()}
        under = {label: dict(increment.under).get(label) or rows.get(label, "") for label in sorted(new)}
        for label, where_to in under.items():
            self._place(label, where_to, "", ())
        return under

    # --- out again -----------------------------------------------------------------------------------------------

    def forget(self, *, event: str = "", device: str = "", site: str = "") -> int:
        """Take an event, a device (``site/device``) or a site out for good. Return how many events left the sums.

        Forgetting a site removes the sums that it shared, too. A single event or device cannot be taken out of shared
        sums: only the site knows their events.
        """
        kind, name = next(
            ((kind, name) for kind, name in (("event", event), ("device", device), ("site", site)) if name),
            ("", ""),
        )
        if not kind:
            raise Rejected("nothing-named", "name the event, the device (site/device) or the site to forget")
        if kind == "device" and device.count("/") != 1:
            raise Rejected("malformed", f'"{device}" is not a device; write site/device, as "home/cam1"')
        where = dict(zip(("site", "device"), name.split("/"), strict=True)) if kind == "device" else {kind: name}
        with self._file.transaction():
            before = self._all_events()
            self._file.forget(kind, name)
            delta: _Delta = defaultdict(lambda: ([], []))
            for row in self._file.events(**where):
                _move(row, None, delta)
                self._file.drop(row.event)
            if site and self._file.drop_increments(site):
                self._file.drop_sums(site, SHARED)
                self._changed(1)
            self._settle(delta)
            return before - self._all_events()

    def forgotten(self) -> list[tuple[str, str]]:
        """Return kind (event, device, site) and name of everything that was taken out for good."""
        with self._file.transaction():
            return self._file.forgotten()

    # --- looking -------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Return everything in the fold at one moment."""
        with self._file.transaction():
            counts = self._file.counts()
            sites = {
                site: _joined(self.space, self.dimension, [self._file.sums(site, part) for part in (TAUGHT, SHARED)])
                for site in sorted({site for site, part, _, _ in counts if part != JUDGES})
            }
            judges = [row for row in self._file.events(state=STANDS) if row.part == JUDGES]
            return Snapshot(
                space=self.space,
                learned=_joined(self.space, self.dimension, list(sites.values())),
                sites=sites,
                judges=tuple(Judge(row.event, row.source, row.label) for row in judges),
                vectors=vectors_of(judges, self.dimension),
                new_labels=self._file.new_labels(),
                shares=tuple(self._share(site, counts) for site in sorted({site for site, *_ in counts})),
                ranges=self._file.ranges(),
                changes=int(self._file.about("changes") or 0),
            )

    def changes(self) -> int:
        """Return `Snapshot.changes` without the cost of a snapshot."""
        with self._file.transaction():
            return int(self._file.about("changes") or 0)

    def events(self) -> dict[str, int]:
        """Return the number of events by label, judges included."""
        counts: dict[str, int] = defaultdict(int)
        with self._file.transaction():
            for _, _, label, events in self._file.counts():
                counts[label] += events
        return dict(counts)

    def since(self, changes: int) -> list[tuple[str, tuple[str, ...]]]:
        """Return label and earlier answer (a path) of events that changed after this number of changes."""
        with self._file.transaction():
            return [(label, tuple(path.split("/")) if path else ()) for label, path in self._file.since(changes)]

    def undecided(self) -> dict[str, list[EventRow]]:
        """Return the events that do not count, by state: ``disputed`` and ``unplaced``."""
        with self._file.transaction():
            return {state: [*self._file.events(state=state)] for state in (DISPUTED, UNPLACED)}

    def _share(self, site: str, counts: Sequence[tuple[str, str, str, int]]) -> SiteContribution:
        events: dict[str, int] = defaultdict(int)
        for of_site, _, label, count in counts:
            if of_site == site:
                events[label] += count
        ids = [row.event for row in self._file.events(site=site, state=STANDS)]
        return SiteContribution(site, dict(events), ids[0] if ids else "", ids[-1] if ids else "")

    def _all_events(self) -> int:
        return sum(events for *_, events in self._file.counts())

    # --- sums ----------------------------------------------------------------------------------------------------

    def _settle(self, delta: _Delta) -> Places:
        """Update the sums for changed events, after settling the places of new labels."""
        places = find_places(self._file.claims(), self._place)
        self._file.set_new_labels(places.rows)
        for event, state, label, under in self._file.new_label_events():
            settled = STANDS if places.counts(label, under) else UNPLACED
            if settled != state and (row := self._file.event(event)):
                after = row._replace(state=settled)
                self._file.put(after)
                _move(row, after, delta)
        changes = 0
        for (site, part), (added, taken_out) in delta.items():
            changes += len(added) + len(taken_out)
            total = _joined(self.space, self.dimension, [self._file.sums(site, part)], [*added, *taken_out])
            if added:
                total = total.merge(self._of(added, total.labels))
            if taken_out:
                total = total.subtract(self._of(taken_out, total.labels))
            self._file.set_sums(site, part, total)
        if changes:
            self._changed(changes)
        return places

    def _of(self, rows: Sequence[EventRow], labels: Sequence[str]) -> Sums:
        columns = {label: at for at, label in enumerate(labels)}
        empty = Sums.empty(self.space, self.dimension, labels)
        return empty.add(vectors_of(rows, self.dimension), [columns[row.label] for row in rows])

    def _changed(self, count: int) -> None:
        self._file.set_about("changes", str(int(self._file.about("changes") or 0) + count))


def _move(before: EventRow | None, after: EventRow | None, delta: _Delta) -> None:
    """Note what to take out of the sums and what to add for a changed event."""
    before = before if before and before.state == STANDS else None
    after = after if after and after.state == STANDS else None
    if before and after and (before.label, before.vector) == (after.label, after.vector):
        return
    if before:
        delta[before.site, before.part][1].append(before)
    if after:
        delta[after.site, after.part][0].append(after)


def _joined(space: str, dimension: int, parts: Sequence[Sums | None], rows: Sequence[EventRow] = ()) -> Sums:
    """Merge these sums, with columns also for the labels of `rows`, in the order of the labels."""
    held = [part for part in parts if part is not None]
    labels = sorted({label for part in held for label in part.labels} | {row.label for row in rows})
    total: Sums | None = None
    for part in held:
        same = part if list(part.labels) == labels else part.with_labels(labels)
        total = total.merge(same) if total else same
    return total or Sums.empty(space, dimension, labels)
