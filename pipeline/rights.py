"""What a login may do at Kafka, as plain data: tables name it (`agents.deploy.logins`), `pipeline.kafka.grant` tells a broker."""

from __future__ import annotations

from typing import Literal, NamedTuple

Operation = Literal["READ", "WRITE", "CREATE", "DESCRIBE", "DESCRIBE_CONFIGS"]


class Right(NamedTuple):
    """What one user may do with a topic or a consumer group; `prefixed`: with all that begin so."""

    login: str
    kind: Literal["TOPIC", "GROUP"]
    name: str
    operations: tuple[Operation, ...]
    prefixed: bool = False
