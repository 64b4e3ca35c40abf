"""Kafka for gateway, cloud and command line: deliver, consume, read a table, create topics.

The gateway delivers what edges sent, and acknowledges it to them only afterwards; the cloud consumes what the router
let through, and commits only afterwards. The stream role does its own (`pipeline.stream`, on aiokafka)::

    producer = Producer(settings.kafka, "gateway")
    refused = producer.deliver([gate.clear_record(envelope) for envelope in batch.envelopes])   # or Retry, or Stop

    consumer = Consumer(settings.kafka, [topics.ROUTED[Privacy.PUBLIC]], group="tierwise-cloud", name="cloud")
    for fetched in consumer.poll():
        ...
    consumer.commit()

Whatever Kafka or its client says becomes `Retry` (away, busy), `Stop` (login or rights refused) or one record's
`Refused`. The only folder, with `pipeline.brokers` and `pipeline.stream`, that imports a Kafka client.
"""

from pipeline.kafka.access import grant
from pipeline.kafka.admin import check, create_topics, wait_for_topics
from pipeline.kafka.consumer import Consumer, Fetched, Place, Progress
from pipeline.kafka.follower import Follower
from pipeline.kafka.producer import Producer, Refused
from pipeline.kafka.tables import read_all, record_counts

__all__ = [
    "Consumer",
    "Fetched",
    "Follower",
    "Place",
    "Producer",
    "Progress",
    "Refused",
    "check",
    "create_topics",
    "grant",
    "read_all",
    "record_counts",
    "wait_for_topics",
]
