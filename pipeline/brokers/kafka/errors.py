"""The error codes of Kafka that this broker uses, and the exception that carries one.

A request handler raises `BrokerError`; the code that builds the answer puts the error code where the protocol wants it
(the whole answer, a topic or a partition).

Source: the table "Error Codes" of Kafka's protocol guide.

Example::

    raise BrokerError(Code.UNKNOWN_TOPIC_OR_PARTITION, "no topic 'a': create it first")
"""

from __future__ import annotations

from enum import IntEnum

from pipeline.errors import TierwiseError


class Code(IntEnum):
    """Error codes of Kafka's protocol, under Kafka's own names."""

    NONE = 0
    OFFSET_OUT_OF_RANGE = 1
    CORRUPT_MESSAGE = 2
    UNKNOWN_TOPIC_OR_PARTITION = 3
    MESSAGE_TOO_LARGE = 10
    OFFSET_METADATA_TOO_LARGE = 12
    INVALID_TOPIC_EXCEPTION = 17
    INVALID_REQUIRED_ACKS = 21
    ILLEGAL_GENERATION = 22
    INCONSISTENT_GROUP_PROTOCOL = 23
    INVALID_GROUP_ID = 24
    UNKNOWN_MEMBER_ID = 25
    INVALID_SESSION_TIMEOUT = 26
    REBALANCE_IN_PROGRESS = 27
    UNSUPPORTED_VERSION = 35
    TOPIC_ALREADY_EXISTS = 36
    INVALID_PARTITIONS = 37
    INVALID_REPLICATION_FACTOR = 38
    INVALID_CONFIG = 40
    INVALID_REQUEST = 42
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45
    INVALID_PRODUCER_EPOCH = 47
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53
    KAFKA_STORAGE_ERROR = 56
    FETCH_SESSION_ID_NOT_FOUND = 70
    UNSUPPORTED_COMPRESSION_TYPE = 76
    MEMBER_ID_REQUIRED = 79
    GROUP_MAX_SIZE_REACHED = 81
    INVALID_RECORD = 87


class BrokerError(TierwiseError):
    """A request, or its part about one topic or partition, is refused with an error code."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
