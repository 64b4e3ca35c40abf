"""The durable inbox and outbox of an agent: one SQLite file, committed before a message is acknowledged.

The spool stands between the network and the workers, in both directions::

    MQTT > Ingest > receive | waiting > workers > finish + send | outgoing > Sender > MQTT
                     inbox                  (one transaction)      outbox
                                                            settle < the next hop's acknowledgement

When `receive` returns, the messages are on disk (WAL, synchronous=FULL). Even after a kill, the spool hands a message
out until a worker finishes it, and keeps each record that the worker sends until the next hop acknowledges it::

    with spool.transaction() as tx:
        tx.finish(item)
        tx.send(Outgoing(id=item.id, hop="edge", topic=topic, payload=payload, created_at=now))

No message is taken twice. The spool remembers the ids that publishers give. A message without an id counts as a
redelivery if its topic and SHA-256 equal those of a row from the same link whose acknowledgement the broker may have
missed (see `reconnected` and `broker_acknowledged`). Otherwise two equal readings are two events.

The spool has a writer and a reader connection, each under its own lock: call it from any thread.
"""

from pipeline.spool.file import InUse
from pipeline.spool.records import Arrival, Backlog, Item, MessagePart, Outgoing, Receipt
from pipeline.spool.store import Spool
from pipeline.spool.transaction import Transaction

__all__ = ["Arrival", "Backlog", "InUse", "Item", "MessagePart", "Outgoing", "Receipt", "Spool", "Transaction"]
