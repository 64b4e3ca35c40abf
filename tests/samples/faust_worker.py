"""A Faust worker without its command line: counts records by key into a table and sends each count on.

    python faust_worker.py ADDRESS APP SOURCE SINK DIRECTORY SESSION_S

Prints `ready` when its table is recovered and its partitions are assigned; ends when it is killed.
"""

from __future__ import annotations

import asyncio
import sys

import faust


def build(address: str, name: str, source: str, sink: str, directory: str, session_s: str) -> faust.App:
    app = faust.App(
        name,
        broker=f"kafka://{address}",
        datadir=directory,
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        topic_partitions=2,
        autodiscover=False,
        broker_session_timeout=float(session_s),
        broker_heartbeat_interval=float(session_s) / 3,
        broker_commit_interval=1.0,
    )
    counts = app.Table("counts", default=int, partitions=2)
    incoming = app.topic(source, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    outgoing = app.topic(sink, key_type=bytes, key_serializer="raw", value_serializer="json")

    @app.agent(incoming)
    async def count(stream: faust.Stream) -> None:
        async for key, _ in stream.items():  # noqa: PERF102 - a stream, not a dict
            counts[key.decode()] += 1
            future = await outgoing.send(key=key, value=counts[key.decode()])
            await future

    return app


async def main() -> None:
    app = build(*sys.argv[1:7])
    await app.start()
    while not app.rebalancing and not app.tables.recovery.started:
        await asyncio.sleep(0.05)
    print("ready", flush=True)
    await app.wait_until_stopped()
    if app.crash_reason:
        raise app.crash_reason


if __name__ == "__main__":
    asyncio.run(main())
