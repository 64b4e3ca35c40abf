"""Four ways to route the same records; `agents.bench.route` starts each of them as a process of its own.

Run as a file, ``python contestants.py NAME JOB``, so that a peer's Python needs nothing but the peer: each imports
its own library and nothing else. The job is JSON: address, count, input, outputs by privacy, folder. A contestant
routes that many records by their header ``privacy`` and prints ``{"wall_s", "cpu_s"}`` between its first record and
the acknowledgement of its last.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

MISSING: Final = 3
"""Exit code if the library is not installed."""


class RouteStopwatch:
    """Measures from the first record on."""

    def __init__(self) -> None:
        self._began: tuple[float, float] | None = None

    def start(self) -> None:
        """Start with the first record; later calls change nothing."""
        if self._began is None:
            self._began = (time.perf_counter(), time.process_time())

    def report(self) -> None:
        """Print the wall and the processor time since the start."""
        assert self._began is not None
        wall_s, cpu_s = self._began
        print(json.dumps({"wall_s": time.perf_counter() - wall_s, "cpu_s": time.process_time() - cpu_s}))


def tierwise(job: dict[str, Any]) -> None:
    """Run our router: the whole app of `tierwise stream`, as it runs in production."""
    from pipeline.clock import SystemClock
    from pipeline.settings.settings import KafkaSettings, Settings
    from pipeline.stream.app import Listeners, build_app, collect_rarely

    async def main() -> None:
        watch, done, routed, outputs = RouteStopwatch(), asyncio.Event(), 0, {*job["outputs"].values()}

        def count(topic: str, records: Sequence[object]) -> None:
            nonlocal routed
            routed += len(records) if topic in outputs else 0
            if routed >= job["count"]:
                done.set()

        settings = Settings(kafka=KafkaSettings(address=job["address"]), data=job["folder"])
        app = build_app(settings, SystemClock(), Listeners(lambda _: None, lambda _: None, count))
        router = app.transport.handlers[job["input"]]

        async def timed(partition: int, records: Sequence[Any]) -> None:
            watch.start()
            await router(partition, records)

        app.transport.handlers[job["input"]] = timed
        collect_rarely()
        await app.start()
        await done.wait()
        watch.report()
        await app.stop()

    (Path(job["folder"]) / "stream").mkdir(exist_ok=True)
    asyncio.run(main())


def faust(job: dict[str, Any]) -> None:
    """Run a Faust agent as its documentation writes it: one event at a time, ``await topic.send()``."""
    import faust

    async def main() -> None:
        watch, done = RouteStopwatch(), asyncio.Event()
        app = faust.App(
            "bench-faust",
            broker=f"kafka://{job['address']}",
            datadir=job["folder"],
            web_enabled=False,
            topic_disable_leader=True,
            consumer_auto_offset_reset="earliest",
            stream_buffer_maxsize=65_536,
        )
        outputs = {
            privacy.encode(): app.topic(name, value_serializer="raw") for privacy, name in job["outputs"].items()
        }

        async def route(stream: Any) -> None:
            routed = 0
            async for event in stream.events():
                watch.start()
                sent = await outputs[dict(event.headers)["privacy"]].send(
                    key=event.key, value=event.value, headers=event.headers
                )
                routed += 1
                if routed == job["count"]:
                    await sent
                    done.set()

        app.agent(app.topic(job["input"], value_serializer="raw", key_serializer="raw"))(route)
        await app.start()
        await done.wait()
        watch.report()
        await app.stop()

    asyncio.run(main())


def quixstreams(job: dict[str, Any]) -> None:
    """Run a streaming dataframe that routes by a header; its producer is librdkafka."""
    from quixstreams import Application

    watch, routed = RouteStopwatch(), 0
    app = Application(
        broker_address=job["address"],
        consumer_group="bench-quixstreams",
        auto_offset_reset="earliest",
        auto_create_topics=False,
        state_dir=job["folder"],
        loglevel="ERROR",
    )
    source = app.topic(job["input"], value_deserializer="bytes", key_deserializer="bytes")
    outputs = {
        privacy.encode(): app.topic(name, value_serializer="bytes", key_serializer="bytes")
        for privacy, name in job["outputs"].items()
    }

    def pick(_value: bytes, _key: bytes, _timestamp: int, headers: list[tuple[str, bytes]]) -> Any:
        nonlocal routed
        watch.start()
        routed += 1
        return outputs[dict(headers)["privacy"]]

    app.dataframe(source).to_topic(pick)
    app.run(count=job["count"])
    watch.report()


def aiokafka(job: dict[str, Any]) -> None:
    """Run a consumer and a producer by hand, on whole batches: the best that the others could reach in Python."""
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    async def main() -> None:
        watch, routed = RouteStopwatch(), 0
        consumer = AIOKafkaConsumer(
            job["input"],
            bootstrap_servers=job["address"],
            group_id="bench-aiokafka",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        producer = AIOKafkaProducer(bootstrap_servers=job["address"], acks="all", max_batch_size=256 << 10)
        await consumer.start()
        await producer.start()
        outputs = {privacy.encode(): name for privacy, name in job["outputs"].items()}
        while routed < job["count"]:
            fetched = await consumer.getmany(timeout_ms=1000)
            if fetched:
                watch.start()
            sent = []
            for partition, records in fetched.items():
                batches: dict[str, Any] = {}
                for record in records:
                    topic = outputs[dict(record.headers)["privacy"]]
                    batch = batches.setdefault(topic, producer.create_batch())
                    what = {"timestamp": record.timestamp, "key": record.key, "value": record.value}
                    if batch.append(**what, headers=list(record.headers)) is None:
                        sent.append(await producer.send_batch(batch, topic, partition=partition.partition))
                        batch = batches[topic] = producer.create_batch()
                        batch.append(**what, headers=list(record.headers))
                for topic, batch in batches.items():
                    sent.append(await producer.send_batch(batch, topic, partition=partition.partition))
                routed += len(records)
            await asyncio.gather(*sent)
            await consumer.commit()
        watch.report()
        await producer.stop()
        await consumer.stop()

    asyncio.run(main())


CONTESTANTS: Final[dict[str, Callable[[dict[str, Any]], None]]] = {
    "tierwise": tierwise,
    "faust": faust,
    "quixstreams": quixstreams,
    "aiokafka": aiokafka,
}


if __name__ == "__main__":
    try:
        CONTESTANTS[sys.argv[1]](json.loads(sys.argv[2]))
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        sys.exit(MISSING)
