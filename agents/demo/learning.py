"""Drives `tierwise demo learning`: a stack whose first model lacks some species, photos of them, labels over MQTT, and the same photos again.

::

    photos ──MQTT──> answers (before) ──labels by MQTT──> join ──> trainer ──> signed release ──> edge, cloud ──> answers (after)

Everything is as in production: the roles are the real ones, nothing is started again, and what is told is read from the site's broker.
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from agents.client.connection import Inbox, at_site
from agents.client.publishing import WINDOW, Item, Publishing, State
from agents.demo.lessons import BEFORE, Amounts, Photo, Photos, chosen
from agents.demo.run import free_ports
from agents.demo.worth import LAST, Share, Worth, nearest_mean, share
from agents.rollout.promoted_store import ServingFiles
from agents.up.plan import ROLE_NAMES, plan
from agents.up.supervisor import News, Supervisor
from models.heads.release import HeadRelease
from models.releases.targets import MODEL
from models.shipped import load_zoo
from models.vision import images
from pipeline import messages, topics
from pipeline.errors import Stop
from pipeline.messages import Ack, Label, Malformed, Result, Tier
from pipeline.mqtt import Connection
from pipeline.privacy import gate
from pipeline.settings.settings import Settings

if TYPE_CHECKING:
    from models.train.pictures.data import Pack

DEVICE: Final = "cam1"
STREAMS: Final = tuple(f"photos{number}" for number in range(WINDOW))
"""As many as photos are under way at once: two of one stream that are committed in one millisecond would be one sighting."""

PERSON: Final = "demo"

READY_WITHIN_S: Final = 60.0
ANSWERED_WITHIN_S: Final = 600.0
"""For all photos of a pass: a device takes some 20 a second where it has a core of its own, and far fewer where it has not."""
LABELS_WITHIN_S: Final = 60.0
LEARNED_WITHIN_S: Final = 180.0
REPEAT_S: Final = 5.0
LABELS_AT_ONCE: Final = 40

SETTINGS: Final = """\
site = "home"
data = "data"
zoo = {zoo}

[mqtt]
address = "embedded"
port = {mqtt}

[kafka]
address = "embedded"
port = {kafka}

[device]
backbone = "on"
sighting_gap_s = 0.001        # every photo is of another animal
still_s = 0.001
person_hold_s = 0             # and a person in one photo says nothing of the next

[edge]
cloud_deadline_s = 60
asks_a_day = 0
learn = false                 # what is shown is the release that every site gets; a site's own learning would answer before it

[trainer]
labels = {labels}             # train as soon as this many events are labelled
canary_s = {canary_s}

[http]
{http}
"""

STREAM: Final = """
[streams."{device}/{stream}"]
task = "wildlife"
wants = "species"
pixels = "edge-private"
feature = "public"
result = "public"
reason = "photos of animals and plants, published to be learned from"
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the person asked for."""

    folder: Path
    amounts: Amounts
    canary_s: float


def settings_for(asked: Asked, labels: int) -> Path:
    """Write the stack's settings; what is in the folder is replaced."""
    if asked.folder.exists():
        shutil.rmtree(asked.folder)
    asked.folder.mkdir(parents=True)
    ports = free_ports()
    text = SETTINGS.format(
        zoo=msgspec.json.encode(str(BEFORE)).decode(),
        mqtt=next(ports),
        kafka=next(ports),
        labels=labels,
        canary_s=asked.canary_s,
        http="\n".join(f"{role} = 0" for role in ROLE_NAMES),
    )
    text += "".join(STREAM.format(device=DEVICE, stream=stream) for stream in STREAMS)
    file = asked.folder / "tierwise.toml"
    file.write_text(text, "utf-8")
    return file


@dataclass(frozen=True, slots=True)
class Answered:
    """A photo's event, and the newest answer of each tier."""

    item: Item
    by_tier: dict[str, Result]

    def by(self, tier: str) -> Result | None:
        """Of a tier, or the last word of all."""
        return self.item.answer if tier == LAST else self.by_tier.get(tier)


