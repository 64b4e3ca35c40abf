"""A login's rights at Kafka, as plain data: `agents.deploy.logins` lists them, `pipeline.kafka.grant` gives them."""

from __future__ import annotations

from typing import Literal, NamedTuple

Operation = Literal["READ", "WRITE", "CREATE", "DESCRIBE", "DESCRIBE_CONFIGS"]


class Right(NamedTuple):
    """What one login may do with a topic or consumer group; `prefixed` extends it to all names that begin so."""

    login: str
    kind: Literal["TOPIC", "GROUP"]
    name: str
    operations: tuple[Operation, ...]
    prefixed: bool = False
