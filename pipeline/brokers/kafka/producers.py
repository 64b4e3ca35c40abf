"""Remembers the last batches of each idempotent producer, so that a repeated batch is not stored twice.

A producer without an answer (the connection broke, the broker was killed) sends the batch again with the same sequence
number. This is pure bookkeeping over the headers of appended and recovered batches.

Source: KIP-98 (idempotent producer); Kafka keeps the last five batches of a producer, too.

Example::

    windows = ProducerWindows()
    windows.offset_of(header)     # None if it is new: store it
    windows.note(header, 100)
    windows.offset_of(header)     # 100: answer with the offset of the first time
"""

from __future__ import annotations

from collections import OrderedDict, deque

from pipeline.brokers.kafka.batch import BatchHeader
from pipeline.brokers.kafka.errors import BrokerError, Code

# A producer has at most five requests in flight, so it cannot repeat an older batch.
REMEMBERED_BATCHES = 5
# For each partition; the producer that was quiet longest is forgotten first.
REMEMBERED_PRODUCERS = 1000
SEQUENCES = 2**31


class ProducerWindows:
    """The last batches of each producer of one partition."""

    __slots__ = ("_windows",)

    def __init__(self) -> None:
        # producer id -> (epoch, the last batches as (first sequence, next sequence, base offset))
        self._windows: OrderedDict[int, tuple[int, deque[tuple[int, int, int]]]] = OrderedDict()

    def offset_of(self, header: BatchHeader) -> int | None:
        """Return the offset at which this batch was stored before, or None if it is new.

        Raises
        ------
        BrokerError
            OUT_OF_ORDER_SEQUENCE_NUMBER or INVALID_PRODUCER_EPOCH.
        """
        known = self._windows.get(header.producer_id)
        if header.producer_id < 0 or known is None:
            return None
        epoch, window = known
        if header.producer_epoch < epoch:
            raise BrokerError(Code.INVALID_PRODUCER_EPOCH, "a newer producer has this id")
        if header.producer_epoch > epoch:
            if header.base_sequence != 0:
                raise BrokerError(Code.OUT_OF_ORDER_SEQUENCE_NUMBER, "a new epoch starts at sequence 0")
            return None
        ends = (header.base_sequence, _next_sequence(header))
        for first, following, offset in window:
            if (first, following) == ends:
                return offset
        if header.base_sequence != window[-1][1]:
            raise BrokerError(
                Code.OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"producer {header.producer_id}: sequence {header.base_sequence} after {window[-1][1] - 1}",
            )
        return None

    def note(self, header: BatchHeader, offset: int) -> None:
        """Remember that this batch is stored at `offset`."""
        if header.producer_id < 0:
            return
        epoch, window = self._windows.pop(header.producer_id, (-1, deque()))
        if epoch != header.producer_epoch:
            window = deque(maxlen=REMEMBERED_BATCHES)
        window.append((header.base_sequence, _next_sequence(header), offset))
        self._windows[header.producer_id] = (header.producer_epoch, window)
        if len(self._windows) > REMEMBERED_PRODUCERS:
            self._windows.popitem(last=False)


def _next_sequence(header: BatchHeader) -> int:
    return (header.base_sequence + header.record_count) % SEQUENCES
