"""Ours: the app of `tierwise stream`, all of it, as it runs in production."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from pipeline import topics
from pipeline.clock import SystemClock
from pipeline.settings import KafkaSettings, Settings
from pipeline.stream.app import Listeners, build_app


async def main(job: dict[str, Any]) -> None:
    began: list[tuple[float, float]] = []
    done = asyncio.Event()
    routed = 0

    def count(_topic: str, records: Sequence[object]) -> None:
        nonlocal routed
        routed += len(records)
        if routed >= job["count"]:
            done.set()

    settings = Settings(kafka=KafkaSettings(address=job["address"]), data=job["folder"])
    app = build_app(settings, SystemClock(), Listeners(lambda _: None, lambda _: None, count))
    router = app.transport.handlers[topics.INGEST]

    async def timed(partition: int, records: Sequence[Any]) -> None:
        if not began:
            began.append((time.perf_counter(), time.process_time()))
        await router(partition, records)

    app.transport.handlers[topics.INGEST] = timed
    await app.start()
    await done.wait()
    wall_s, cpu_s = began[0]
    print(json.dumps({"wall_s": time.perf_counter() - wall_s, "cpu_s": time.process_time() - cpu_s}))
    await app.stop()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
