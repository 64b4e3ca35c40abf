"""The device agent: takes frames and readings, commits them, answers them, and passes on what policy lets go further.

::

    MQTT frame, reading ──> inbox ──> Frames, Readings ──> outbox ──> MQTT result (users)
    its own cameras ──────> inbox                              └────> MQTT event  (the edge, kept until its event-ack)

What arrives is acknowledged after its commit. An answer, what goes to the edge, and the end of the inbox's row are one
transaction, so a kill at any point repeats work and loses none. Where the edge does not answer in time, the device says
so itself and tells the edge that it did (see `_expire`), so that a late answer still carries the highest revision.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby

import msgspec
import structlog

from agents.device import camera_sources
from agents.device.camera_faults import Cameras
from agents.device.inbox import Admission
from agents.device.model_choice import open_device_model
from agents.device.ordered_pool import Lanes
from agents.device.picture_ring import Pictures
from agents.device.readings import Meter, ReadingAnswer, Readings
from agents.device.store import EDGE, FORGET_S, SITE, DeviceStore
from agents.role import outbox
from agents.role.dead_letters import answer_or_refuse, refusal
from agents.role.lifecycle import Health
from agents.role.presence import broker_parts, endpoint, model_names, presence
from agents.role.telemetry import Metrics
from models.answering.device import Frames
from models.answering.frame_gate import StreamMemory
from models.answering.sightings import Visit
from models.labels.taxonomy import load_taxonomy
from models.shipped import load_zoo
from pipeline import ids, topics
from pipeline.clock import Clock, SystemClock
from pipeline.delivery import Ingest, Sender
from pipeline.errors import Rejected, Retry
from pipeline.messages import Event, Tier
from pipeline.mqtt import Connection
from pipeline.privacy.gate import Cleared
from pipeline.privacy.policy import Policy
from pipeline.privacy.seal import Keyring
from pipeline.settings.settings import Settings
from pipeline.spool import Arrival, Item, Outgoing, Spool
from pipeline.topics import Parsed

log = structlog.get_logger("device")

BATCH = 32
"""Records taken from the inbox at once: small, so that the first answer of a batch is not held up by its last."""

BATCHES_AHEAD = 8
"""Batches, one of a stream each, that are under way before more are taken: enough to keep the workers busy."""

TIDY_S = 3600.0
"""How often what is too old is dropped."""

SCENES_MAX = 256
"""Streams whose background is remembered, the latest ones: each takes some 60 KB, and anyone may invent names."""

TICK_S = 0.5
"""How often deadlines are looked at."""


class Device:
    """One device agent, for some or all devices of a site."""

    name = "device"

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.metrics = Metrics()
        self._settings = settings
        self._clock = clock
        self._policy = Policy(settings)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._eye_told = "being chosen"
        self._scenes: OrderedDict[str, StreamMemory] = OrderedDict()
        self._boot = 0
        self._ready = False

    # --- life ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open store, models and keys; connect in the background."""
        settings, folder = self._settings, self._settings.data_dir / "device"
        self._spool = Spool.open(folder / "spool.db", limit_bytes=settings.device.spool_mib << 20)
        self._store = DeviceStore(self._spool, self._clock)
        self._boot = self._store.open()
        self._cameras = Cameras(settings, self._policy, self._spool, self.metrics)
        self._cameras.open()
        self._admission = Admission(settings, self._spool, self._store, self.metrics, self._clock)
        self._pictures = Pictures(
            folder / "pictures",
            max_bytes=settings.device.pictures_mib << 20,
            max_days=settings.device.pictures_days,
        )
        zoo = load_zoo(self._settings.zoo_dir)
        # Before anything is answered: by another eye the same frame could be another's business.
        self._eye, self._eye_told = open_device_model(settings, zoo)
        log.info("chose the eye", eye=self._eye_told)
        self._frames = Frames(
            settings,
            self._policy,
            load_taxonomy(),
            self._eye,
            Keyring.open(settings.data_dir / "keys", create=True),
            zoo.edge_model,
        )
        self._readings = Readings(settings, self._policy)
        birth, will = presence(
            settings.site, self.name, self._clock, models=lambda: model_names(zoo), backlog=self._backlog
        )
        ingest = Ingest(self._spool, SITE, self._admission.admit, self._admission.committed)
        self._mqtt = Connection(
            endpoint(settings.mqtt),
            f"tierwise-{settings.site}-{'-'.join(settings.device.names) or 'device'}",
            subscriptions=self._subscriptions(),
            handler=ingest,
            birth=birth,
            will=will,
        )
        sender = partial(Sender, self._spool, self._mqtt, clear=self._clear, refused=self._undelivered)
        self._senders = [sender(hop=SITE, settled_by="broker"), sender(hop=EDGE, settled_by="hop")]
        for hop in (SITE, EDGE):
            self.metrics.backlog(hop, partial(self._spool.backlog, hop))
        self._lanes = Lanes[Item](settings.device.workers, self._answer_stream)
        self._mqtt.start()
        for each in self._senders:
            each.start()
        self._run("answer", self._answer_loop)
        self._run("deadlines", self._deadline_loop)
        for source, stream in settings.streams.items():
            if stream.source and self._is_mine(source.split("/")[1]):
                self._run(f"camera {source}", partial(self._camera_loop, source, stream.source))
        self._ready = True

    def health(self) -> Health:
        if not self._ready:
            return Health(False, {"device": "starting"})
        parts = {**broker_parts(self._mqtt), "waiting": str(self._spool.waiting_count), "eye": self._eye_told}
        if faults := self._cameras.faults():
            parts["cameras"] = faults
        return Health(self._mqtt.connected, parts)

    def stop(self, deadline_s: float) -> None:
        self._stop.set()
        if not self._ready:
            return
        self._spool.arrived.set()
        for sender in self._senders:
            sender.stop()
        self._mqtt.stop(deadline_s / 3, farewell=self._farewell())
        for thread in self._threads:
            thread.join(deadline_s / 6)
        self._lanes.close()
        self._spool.close()

    def _farewell(self) -> Cleared:
        return presence(self._settings.site, self.name, self._clock)[1]

    def _run(self, name: str, loop: Callable[[], None]) -> None:
        thread = threading.Thread(target=loop, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _backlog(self) -> int:
        return self._spool.backlog(EDGE)

    def _is_mine(self, device: str) -> bool:
        return not self._settings.device.names or device in self._settings.device.names

    def _subscriptions(self) -> list[str]:
        site = self._settings.site
        return [
            topic
            for device in self._settings.device.names or ("+",)
            for topic in (
                topics.frame(site, device, "+"),
                topics.reading(site, device, "+"),
                topics.event_ack(site, device),
                *topics.answers_of(site, device, Tier.EDGE),
            )
        ]

    # --- its own cameras ---------------------------------------------------------------------------------------

    def _camera_loop(self, source: str, address: str) -> None:
        """Commit what one of the device's own cameras sees. A photo that was seen before is not seen again."""
        site, device, stream = source.split("/")
        topic = topics.frame(site, device, stream)
        for shot in camera_sources.open_source(address, stop=self._stop, clock=self._clock):
            event = ids.derived(shot.time_s, source, shot.name, str(shot.time_s))
            arrival = Arrival(topic, shot.data, self._clock.now(), event)
            self.metrics.received(source, "camera")
            while not self._stop.is_set():
                if not self._spool.full:
                    try:
                        self._spool.receive([arrival], link="")
                        break
                    except Retry as error:
                        log.warning("camera waits for its store", source=source, error=str(error))
                self._stop.wait(1.0)

    # --- answering -------------------------------------------------------------------------------------------

    def _answer_loop(self) -> None:
        while not self._stop.is_set():
            if not self._lanes.wait_below(BATCHES_AHEAD, TICK_S):
                continue
            items = self._spool.waiting(BATCH)
            if not items:
                self._spool.arrived.wait(TICK_S)
                self._spool.arrived.clear()
            by_topic = sorted(items, key=lambda item: item.topic)
            for topic, group in groupby(by_topic, key=lambda item: item.topic):
                self._lanes.put(topic, list(group))

    def _answer_stream(self, topic: str, items: Sequence[Item]) -> None:
        """Answer records of one stream in their order."""
        parsed = topics.parse(topic)
        if parsed is None:
            raise ValueError(f"{topic} is in the inbox and no topic of ours")
        if parsed.channel == "reading":
            answer_or_refuse(
                partial(self._answer_readings, parsed, items), partial(self._part, parsed, items), self._stop
            )
            return
        for item in items:
            answer = partial(self._answer_frame, parsed, item)
            answer_or_refuse(answer, partial(self._refuse, item), self._stop)

    def _part(self, parsed: Parsed, items: Sequence[Item], error: Rejected) -> None:
        """One of these readings cannot be answered: find it, so that the others are."""
        if len(items) == 1:
            self._refuse(items[0], error)
            return
        for item in items:
            answer = partial(self._answer_readings, parsed, [item])
            answer_or_refuse(answer, partial(self._refuse, item), self._stop)

    def _answer_frame(self, parsed: Parsed, item: Item) -> None:
        source = f"{parsed.site}/{parsed.device}/{parsed.name}"
        sequence, visit = self._store.recall(parsed, Visit)
        answer = self._frames.answer(
            item.id,
            parsed,
            item.payload,
            received_s=item.received_at,
            now=self._clock.now,
            order=(self._boot, sequence + 1),
            visit=visit,
            memory=self._scenes.get(source, StreamMemory()),
        )
        looked = self._cameras.look(parsed, answer.glance, item.received_at)
        answer = answer.flagged(looked.flags)
        try:
            self._pictures.keep(item.id, item.payload, self._clock.now())
        except OSError as error:
            log.warning("the picture was not kept", of=item.id, error=str(error))
        with self._spool.transaction() as tx:
            self._store.send_result(answer.result, tx)
            self._store.send_event(answer.event, tx)
            if answer.result.pending is not None:
                deadline_s = self._clock.now() + self._settings.device.edge_deadline_s
                self._store.await_answer(answer.event, deadline_s, tx)
            self._store.remember(parsed, sequence + 1, answer.visit, self._clock.now(), tx)
            self._cameras.tell(looked, tx)
            tx.finish(item)
        self._cameras.took(looked)
        self._scenes[source] = answer.memory
        self._scenes.move_to_end(source)
        if len(self._scenes) > SCENES_MAX:
            self._scenes.popitem(last=False)
        self.metrics.answered(answer.result)

    def _answer_readings(self, parsed: Parsed, items: Sequence[Item]) -> None:
        """Answer readings of one stream, all in one transaction: they are small and come often."""
        sequence, meter = self._store.recall(parsed, Meter)
        answers: list[ReadingAnswer] = []
        for item in items:
            for index, reading in enumerate(
                self._admission.readings_of(parsed, item.payload, item.received_at)
            ):
                sequence += 1
                answer = self._readings.answer(
                    item.id if index == 0 else reading.id or ids.derived(reading.time_s, item.id, str(index)),
                    parsed,
                    reading,
                    received_s=item.received_at,
                    now=self._clock.now,
                    order=(self._boot, sequence),
                    meter=meter or Meter(),
                )
                meter = answer.meter
                answers.append(answer)
        with self._spool.transaction() as tx:
            for answer in answers:
                self._store.send_result(answer.result, tx)
                for event in answer.events:
                    self._store.send_event(event, tx)
            self._store.remember(parsed, sequence, meter or Meter(), self._clock.now(), tx)
            tx.finish(*items)
        for answer in answers:
            self.metrics.answered(answer.result)

    def _refuse(self, item: Item, error: Rejected) -> None:
        now_s = self._clock.now()
        with self._spool.transaction() as tx:
            tx.send(refusal(error, item.topic, item.payload, site=self._settings.site, hop=SITE, now_s=now_s))
            tx.finish(item)
        self.metrics.refused(error.reason)

    # --- deadlines -------------------------------------------------------------------------------------------

    def _deadline_loop(self) -> None:
        tidied_s = 0.0
        while not self._stop.wait(TICK_S):
            now_s = self._clock.now()
            try:
                for event in self._store.overdue(now_s):
                    self._expire(event)
                if now_s - tidied_s > TIDY_S:
                    self._store.forget(now_s - FORGET_S)
                    self._cameras.forget(now_s - FORGET_S)
                    tidied_s = now_s
            except Retry as error:
                log.warning("deadlines wait for the store", error=str(error))

    def _expire(self, event: Event) -> None:
        """The edge did not answer in time: say so, and tell the edge which revision that took.

        The event itself waits in the outbox, or at the edge; its answer will carry a higher revision.
        """
        result = msgspec.structs.replace(
            event.result,
            revision=event.result.revision + 1,
            pending=None,
            rule="deadline",
            reason=f"edge out of reach for {self._settings.device.edge_deadline_s:g} s; a later answer supersedes",
        )
        with self._spool.transaction() as tx:
            if not self._store.answered(result.event, tx):
                return
            self._store.send_result(result, tx)
            self._store.send_event(msgspec.structs.replace(event, result=result), tx)
        self.metrics.answered(result)

    # --- out ---------------------------------------------------------------------------------------------------

    def _clear(self, outgoing: Outgoing) -> Cleared:
        """The site's broker is the edge's; a private result's branch belongs to the user's own clients."""
        private = outgoing.privacy.reach is Tier.DEVICE
        cleared = outbox.cleared(outgoing, to=Tier.DEVICE if private else Tier.EDGE)
        self.metrics.hop("device-edge" if outgoing.hop == EDGE else "device-site", len(outgoing.payload))
        return cleared

    def _undelivered(self, outgoing: Outgoing, error: Rejected) -> None:
        if error.reason == "withheld":
            self.metrics.withheld()
        self.metrics.refused(error.reason)
        log.error("not sent", what=outgoing.kind, of=outgoing.event, reason=error.reason, error=str(error))


def build(settings: Settings, clock: Clock | None = None) -> Device:
    """The device role; opens nothing yet."""
    return Device(settings, clock or SystemClock())
