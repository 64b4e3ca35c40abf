"""Kafka for the gateway, the cloud, the trainer and the command line: deliver, consume, read a table, create topics.

The gateway delivers the records of the edges and acknowledges them afterwards. The cloud consumes the records that the
router let through and commits them after it has answered. The stream role uses aiokafka instead (`pipeline.stream`)::

    producer = Producer(settings.kafka, "gateway")
    refused = producer.deliver([gate.clear_record(envelope) for envelope in batch.envelopes])   # or Retry, or Stop

    consumer = Consumer(settings.kafka, [topics.ROUTED[Privacy.PUBLIC]], group="tierwise-cloud", name="cloud")
    for fetched in consumer.poll():
        ...
    consumer.commit()

Every error of Kafka or its client becomes `Retry` (Kafka is away or busy), `Stop` (login or rights refused) or a
`RefusedRecord`. Only this folder, `pipeline.brokers` and `pipeline.stream` import a Kafka client.
"""

from pipeline.kafka.access import grant
from pipeline.kafka.admin import ALL_TOPICS, check, create_topics, topic_configurations, wait_for_topics
from pipeline.kafka.connection import address, fatal
from pipeline.kafka.consumer import Consumer, Fetched, GroupPosition, Progress
from pipeline.kafka.follower import Follower
from pipeline.kafka.producer import Producer, RefusedRecord
from pipeline.kafka.seeker import Seeker
from pipeline.kafka.tables import read_all, read_tail, record_counts

__all__ = [
    "ALL_TOPICS",
    "Consumer",
    "Fetched",
    "Follower",
    "GroupPosition",
    "Producer",
    "Progress",
    "RefusedRecord",
    "Seeker",
    "address",
    "check",
    "create_topics",
    "fatal",
    "grant",
    "read_all",
    "read_tail",
    "record_counts",
    "topic_configurations",
    "wait_for_topics",
]
