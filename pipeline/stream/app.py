"""The Faust app of `tierwise stream`: the handler of each topic, and the tables that the handlers keep.

Names in lower case are topics, the others handlers::

    features.ingest ── Router ──> features.public, .edge-private, .user-private, .rejected
                          ├─────> results ────────── Results ──> counts        (table: sightings)
                          ├─────> summaries.ingest ─ Summaries > summaries     (table: hours)
                          └─────> labels ─────────── Labels ───> labelled      (table: joined)
                                  the router passes public features on to Labels

Delivery is at least once, and every effect tolerates repetition (Faust's ``exactly_once`` hangs). `build_app` builds
an app, ``await app.start()`` starts it. If a handler raises, the app ends with the reason in ``app.crash_reason``.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import faust
from aiokafka.helpers import create_ssl_context

from pipeline import kafka, topics
from pipeline.clock import Clock
from pipeline.errors import Retry
from pipeline.records import HourlySummary
from pipeline.settings.settings import KafkaSettings, Settings
from pipeline.stream.batches import handle_batches
from pipeline.stream.delivery import Delivery, ProducerRecord
from pipeline.stream.labelled import FEATURES_KEPT, FEATURES_TOPIC, Labels, Tail
from pipeline.stream.results import Answer, Results
from pipeline.stream.router import Router
from pipeline.stream.summaries import Summaries

GROUP: Final = topics.Group.STREAM
COMMIT_EVERY_S: Final = 1.0
"""After a kill, the successor repeats at most this time's work."""
HEARTBEAT_MAX_S: Final = 2.0
REQUEST_TIMEOUT_S: Final = 90.0
"""Faust's default, which must not be below the session timeout."""
BUFFER_EVENTS: Final = 65_536
"""Faust's default throttles a backlog with sleep(1)."""
BATCH_MAX_BYTES: Final = 256 << 10
"""Largest batch that the producer sends to a partition; brokers take up to 1 MiB."""
RETRY_S: Final = 1.0
COLLECT_AFTER: Final = (50_000, 20, 50)
"""Allocations, and passes over younger objects, between two passes over the young, older and oldest ones."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listeners:
    """Functions that the processors call with their results, in the app's loop: they must not block."""

    answers: Callable[[Sequence[Answer]], None]
    summaries: Callable[[Sequence[HourlySummary]], None]
    delivered: Callable[[str, Sequence[ProducerRecord]], None]
    """Called with a topic and the records that it has stored."""


def build_app(settings: Settings, clock: Clock, listeners: Listeners) -> faust.App:
    """Build the app without starting it; call this in the thread whose event loop will run the app."""
    app = _app(settings)
    deliver = Delivery(lambda: app.producer._producer, clock.now, listeners.delivered)
    sightings = app.Table("sightings", partitions=topics.PARTITIONS)
    hours = app.Table("hours", partitions=topics.PARTITIONS)
    results = Results(sightings, deliver, settings.zone, clock.now, listeners.answers)
    sightings.on_recover(results.forget_view)
    joined = app.Table("joined", partitions=topics.PARTITIONS)
    labels = Labels(joined, deliver, clock.now, tail_of(settings.kafka))
    joined.on_recover(labels.forget_view)
    handle_batches(
        app,
        {
            topics.INGEST: Router(deliver, clock.now, {FEATURES_TOPIC: labels.features}),
            topics.RESULTS: results,
            topics.SUMMARIES_INGEST: Summaries(hours, deliver, clock.now, listeners.summaries),
            topics.LABELS: labels,
        },
    )
    return app


def collect_rarely() -> None:
    """Let the garbage collector look rarely: records are freed without it, and its passes took a third of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def tail_of(settings: KafkaSettings) -> Tail:
    """Return the function that reads the last public features of a partition, however long Kafka is away."""

    async def tail(partition: int) -> Sequence[kafka.Fetched]:
        while True:
            try:
                return await asyncio.to_thread(kafka.read_tail, settings, FEATURES_TOPIC, partition, FEATURES_KEPT)
            except Retry as error:
                log.warning("the last features cannot be read yet: %s", error)
                await asyncio.sleep(RETRY_S)

    return tail


def _app(settings: Settings) -> faust.App:
    server = settings.kafka
    return faust.App(
        GROUP,
        broker=[f"kafka://{address}" for address in server.servers],
        broker_credentials=_credentials(server),
        store="memory://",
        datadir=str(Path(settings.data_dir) / "stream"),
        web_enabled=False,
        autodiscover=False,
        topic_partitions=topics.PARTITIONS,
        topic_replication_factor=server.replication,
        topic_disable_leader=True,
        topic_allow_declare=False,  # the role has created them
        processing_guarantee="at_least_once",
        broker_session_timeout=server.session_timeout_s,
        broker_request_timeout=max(REQUEST_TIMEOUT_S, server.session_timeout_s),
        broker_heartbeat_interval=min(HEARTBEAT_MAX_S, server.session_timeout_s / 3),
        broker_commit_interval=COMMIT_EVERY_S,
        stream_buffer_maxsize=BUFFER_EVENTS,
        producer_max_batch_size=BATCH_MAX_BYTES,
        producer_acks=-1,
        producer_compression_type=server.compression or None,
        consumer_auto_offset_reset="earliest",
    )


def _credentials(server: KafkaSettings) -> faust.SASLCredentials | faust.SSLCredentials | None:
    context: ssl.SSLContext | None = None
    if server.security.endswith("SSL"):
        context = create_ssl_context(cafile=server.ca or None)
    if server.security.startswith("SASL_"):
        return faust.SASLCredentials(
            username=server.username, password=server.password, mechanism=server.mechanism, ssl_context=context
        )
    return faust.SSLCredentials(context) if context else None
