"""One run of `tierwise demo learning`: photos of species that the first model lacks, labels, and the same photos again.

::

    photos ──MQTT──> answers (before) ──labels──> join ──> trainer ──> signed release ──> edge, cloud ──> answers

Everything is as in production: the roles are the real ones, nothing is started again, and the answers are read from the
site's broker.
"""

from __future__ import annotations

import itertools
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from agents.client.labelling import LabelDelivery, Labelling
from agents.client.publishing import WINDOW, Capture, Publishing
from agents.client.site_client import SiteClient, connect
from agents.client.window import DeliveryState
from agents.demo.learning.lessons import BEFORE, Amounts, LessonPhoto, LessonPhotos, chosen
from agents.demo.learning.worth import LAST, Score, Worth, nearest_mean, score
from agents.demo.run import free_ports
from agents.rollout.promoted_store import PromotedStore
from agents.up.plan import ROLE_NAMES, plan
from agents.up.supervisor import News, Supervisor
from models.heads.release import HeadRelease
from models.releases.targets import MODEL
from models.shipped import load_zoo
from models.vision import images
from pipeline import ids, topics
from pipeline.errors import Stop
from pipeline.messages import Label, Result, Tier
from pipeline.settings.settings import Settings

if TYPE_CHECKING:
    from models.evaluation.photo_pack import Pack

DEVICE: Final = "cam1"
STREAMS: Final = tuple(f"photos{number}" for number in range(WINDOW))
"""One stream for each photo under way: two photos of a stream in one millisecond would be one sighting."""

PERSON: Final = "demo"

READY_WITHIN_S: Final = 60.0
ANSWERED_WITHIN_S: Final = 600.0
"""Time for all photos of a pass. A device answers some 20 a second with a core of its own, and far fewer without."""
LABELS_WITHIN_S: Final = 60.0
LEARNED_WITHIN_S: Final = 180.0

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
person_hold_s = 0             # the photos are unrelated

[edge]
cloud_deadline_s = 60
asks_a_day = 0
learn = false                 # the demo shows the release for all sites; a site's own learning would answer first

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
class LearningRequest:
    """The options of a learning demo."""

    folder: Path
    amounts: Amounts
    canary_s: float


def settings_for(wanted: LearningRequest, labels: int) -> Path:
    """Write the settings; existing contents of the folder are replaced."""
    if wanted.folder.exists():
        shutil.rmtree(wanted.folder)
    wanted.folder.mkdir(parents=True)
    ports = free_ports()
    text = SETTINGS.format(
        zoo=msgspec.json.encode(str(BEFORE)).decode(),
        mqtt=next(ports),
        kafka=next(ports),
        labels=labels,
        canary_s=wanted.canary_s,
        http="\n".join(f"{role} = 0" for role in ROLE_NAMES),
    )
    text += "".join(STREAM.format(device=DEVICE, stream=stream) for stream in STREAMS)
    file = wanted.folder / "tierwise.toml"
    file.write_text(text, "utf-8")
    return file


@dataclass(frozen=True, slots=True)
class AnsweredPhoto:
    """A photo's capture, and the newest answer of each tier."""

    capture: Capture
    by_tier: dict[str, Result]

    def by(self, tier: str) -> Result | None:
        """Return the answer of a tier, or the last one of all."""
        return self.capture.answer if tier == LAST else self.by_tier.get(tier)


