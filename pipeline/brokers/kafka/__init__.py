"""A small durable broker that speaks the part of Kafka's protocol which our clients use.

It stands where Apache Kafka stands in production, between the gateway and the Faust workers, so that
`tierwise up` needs nothing but pip. One process, one machine, loopback only, no replication.

::

    server.py   connections, one request at a time each, process start and stop
      api.py    one function for each kind of request, and the table of them
      coordinator.py  the same for consumer groups: who waits for what
        groups.py   one group: a state machine without I/O
        store.py    topics, committed offsets, group commit to disk
          log.py      one partition: segment files, index, recovery, retention
            compact.py  keeps only the newest record of each key
              batch.py    record batches as they stand on the wire and on disk
    errors.py   Kafka's error codes, and the exception that carries one

What is promised, and how it is kept:

* A produce request with acks=1 or acks=all is answered after its bytes are on disk (`fdatasync`; on macOS
  `F_FULLFSYNC`). All requests that wait share one sync (group commit). Consumers see only what is on disk.
* Committed offsets and topics are on disk before the answer, too.
* Every record batch is checked against its CRC-32C when it is produced, and the open segment of every
  partition again at start; a torn tail is cut off, and what was cut is kept beside the log.
* Memory does not grow with the log: reads come from disk, and a sparse index is all that is kept of it.

Example::

    python -m pipeline.brokers.kafka --dir /tmp/broker --port 9092
"""
