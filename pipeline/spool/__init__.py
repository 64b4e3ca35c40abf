"""The durable inbox and outbox of an agent: one SQLite file, committed before anything is acknowledged.

It stands between the network and the work, in both directions::

    MQTT > Ingest > receive | waiting > workers > finish + send | outgoing > Sender > MQTT
                     inbox                  (one transaction)      outbox
                                                            settle < the next hop's acknowledgement

What `receive` returned is on disk (WAL, synchronous=FULL): whatever is killed, it is handed out until a worker
finishes it, and what the worker sends is kept until the next hop acknowledges it::

    with spool.transaction() as tx:
        tx.finish(item)
        tx.send(Outgoing(id=item.id, hop="edge", topic=topic, payload=payload, created_at=now))

Nothing is taken twice. A payload's own id is remembered. A message without one is recognised as a redelivery if
it equals (topic, SHA-256) a row that came over the same link and whose acknowledgement the broker may have missed
(see `reconnected` and `broker_acknowledged`); two equal readings otherwise are two events.

One writer connection under a lock, one reader connection under another: call it from any thread.
"""

from pipeline.spool.file import InUse
from pipeline.spool.records import Arrival, Item, Outgoing, Receipt
from pipeline.spool.store import Spool
from pipeline.spool.transaction import Transaction

__all__ = ["Arrival", "InUse", "Item", "Outgoing", "Receipt", "Spool", "Transaction"]
