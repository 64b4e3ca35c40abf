"""How the cloud's roles meet Kafka: they wait for the topics that `tierwise stream` makes, however long that takes.

Apart from `links.py`, so that a device or an edge imports no Kafka client.
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
    kafka: KafkaSettings, names: Sequence[str], stop: threading.Event, tell: Callable[[str], None]
) -> bool:
    """Wait until all of these topics are there; `tell` gets a word about it for `/health`. False: `stop` was set."""
    while not stop.is_set():
        try:
            if wait_for_topics(kafka, names, stop, timeout_s=LOOK_FOR_S):
                tell("connected")
                return True
        except Retry as error:
            tell(str(error))
            stop.wait(RETRY_S)
    return False
