"""The MQTT transport; nothing outside this folder imports paho.

A `Connection` is one client of one broker on a thread of its own: everything that paho does happens there. It
connects for ever, subscribes and publishes its birth at every connect, and hands what arrives to a `Handler` in
batches. Only when the handler returns, having committed them, are they acknowledged to the broker::

    broker                   Connection                 Handler (delivery.Ingest)
      | PUBLISH (up to 50)  >  | received(batch)       > | commit, fsync
      | < PUBACK (each)        |                       < | mark
      | < SUBSCRIBE (a fence)  |                         |
      | SUBACK              >  | confirmed(mark)       > | the broker has these acknowledgements for sure

Nothing is queued between the network and the handler: a slow commit slows the reading, which is the backpressure.
What is published has passed the privacy gate (`Cleared`), at QoS 1, at most 100 unacknowledged. After a disconnect
those are forgotten here: the spool, which kept them, sends them again.

    >>> probe("127.0.0.1", 1)
    'free'
"""

from pipeline.mqtt.connection import PAYLOAD_MAX_BYTES, Connection
from pipeline.mqtt.endpoint import Endpoint, probe
from pipeline.mqtt.session import Handler, Message

__all__ = ["PAYLOAD_MAX_BYTES", "Connection", "Endpoint", "Handler", "Message", "probe"]
