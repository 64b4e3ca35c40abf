"""The MQTT transport; no other folder imports paho.

A `Connection` is a client of one broker, on a thread of its own. It reconnects for ever. At each connect it subscribes
and publishes its birth message. It passes arriving messages to a `Handler` in batches, and acknowledges them to the
broker after the handler has committed them::

    broker                   Connection                 Handler (delivery.Ingest)
      | PUBLISH (up to 50)  >  | received(batch)       > | commit, fsync
      | < PUBACK (each)        |                       < | mark
      | < SUBSCRIBE (a fence)  |                         |
      | SUBACK              >  | confirmed(mark)       > | the broker certainly has these acknowledgements

There is no queue between the network and the handler: a slow commit slows the reading down (backpressure). Only
messages that passed the privacy gate (`Cleared`) are published, at QoS 1, at most 100 of them unacknowledged. After a
disconnect the connection forgets those, and the spool sends them again.

    >>> probe("127.0.0.1", 1)
    'free'
"""

from pipeline.mqtt.connection import PAYLOAD_MAX_BYTES, Connection
from pipeline.mqtt.endpoint import Endpoint, probe
from pipeline.mqtt.session import Handler, Message

__all__ = ["PAYLOAD_MAX_BYTES", "Connection", "Endpoint", "Handler", "Message", "probe"]