class Learning:
    """One run. `stage` tells where it is; nothing here prints."""

    def __init__(
        self, asked: Asked, pack: Pack, tell: Callable[[News], None], stage: Callable[[str], None]
    ) -> None:
        zoo = load_zoo(BEFORE)
        self.photos: Photos = chosen(pack, zoo.tree, asked.amounts)
        self._zoo = zoo
        self._asked = asked
        self._wanted = asked.amounts.labels * len(self.photos.new_species)
        file = settings_for(asked, self._wanted)
        self.settings = Settings.load(file)
        self._stage = stage
        self._supervisor = Supervisor(self.settings, file, plan(self.settings, file), tell)

    def start(self) -> None:
        """Start brokers and roles. Raises `Stop` where they cannot be."""
        self._supervisor.start()
        if not self._supervisor.wait_ready(READY_WITHIN_S):
            raise Stop(f"not everything was ready: see {self.settings.data_dir / 'logs'}")

    def stop(self) -> None:
        self._supervisor.stop()

    def run(self) -> Worth:
        """Publish, label, wait until what was learned serves, publish again.

        Raises
        ------
        Stop
            Something did not happen in its time; the text says what, and which log to read.
        """
        with at_site(self.settings, "learning", [f"{topics.ROOT}/{self.settings.site}/#"]) as (
            connection,
            inbox,
        ):
            self._stage("publishing photos of species that no tier has met")
            lessons = self._answered(connection, inbox, self.photos.to_label)
            tests = self._answered(connection, inbox, self.photos.tests)
            self._stage(f"labelling {self._wanted} of them over MQTT")
            labelled = self._label(connection, inbox, lessons)
            began_s = time.monotonic()
            self._stage("waiting for the trainer, the canary and the promotion")
            served = self._wait_served(inbox)
            learned_s = time.monotonic() - began_s
            self._stage("publishing the same photos again")
            again = self._answered(connection, inbox, self.photos.tests)
            return self._worth(labelled, lessons, tests, again, learned_s, served)

    # --- photos ------------------------------------------------------------------------------------------------

    def _answered(self, connection: Connection, inbox: Inbox, photos: Sequence[Photo]) -> list[Answered]:
        """Publish photos; come back when each has its last word."""
        streams = [topics.frame(self.settings.site, DEVICE, stream) for stream in STREAMS]
        items = [
            Item(photo.species, topic, photo.jpeg)
            for photo, topic in zip(photos, itertools.cycle(streams), strict=False)
        ]
        publishing = Publishing(items)
        told: dict[int, dict[str, Result]] = {id(item): {} for item in items}
        until_s = time.monotonic() + ANSWERED_WITHIN_S
        while not publishing.is_done():
            now_s = time.monotonic()
            if now_s > until_s:
                left = sum(item.state in (State.WAITING, State.ANSWERING) for item in publishing.items)
                raise Stop(
                    f"{left} of {len(photos)} photos have no last word: see {self.settings.data_dir / 'logs'}"
                )
            for item in publishing.to_publish(now_s):
                connection.wait_writable(1.0)
                connection.publish(gate.clear_capture(item.topic, item.payload))
                item.published_s = now_s
            for message in inbox.take(0.05):
                for item, result in publishing.hear(message.topic, message.payload):
                    if result is not None:
                        told[id(item)][result.tier] = result
        return [Answered(item, told[id(item)]) for item in items]

    # --- labels ------------------------------------------------------------------------------------------------

    def _label(self, connection: Connection, inbox: Inbox, lessons: Sequence[Answered]) -> dict[str, str]:
        """Label as many events of each new species as were asked for; event to label. Those come first whose features left."""
        by_species: dict[str, list[tuple[Photo, Item]]] = {}
        for photo, answered in zip(self.photos.to_label, lessons, strict=True):
            if Tier.EDGE in answered.by_tier:
                by_species.setdefault(photo.species, []).append((photo, answered.item))
        waiting: dict[str, Label] = {}
        for species in self.photos.new_species:
            found = by_species.get(species, [])[: self._asked.amounts.labels]
            if len(found) < self._asked.amounts.labels:
                raise Stop(
                    f"only {len(found)} photos of {species} got as far as the edge: ask for fewer --labels"
                )
            for photo, item in found:
                waiting[item.event] = Label(event=item.event, label=species, by=PERSON, under=photo.under)
        labels = {event: str(label.label) for event, label in waiting.items()}
        self._send_until_acknowledged(connection, inbox, waiting)
        return labels

    def _send_until_acknowledged(
        self, connection: Connection, inbox: Inbox, waiting: dict[str, Label]
    ) -> None:
        topic = topics.label(self.settings.site, DEVICE)
        sent_s: dict[str, float] = {}
        until_s = time.monotonic() + LABELS_WITHIN_S
        while waiting:
            now_s = time.monotonic()
            if now_s > until_s:
                raise Stop(
                    f"the edge acknowledged all labels but {len(waiting)}: see {self.settings.data_dir / 'logs'}"
                )
            for event, label in list(waiting.items())[:LABELS_AT_ONCE]:
                if now_s - sent_s.get(event, -REPEAT_S) >= REPEAT_S:
                    connection.wait_writable(1.0)
                    connection.publish(gate.clear(label, topic, to=Tier.EDGE))
                    sent_s[event] = now_s
            for message in inbox.take(0.05):
                for event in _acknowledged(message.topic, message.payload, topic):
                    waiting.pop(event, None)

    # --- learning ----------------------------------------------------------------------------------------------

    def _wait_served(self, inbox: Inbox) -> str:
        """Until edge and cloud both answer by what was learned; the model's name."""
        until_s = time.monotonic() + LEARNED_WITHIN_S
        before = self._zoo.manifest(MODEL).title
        while time.monotonic() < until_s:
            inbox.take(0.5)
            served = [serving(self.settings, role, before) for role in ("edge", "cloud")]
            labels = set(self.photos.new_species)
            titles = [its.title for its in served if its is not None and labels <= known(its)]
            if len(titles) == len(served):
                return titles[0]
        raise Stop(
            f"after {LEARNED_WITHIN_S:.0f} s what was learned does not serve at edge and cloud: `tierwise models status --settings "
            f"{self._asked.folder / 'tierwise.toml'}` and {self.settings.data_dir / 'logs'} say why"
        )

    # --- what it was worth ---------------------------------------------------------------------------------------

    def _worth(
        self,
        labels: dict[str, str],
        lessons: Sequence[Answered],
        tests: Sequence[Answered],
        again: Sequence[Answered],
        learned_s: float,
        served: str,
    ) -> Worth:
        photos = self.photos.tests

        def shares(tier: str, kept: Callable[[Photo], bool]) -> tuple[Share, Share]:
            rows = [at for at, photo in enumerate(photos) if kept(photo)]
            of = [photos[at] for at in rows]
            return share(of, [tests[at].by(tier) for at in rows]), share(
                of, [again[at].by(tier) for at in rows]
            )

        tiers = (Tier.EDGE.value, Tier.CLOUD.value, LAST)
        self._stage("asking the nearest class mean about the same photos")
        nearest = self._by_nearest_mean(labels, lessons)
        return Worth(
            labels=len(labels),
            new={tier: shares(tier, lambda photo: photo.new) for tier in tiers},
            known=shares(LAST, lambda photo: not photo.new),
            nearest_mean=nearest,
            by_species={
                species: shares(LAST, partial(_shows, species)) for species in self.photos.new_species
            },
            learned_s=round(learned_s, 1),
            models=(self._zoo.manifest(MODEL).title, served),
        )

    def _by_nearest_mean(self, labels: dict[str, str], lessons: Sequence[Answered]) -> tuple[float, float]:
        """Per cent of the new and the known species' photos that the nearest mean names, over known species' means and those of the
        same labels.

        Vectors are of whole photos; known species' means stand in the first model's own sums.
        """
        eye, sums = self._zoo.edge_model(), self._zoo.sums()
        means = {
            label: sums.cross[:-1, at] / count
            for at, (label, count) in enumerate(zip(sums.labels, sums.counts.tolist(), strict=True))
            if count
        }
        of_new: dict[str, list[NDArray[np.uint8]]] = {}
        for photo, answered in zip(self.photos.to_label, lessons, strict=True):
            if answered.item.event in labels:
                of_new.setdefault(photo.species, []).append(eye.predict(images.decode(photo.jpeg)).vector)
        means |= {label: np.mean(vectors, axis=0) for label, vectors in of_new.items()}
        right: dict[bool, list[bool]] = {True: [], False: []}
        for photo in self.photos.tests:
            said = nearest_mean(means, eye.predict(images.decode(photo.jpeg)).vector)
            right[photo.new].append(said == photo.species)
        new, known = (round(100 * sum(right[kind]) / max(1, len(right[kind])), 1) for kind in (True, False))
        return new, known


def _acknowledged(topic: str, payload: bytes, label_topic: str) -> tuple[str, ...]:
    """Events whose labels the edge says it has."""
    parsed = topics.parse(topic)
    if parsed is None or parsed.channel != "ack":
        return ()
    try:
        ack = messages.decode(Ack, payload)
    except Malformed:
        return ()
    return ack.ids if ack.topic == label_topic else ()


def _shows(species: str, photo: Photo) -> bool:
    return photo.species == species


def serving(settings: Settings, role: str, base: str) -> HeadRelease | None:
    """The release that a role of this machine answers by, as its folder says; None: the first model."""
    files = ServingFiles(settings.data_dir / role, base)
    version = files.read().serving
    return files.release(version) if version else None


def known(release: HeadRelease) -> set[str]:
    """Species that the tree gained."""
    return {row.label for row in release.rows}
