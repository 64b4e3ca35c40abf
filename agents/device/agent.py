"""The device agent: commit frames and readings, answer them, and send on what policy allows.

::

    MQTT frame, reading ──> inbox ──> Frames, Readings ──> outbox ──> MQTT result (users)
    its own cameras, FTP, mail ──> inbox                       └────> MQTT event  (the edge, kept until its event-ack)

A message is acknowledged after its commit. An answer, the event for the edge and the end of the inbox's row are one
transaction, so a kill at any point repeats work and loses none. If the edge does not answer in time, the device
publishes that itself and sends the edge the new revision (see `_expire`), so that a late answer has a higher one.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from itertools import groupby

import msgspec
import structlog

from agents.device.camera_faults import CameraFaults
from agents.device.camera_states import CameraStates
from agents.device.inbox import FULL_STORE, Admission
from agents.device.intake.intake import CameraIntake
from agents.device.model_choice import open_device_model
from agents.device.ordered_pool import OrderedPool
from agents.device.own_cameras import OwnCameras
from agents.device.packs import slices
from agents.device.picture_ring import Pictures
from agents.device.readings import Meter, ReadingAnswer, Readings
from agents.device.store import ACKS, EDGE, FORGET_S, SITE, DeviceStore
from agents.role.dead_letters import answer_or_refuse, refusal
from agents.role.full_store import store_parts
from agents.role.lifecycle import Health
from agents.role.presence import broker_parts, endpoint, model_names, presence
from agents.role.spool_loops import TICK_S, SpoolLoops, past_deadline
from agents.role.telemetry import Metrics
from models.answering.device import Frames
from models.answering.frame_gate import StreamMemory
from models.answering.sightings import Visit
from models.labels.taxonomy import load_taxonomy
from models.shipped import load_zoo
from pipeline import ids, topics
from pipeline.clock import Clock, SystemClock, seconds
from pipeline.credentials import with_login
from pipeline.delivery import Ingest
from pipeline.errors import Rejected, Retry
from pipeline.messages import CameraState, Event, Tier
from pipeline.mqtt import Connection
from pipeline.privacy.gate import may_see
from pipeline.privacy.policy import Policy
from pipeline.privacy.seal import Keyring
from pipeline.settings.settings import Settings
from pipeline.spool import Item, Spool
from pipeline.topics import Parsed

log = structlog.get_logger("device")

READING_WORKERS = 2
READINGS_AHEAD = 4
"""Batches of readings in work before more are taken, each of one stream: enough to keep the workers busy."""

LATE_S = 10.0
"""`/health` reports a frame that waits for longer than this; beyond `device.busy_after_s` it is not ready."""

SCENES_MAX = 256
"""Streams whose background is remembered, newest first. Each takes some 60 KB, and anyone may invent stream names."""


class Device:
    """One device agent, for some or all devices of a site."""

    name = "device"

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.metrics = Metrics()
        self._settings = settings
        self._clock = clock
        self._policy = Policy(settings)
        self._stop = threading.Event()
        self._model_choice = "being chosen"
        self._scenes: OrderedDict[str, StreamMemory] = OrderedDict()
        self._boot = 0
        self._started_s = clock.now()
        self._ready = False

    # --- life ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open store, models and keys; connect in the background."""
        self._open_stores()
        self._open_models()
        self._open_connection()
        self._start_loops()
        self._ready = True

    def _open_stores(self) -> None:
        settings, folder = self._settings, self._settings.data_dir / "device"
        self._spool = Spool.open(
            folder / "spool.db", limit_bytes=settings.device.spool_mib << 20, own_hops=(SITE, ACKS)
        )
        self._store = DeviceStore(self._spool, self._clock)
        self._boot = self._store.open()
        self._cameras = CameraFaults(settings, self._policy, self._spool, self.metrics)
        self._cameras.open()
        self._states = CameraStates(settings, self.metrics, self._clock)
        ahead = settings.device.workers + 1
        self._own_cameras = OwnCameras(self._spool, self.metrics, self._clock, self._stop, self._states, ahead)
        self._intake = CameraIntake(settings, self._spool, self.metrics, self._clock, self._stop, self._states.seen)
        self._pictures = Pictures(
            folder / "pictures",
            max_bytes=settings.device.pictures_mib << 20,
            max_days=settings.device.pictures_days,
        )

    def _open_models(self) -> None:
        """Choose the model before anything is answered: the privacy level of a frame depends on it."""
        settings = self._settings
        self._zoo = load_zoo(settings.zoo_dir)
        self._model, self._model_choice = open_device_model(settings, self._zoo)
        log.info("chose the model", model=self._model_choice)
        self._frames = Frames(
            settings,
            self._policy,
            load_taxonomy(),
            self._model,
            Keyring.open(settings.data_dir / "keys", create=True),
            self._zoo.edge_model,
        )
        self._readings = Readings(settings, self._policy)

    def _open_connection(self) -> None:
        settings = self._settings
        self._admission = Admission(settings, self._spool, self._store, self.metrics, self._clock, self._states.seen)
        self._status, will = presence(
            settings.site,
            self.name,
            self._clock,
            models=lambda: model_names(self._zoo),
            backlog=partial(self._spool.backlog, EDGE),
            cameras=self._camera_states,
        )
        self._mqtt = Connection(
            endpoint(settings.mqtt),
            f"tierwise-{settings.site}-{'-'.join(settings.device.names) or 'device'}",
            subscriptions=self._subscriptions(),
            handler=Ingest(self._spool, SITE, self._admission.admit, self._admission.committed),
            birth=self._status,
            will=will,
        )
        for hop in (SITE, EDGE, ACKS):
            self.metrics.backlog(hop, partial(self._spool.backlog, hop))
        self._mqtt.start()

    def _start_loops(self) -> None:
        settings = self._settings
        frame_workers = settings.device.workers
        self._frame_pool = OrderedPool[Item](frame_workers, self._answer_frames)
        self._reading_pool = OrderedPool[Item](READING_WORKERS, self._answer_reading_stream)
        self._loops = loops = SpoolLoops(self._spool, self._clock, self.metrics, self._stop)
        loops.send(self._mqtt, SITE, settled_by="broker", measured_as="device-site")
        loops.send(self._mqtt, ACKS, settled_by="broker", measured_as="device-site")
        loops.send(self._mqtt, EDGE, settled_by="hop", measured_as="device-edge")
        # One frame at a time, by turns over the streams; readings have a queue of their own.
        has_room = partial(self._frame_pool.wait_below, frame_workers + 1, TICK_S)
        loops.start("answer frames", partial(loops.answer, self._queue_frame, has_room, topics.is_frame, 1))
        has_room = partial(self._reading_pool.wait_below, READINGS_AHEAD, TICK_S)
        loops.start("answer readings", partial(loops.answer, self._queue_readings, has_room, _is_reading))
        loops.start("deadlines", partial(loops.tick, self._tick, self._tidy))
        for source, stream in settings.named_streams.items():
            if stream.source and self._is_mine(source.split("/")[1]):
                address = with_login(stream.source, stream.login)
                loops.start(f"camera {source}", partial(self._own_cameras.run, source, address))
        for name, run in self._intake.loops():
            loops.start(name, run)

    def health(self) -> Health:
        """See `Role`."""
        if not self._ready:
            return Health(False, {"device": "starting"})
        age_s, topic = self._oldest_frame()
        parts = {
            **broker_parts(self._mqtt),
            "waiting": str(self._spool.waiting_count),
            **({"late": f"a frame of {topic} has waited for {age_s:.0f} s"} if age_s > LATE_S else {}),
            **store_parts(self._spool, *FULL_STORE),
            "model": self._model_choice,
        }
        if cameras := self._states.text(self._cameras.fault):
            parts["cameras"] = cameras
        if state := self._intake.health():
            parts["intake"] = state
        return Health(self._mqtt.connected and age_s <= self._settings.device.busy_after_s, parts)

    def stop(self, deadline_s: float) -> None:
        """See `Role`."""
        self._stop.set()
        if not self._ready:
            return
        self._spool.arrivals.ring()
        self._loops.stop_senders()
        self._mqtt.stop(deadline_s / 3, farewell=presence(self._settings.site, self.name, self._clock)[1])
        self._loops.join(deadline_s / 3)
        self._frame_pool.close()
        self._reading_pool.close()
        self._spool.close()

    def _is_mine(self, device: str) -> bool:
        return not self._settings.device.names or device in self._settings.device.names

    def _subscriptions(self) -> list[str]:
        site = self._settings.site
        ours = [
            topic
            for device in self._settings.device.names or ("+",)
            for topic in (
                topics.frame(site, device, "+"),
                topics.reading(site, device, "+"),
                topics.event_ack(site, device),
                *topics.answers_of(site, device, Tier.EDGE),
            )
        ]
        return ours + self._admission.subscriptions()

    def _camera_states(self) -> dict[str, CameraState]:
        """Return the states that the site may know: those of cameras whose answers may leave the device."""
        now_s = self._clock.now()
        return {
            source.partition("/")[2]: state
            for source, state in self._states.current().items()
            if may_see(Tier.EDGE, self._policy.levels(source, now_s).levels.result)
        }

    # --- answering -------------------------------------------------------------------------------------------

    def _oldest_frame(self) -> tuple[float, str]:
        """Return how long the oldest waiting frame has waited since the start, in seconds, and its topic."""
        oldest = self._spool.oldest_waiting(topics.is_frame)
        return (self._clock.now() - max(oldest[0], self._started_s), oldest[1]) if oldest else (0.0, "")

    def _queue_frame(self, items: Sequence[Item]) -> None:
        for item in items:
            self._frame_pool.put(item.topic, [item])

    def _queue_readings(self, items: Sequence[Item]) -> None:
        by_topic = sorted(items, key=lambda item: item.topic)
        for topic, group in groupby(by_topic, key=lambda item: item.topic):
            self._reading_pool.put(topic, list(group))

    def _answer_frames(self, topic: str, items: Sequence[Item]) -> None:
        """Answer frames of one stream in their order."""
        for item in items:
            answer = partial(self._answer_frame, _parsed(topic), item)
            answer_or_refuse(answer, partial(self._refuse, item), self._stop)

    def _answer_reading_stream(self, topic: str, items: Sequence[Item]) -> None:
        """Answer readings of one stream in their order."""
        parsed = _parsed(topic)
        for part in slices(items):
            answer = partial(self._answer_readings, parsed, part)
            answer_or_refuse(answer, partial(self._answer_each_reading, parsed, part), self._stop)

    def _answer_each_reading(self, parsed: Parsed, items: Sequence[Item], error: Rejected) -> None:
        """Answer readings one by one, because one of them cannot be answered: refuse that one alone."""
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
            captured_s=item.captured_at,
            now=self._clock.now,
            order=(self._boot, sequence + 1),
            visit=visit,
            memory=self._scenes.get(source, StreamMemory()),
        )
        taken_s = seconds(answer.result.time)
        check = self._cameras.check(parsed, answer.glance, item.received_at, taken_s)
        answer = answer.flagged(check.flags)
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
            self._cameras.write(check, tx)
            tx.finish(item)
        self._cameras.committed(check)
        self._scenes[source] = answer.memory
        self._scenes.move_to_end(source)
        if len(self._scenes) > SCENES_MAX:
            self._scenes.popitem(last=False)
        self.metrics.answered(answer.result)

    def _answer_readings(self, parsed: Parsed, items: Sequence[Item]) -> None:
        """Answer readings of one stream, all in one transaction, since they are small and arrive often."""
        sequence, meter = self._store.recall(parsed, Meter)
        answers: list[ReadingAnswer] = []
        for item in items:
            for index, reading in enumerate(self._admission.readings_of(parsed, item.payload, item.received_at)):
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
            tx.send(refusal(error, item.topic, item.payload, site=self._settings.site, hop=ACKS, now_s=now_s))
            tx.disown(item)
            tx.finish(item)
        self.metrics.refused(error.reason)
        if topics.is_frame(item.topic):
            self.metrics.frame_refused(topics.stream_of(item.topic))

    # --- deadlines -------------------------------------------------------------------------------------------

    def _tick(self, now_s: float) -> None:
        for event in self._store.overdue(now_s, self._settings.device.edge_deadline_s):
            self._expire(event)
        if self._states.changed():
            with contextlib.suppress(Retry):  # there is no connection: the next one begins with the status
                self._mqtt.publish(self._status())

    def _tidy(self, now_s: float) -> None:
        self._store.forget(now_s - FORGET_S)
        self._cameras.forget(now_s - FORGET_S)
        self._own_cameras.tidy()

    def _expire(self, event: Event) -> None:
        """Publish that the edge did not answer in time, and send the edge the revision of this result.

        The event itself waits in the outbox, or at the edge; its answer will carry a higher revision.
        """
        result = past_deadline(event.result, Tier.EDGE, self._settings.device.edge_deadline_s)
        with self._spool.transaction() as tx:
            if not self._store.answered(result.event, tx):
                return
            self._store.send_result(result, tx)
            self._store.send_event(msgspec.structs.replace(event, result=result), tx)
        self.metrics.answered(result)


def _is_reading(topic: str) -> bool:
    return not topics.is_frame(topic)


def _parsed(topic: str) -> Parsed:
    parsed = topics.parse(topic)
    if parsed is None:
        raise ValueError(f"{topic} is in the inbox, but it is not a topic that devices take")
    return parsed


def build(settings: Settings, clock: Clock | None = None) -> Device:
    """Return the device role. It opens nothing yet."""
    return Device(settings, clock or SystemClock())
