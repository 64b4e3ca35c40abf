"""A login's rights at Kafka, as plain data: `agents.deploy.logins` lists them, `pipeline.kafka.grant` gives them."""

from __future__ import annotations

from typing import Literal, NamedTuple

Operation = Literal["READ", "WRITE", "DESCRIBE"]


class Right(NamedTuple):
    """A login's rights on a topic or consumer group. `prefixed` extends them to all names that begin so."""

    login: str
    kind: Literal["TOPIC", "GROUP"]
    name: str
    operations: tuple[Operation, ...]
    prefixed: bool = False
