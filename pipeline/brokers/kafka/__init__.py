"""A small durable broker that speaks the part of Kafka's protocol that our clients use.

It replaces Apache Kafka on a single machine, so that `tierwise up` needs only pip. It is one process, on loopback only,
without replication.

::

    server.py   connections, each with one request at a time; start and stop of the process
      api.py    a function for each kind of request, and the table of these functions
      coordinator.py  the same for consumer groups: which member waits for which answer
        groups.py   one group: a state machine without I/O
        store.py    topics, committed offsets, group commit to disk
          log.py      one partition: segment files, index, recovery, retention
            compact.py  keeps only the newest record of each key
              batch.py    record batches, as on the wire and on disk
    errors.py   Kafka's error codes, and the exception that carries one

The broker promises:

* A produce request with acks=1 or acks=all is answered after its bytes are on disk (`fdatasync`; on macOS
  `F_FULLFSYNC`). All waiting requests share one sync (group commit). Consumers see only records that are on disk.
* Committed offsets and topics are on disk before the answer, too.
* Every record batch is checked against its CRC-32C when it is produced, and the open segment of every partition is
  checked again at start. A torn tail is cut off and kept beside the log.
* Memory does not grow with the log: records are read from disk, and memory holds only a sparse index.

Example::

    python -m pipeline.brokers.kafka --dir /tmp/broker --port 9092
"""
