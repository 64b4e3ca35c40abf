"""Wait for Kafka's topics, which `tierwise stream` makes, however long that takes.

A module of its own, so that a device or an edge imports no Kafka client.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

from pipeline.errors import Retry
from pipeline.kafka import wait_for_topics
from pipeline.settings.settings import KafkaSettings

LOOK_FOR_S: Final = 5.0
RETRY_S: Final = 1.0


def await_topics(
    kafka: KafkaSettings, names: Sequence[str], stop: threading.Event, on_state: Callable[[str], None]
) -> bool:
    """Wait until all topics exist. Return False if `stop` was set first. `on_state` gets a text for `/health`."""
    while not stop.is_set():
        try:
            if wait_for_topics(kafka, names, stop, timeout_s=LOOK_FOR_S):
                on_state("connected")
                return True
        except Retry as error:
            on_state(str(error))
            stop.wait(RETRY_S)
    return False