class LearningDemo:
    """One run. It calls `stage` with each step; nothing here prints."""

    def __init__(
        self,
        wanted: LearningRequest,
        pack: Pack,
        report: Callable[[News], None],
        stage: Callable[[str], None],
    ) -> None:
        zoo = load_zoo(BEFORE)
        self.photos: LessonPhotos = chosen(pack, zoo.tree, wanted.amounts)
        self._zoo = zoo
        self._wanted = wanted
        self._labels = wanted.amounts.labels * len(self.photos.new_species)
        file = settings_for(wanted, self._labels)
        self.settings = Settings.load(file)
        self._stage = stage
        self._supervisor = Supervisor(self.settings, file, plan(self.settings, file), report)

    def start(self) -> None:
        """Start brokers and roles. Raises `Stop` if they cannot be started."""
        self._supervisor.start()
        if not self._supervisor.wait_ready(READY_WITHIN_S):
            raise Stop(f"not everything was ready: see {self.settings.data_dir / 'logs'}")

    def stop(self) -> None:
        """Stop roles and brokers."""
        self._supervisor.stop()

    def run(self) -> Worth:
        """Publish, label, wait until the learned model serves, publish again.

        Raises
        ------
        Stop
            A step took too long; the text names the step, and the log to read.
        """
        with connect(self.settings, "learning", [f"{topics.ROOT}/{self.settings.site}/#"]) as site:
            self._stage("publishing photos of species that no tier knows")
            lessons = self._answered(site, self.photos.to_label)
            tests = self._answered(site, self.photos.tests)
            self._stage(f"labelling {self._labels} of them over MQTT")
            labelled = self._label(site, lessons)
            began_s = time.monotonic()
            self._stage("waiting for the trainer, the canary and the promotion")
            served = self._wait_served(site)
            learned_s = time.monotonic() - began_s
            self._stage("publishing the same photos again")
            again = self._answered(site, self.photos.tests)
            return self._worth(labelled, lessons, tests, again, learned_s, served)

    # --- photos ------------------------------------------------------------------------------------------------

    def _answered(self, site: SiteClient, photos: Sequence[LessonPhoto]) -> list[AnsweredPhoto]:
        """Publish photos; return when each has its last answer."""
        streams = [topics.frame(self.settings.site, DEVICE, stream) for stream in STREAMS]
        captures = [
            Capture(photo.species, topic, ids.in_jpeg(photo.jpeg, event := str(uuid.uuid4())), id=event)
            for photo, topic in zip(photos, itertools.cycle(streams), strict=False)
        ]
        by_tier: dict[int, dict[str, Result]] = {id(capture): {} for capture in captures}
        until_s = time.monotonic() + ANSWERED_WITHIN_S
        for news in site.deliver(Publishing(captures)):
            for capture, result in news:
                if result is not None:
                    by_tier[id(capture)][result.tier] = result
            if time.monotonic() > until_s:
                left = sum(capture.state in (DeliveryState.WAITING, DeliveryState.ACCEPTED) for capture in captures)
                raise Stop(f"{left} of {len(photos)} photos have no last answer: see {self.settings.data_dir / 'logs'}")
        return [AnsweredPhoto(capture, by_tier[id(capture)]) for capture in captures]

    # --- labels ------------------------------------------------------------------------------------------------

    def _label(self, site: SiteClient, lessons: Sequence[AnsweredPhoto]) -> dict[str, str]:
        """Label as many events of each new species as were asked for, of those whose features left; event to label."""
        by_species: dict[str, list[tuple[LessonPhoto, Capture]]] = {}
        for photo, answered in zip(self.photos.to_label, lessons, strict=True):
            if Tier.EDGE in answered.by_tier:
                by_species.setdefault(photo.species, []).append((photo, answered.capture))
        labels: list[LabelDelivery] = []
        for species in self.photos.new_species:
            found = by_species.get(species, [])[: self._wanted.amounts.labels]
            if len(found) < self._wanted.amounts.labels:
                raise Stop(f"only {len(found)} photos of {species} got as far as the edge: ask for fewer --labels")
            for photo, capture in found:
                label = Label(event=capture.event, label=species, by=PERSON, under=photo.under)
                labels.append(LabelDelivery.of(label, self.settings.site, DEVICE))
        labelling = Labelling(labels)
        until_s = time.monotonic() + LABELS_WITHIN_S
        for _ in site.deliver(labelling):
            if time.monotonic() > until_s:
                left = len(labels) - labelling.accepted
                raise Stop(f"the edge did not acknowledge {left} labels: see {self.settings.data_dir / 'logs'}")
        return {each.label.event: str(each.label.label) for each in labels}

    # --- learning ----------------------------------------------------------------------------------------------

    def _wait_served(self, site: SiteClient) -> str:
        """Wait until edge and cloud serve the new species; return the title of the release."""
        until_s = time.monotonic() + LEARNED_WITHIN_S
        before = self._zoo.manifest(MODEL).title
        while time.monotonic() < until_s:
            site.take(0.5)
            served = [serving(self.settings, role, before) for role in ("edge", "cloud")]
            labels = set(self.photos.new_species)
            titles = [release.title for release in served if release is not None and labels <= known(release)]
            if len(titles) == len(served):
                return titles[0]
        raise Stop(
            f"after {LEARNED_WITHIN_S:.0f} s edge and cloud do not serve the new release: `tierwise releases status --settings "
            f"{self._wanted.folder / 'tierwise.toml'}` and {self.settings.data_dir / 'logs'} show why"
        )

    # --- the worth of the labels ---------------------------------------------------------------------------------

    def _worth(
        self,
        labels: dict[str, str],
        lessons: Sequence[AnsweredPhoto],
        tests: Sequence[AnsweredPhoto],
        again: Sequence[AnsweredPhoto],
        learned_s: float,
        served: str,
    ) -> Worth:
        photos = self.photos.tests

        def shares(tier: str, kept: Callable[[LessonPhoto], bool]) -> tuple[Score, Score]:
            rows = [at for at, photo in enumerate(photos) if kept(photo)]
            of = [photos[at] for at in rows]
            return score(of, [tests[at].by(tier) for at in rows]), score(of, [again[at].by(tier) for at in rows])

        tiers = (Tier.EDGE.value, Tier.CLOUD.value, LAST)
        self._stage("comparing with the nearest class mean")
        nearest = self._by_nearest_mean(labels, lessons)
        return Worth(
            labels=len(labels),
            new={tier: shares(tier, lambda photo: photo.new) for tier in tiers},
            known=shares(LAST, lambda photo: not photo.new),
            nearest_mean=nearest,
            by_species={species: shares(LAST, partial(_shows, species)) for species in self.photos.new_species},
            learned_s=round(learned_s, 1),
            models=(self._zoo.manifest(MODEL).title, served),
        )

    def _by_nearest_mean(self, labels: dict[str, str], lessons: Sequence[AnsweredPhoto]) -> tuple[float, float]:
        """Return the per cent of new and of known species' photos that the nearest class mean names.

        Vectors are of whole photos. The means of known species come from the sums of the first model, those of new ones
        from the labelled photos.
        """
        model, sums = self._zoo.edge_model(), self._zoo.sums()
        means = {
            label: sums.cross[:-1, at] / count
            for at, (label, count) in enumerate(zip(sums.labels, sums.counts.tolist(), strict=True))
            if count
        }
        of_new: dict[str, list[NDArray[np.uint8]]] = {}
        for photo, answered in zip(self.photos.to_label, lessons, strict=True):
            if answered.capture.event in labels:
                of_new.setdefault(photo.species, []).append(model.predict(images.decode(photo.jpeg)).vector)
        means |= {label: np.mean(vectors, axis=0) for label, vectors in of_new.items()}
        right: dict[bool, list[bool]] = {True: [], False: []}
        for photo in self.photos.tests:
            named = nearest_mean(means, model.predict(images.decode(photo.jpeg)).vector)
            right[photo.new].append(named == photo.species)
        new, known = (round(100 * sum(right[kind]) / max(1, len(right[kind])), 1) for kind in (True, False))
        return new, known


def _shows(species: str, photo: LessonPhoto) -> bool:
    return photo.species == species


def serving(settings: Settings, role: str, base: str) -> HeadRelease | None:
    """Return the release that a role of this machine serves, or None for the first model."""
    files = PromotedStore(settings.data_dir / role, base)
    version = files.read().serving
    return files.release(version) if version else None


def known(release: HeadRelease) -> set[str]:
    """Return the species that a release adds to the tree."""
    return {row.label for row in release.rows}
