"""Answer in the cloud: species from public features, hourly patterns from public summaries. It reads nothing else.

::

    Kafka features.public ──> CloudModel ──> Kafka results ──> (gateway) ──> the site
    Kafka summaries ──────> Patterns ──────────┘
    Kafka models ─────────> another CloudModel, after a trial beside the one that serves

Offsets are committed after Kafka acknowledged the results. After a kill some events are answered again with the same
revision, and the edge takes each result once. Several cloud agents share the partitions.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import structlog

from agents.cloud.hourly_patterns import Patterns
from agents.releases.mirror import cloud_source
from agents.role.dead_letters import INTERNAL_ERROR, check_times
from agents.role.kafka_wait import await_topics
from agents.role.lifecycle import Health
from agents.role.presence import update_parts
from agents.role.telemetry import Metrics
from agents.rollout.cloud import cloud_updates
from models.answering.cloud import species_answer
from models.answering.model_source import ModelSource
from models.shipped import load_zoo
from models.vision.tier_models import CloudModel, CloudPrediction
from pipeline import clock, messages, records, topics
from pipeline.clock import EARLY_S, Clock, SystemClock
from pipeline.errors import Rejected, Retry, Stop
from pipeline.kafka import Consumer, Fetched, Producer, read_all
from pipeline.messages import Malformed, Privacy, Result
from pipeline.privacy import gate
from pipeline.readings import TIME_IMPLAUSIBLE
from pipeline.records import HourlySummary
from pipeline.settings.settings import KafkaSettings, Settings

log = structlog.get_logger("cloud")

GROUP = topics.Group.CLOUD
FEATURES = topics.ROUTED[Privacy.PUBLIC]

BATCH = 50
"""Records answered at once. Small, so that a species does not wait behind many summaries."""

RETRY_S = 1.0
"""Pause after Kafka could not be reached."""

REFILL_S = 60.0
"""Shortest interval between two readings of all summaries, after other agents had the partitions."""


class Cloud:
    """A cloud agent. Several may run."""

    name = "cloud"

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.metrics = Metrics()
        self._settings = settings
        self._clock = clock
        self._patterns = Patterns(settings.zone)
        self._filled_s = 0.0
        self._stop = threading.Event()
        self._kafka = "connecting"
        self._ready = False

    # --- life ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Load the heads; connect in the background."""
        self._updates = cloud_updates(self._settings, load_zoo(self._settings.zoo_dir), self.metrics, self._clock)
        self._models: ModelSource[CloudModel, CloudPrediction] = self._updates.serving
        self._release_follower, source = cloud_source(self._settings, self._clock)
        self._updates.follow(source)
        self._producer = Producer(self._settings.kafka, "tierwise-cloud")
        self._reader = threading.Thread(target=self._read, name="features", daemon=True)
        self._reader.start()
        self._release_follower.start()
        self._updates.start()
        self._ready = True

    def health(self) -> Health:
        """Ready while connected to Kafka."""
        if not self._ready:
            return Health(False, {"cloud": "starting"})
        update = update_parts(self._updates.title, self._updates.update)
        return Health(self._kafka == "connected", {"kafka": self._kafka, **update})

    def stop(self, deadline_s: float) -> None:
        """Stop the readers and close the producer."""
        self._stop.set()
        if not self._ready:
            return
        self._updates.stop(deadline_s / 6)
        self._release_follower.stop(deadline_s / 6)
        self._reader.join(deadline_s / 3)
        self._producer.close(deadline_s / 3)

    # --- answering -------------------------------------------------------------------------------------------

    def _read(self) -> None:
        kafka = self._settings.kafka
        names = [FEATURES, topics.SUMMARIES, topics.RESULTS]
        if not await_topics(kafka, names, self._stop, self._set_kafka_state):
            return
        consumer = Consumer(kafka, [FEATURES, topics.SUMMARIES], GROUP, "tierwise-cloud")
        while not self._stop.is_set():
            try:
                fetched = consumer.poll(BATCH)
                self._kafka = "connected"
            except Retry as error:
                self._kafka = str(error)
                self._stop.wait(RETRY_S)
                continue
            if fetched:
                try:
                    self._answer_until_delivered(fetched, kafka)
                    consumer.commit()
                except Retry as error:
                    self._kafka = str(error)
                    # Records without a delivered answer come again from the committed offset, in a new membership.
                    consumer.close()
        consumer.close()

    def _set_kafka_state(self, state: str) -> None:
        self._kafka = state

    def _answer_until_delivered(self, fetched: Sequence[Fetched], kafka: KafkaSettings) -> None:
        """Answer a batch, and return when Kafka has the results, however long that takes."""
        answers = [answer for record in fetched for answer in self._answers(record, kafka)]
        results, cleared = [result for result, _ in answers], [record for _, record in answers]
        while cleared and not self._stop.is_set():
            try:
                for refused in self._producer.deliver(cleared):
                    self.metrics.refused(refused.reason)
                    log.error("Kafka refused a result", reason=refused.reason, error=refused.message)
                break
            except Retry as error:
                self._kafka = str(error)
                self._stop.wait(RETRY_S)
        if self._stop.is_set():
            raise Retry("stopping; undelivered answers are repeated after the next start")
        for result in results:
            self.metrics.answered(result)

    def _answers(self, record: Fetched, kafka: KafkaSettings) -> Iterator[tuple[Result, gate.ClearedRecord]]:
        """Yield the result of one record with its cleared form, or nothing if the record is refused."""
        started_s = self._clock.now()
        try:
            if record.topic == FEATURES:
                envelope = records.from_record(record.headers, record.key, record.value)
                self.metrics.received(envelope.source, "feature")
                result = species_answer(self._models, envelope, started_s, self._clock.now).result
            else:
                summary = _hourly(record.value or b"", started_s)
                self.metrics.received(summary.source, "summary")
                self._fill(summary, kafka)
                result = self._patterns.answer(summary, started_s, self._clock.now())
            yield result, gate.clear_record(records.answer_envelope(result), topics.RESULTS)
        except (Rejected, Malformed) as error:
            self.metrics.refused(error.reason)
            where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            log.warning("refused", **where, reason=error.reason, error=str(error))
        except (Retry, Stop, MemoryError):
            raise
        except Exception:  # otherwise the role would end, start again, and meet the same record first
            self.metrics.refused(INTERNAL_ERROR)
            log.exception("a record caused an internal error", topic=record.topic, offset=record.offset)

    def _fill(self, summary: HourlySummary, kafka: KafkaSettings) -> None:
        """Read all past summaries if hours are missing: at the start, and after a rebalance."""
        now_s = self._clock.monotonic()
        if self._patterns.follows(summary) or (self._filled_s and now_s - self._filled_s < REFILL_S):
            return
        for value in read_all(kafka, topics.SUMMARIES).values():
            try:
                self._patterns.fill([_hourly(value, self._clock.now())])
            except Malformed as error:
                log.warning("a past summary cannot be read", error=str(error))
        self._filled_s = now_s


def _hourly(value: bytes, now_s: float) -> HourlySummary:
    """Return the summary in a record. Raises `Malformed`, also for an hour of more than a day ahead.

    A pattern forgets the hours before its newest one by weeks, so an hour of next year would end it.
    """
    summary = messages.decode(HourlySummary, value)
    check_times(summary.hour)
    if clock.seconds(summary.hour) > now_s + EARLY_S:
        raise Malformed(TIME_IMPLAUSIBLE, f"{summary.source}: its hour lies more than a day ahead of the cloud's clock")
    return summary


def build(settings: Settings, clock: Clock | None = None) -> Cloud:
    """Return the cloud role. Opens nothing yet."""
    return Cloud(settings, clock or SystemClock())
