"""Cameras and a sensor that publish to a running stack until told to end, and then tell what became of every event.

Plain MQTT clients with the logins that `tierwise credentials` prints; run by compose/check.sh, by hand as::

    python tests/compose/traffic.py --port 1883 --logins logins.json --streams 12 --report traffic.json
    (SIGTERM: no new events; waits until all are answered, or nothing has moved for three minutes)

The traffic is a closed loop: while `OPEN_MAX` events are open, no new one is published. So a slow machine gets fewer
events and not a longer queue.

An event counts from its acknowledgement on. It is lost if no tier ever answers it, or if a tier asked the cloud and no
answer of the cloud ever came. It is late if its last answer came more than `LATE_S` after it was published; that is no
loss.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import threading
import time
from collections import Counter
from itertools import cycle
from pathlib import Path
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from agents.demo.scenes import SCENES, jpegs
from pipeline import ids, topics

SITE = "home"
REPEAT_S = 8.0
OPEN_MAX = 40
"""Events that are not answered yet, at most: more would only wait in the stack's queues."""
LATE_S = 30.0
STILL_S = 180.0
"""The drain ends when the number of open events has not changed for this time: whatever is open then is lost."""


class Client:
    """A paho client that reconnects by itself and keeps its session, as a phone or a camera would."""

    def __init__(self, port: int, login: tuple[str, str], subscriptions: list[str], on_message: Any) -> None:
        name, password = login
        mqtt = paho.Client(CallbackAPIVersion.VERSION2, f"check-{name}", clean_session=False)
        mqtt.username_pw_set(name, password)
        mqtt.reconnect_delay_set(1, 2)
        mqtt.on_connect = lambda client, *_: client.subscribe([(topic, 1) for topic in subscriptions])
        mqtt.on_message = lambda _client, _data, message: on_message(message.topic, message.payload)
        mqtt.connect("127.0.0.1", port)
        mqtt.loop_start()
        self.mqtt = mqtt

    def publish(self, topic: str, payload: bytes) -> None:
        self.mqtt.publish(topic, payload, qos=1)


class Traffic:
    def __init__(self, port: int, logins: dict[str, str], streams: int) -> None:
        self._lock = threading.Lock()
        self._unacknowledged: dict[str, tuple[str, bytes, float, float]] = {}
        """By digest of the payload: topic, payload, when it was sent last and first."""
        self.published = 0
        self.acknowledged: set[str] = set()
        self.answers: dict[str, dict[int, dict[str, Any]]] = {}
        """By event and revision."""
        self._sent_s: dict[str, float] = {}
        """When each acknowledged event was published first, by event."""
        self._waits_s: dict[str, float] = {}
        """From the first publish to the newest answer, by event."""
        acks = f"{topics.ROOT}/{SITE}/+/ack"
        self._camera = Client(port, ("camera", logins["camera"]), [acks], self._acked)
        answers = [f"{topics.ROOT}/+/+/{branch}/+" for branch in ("result", "private")]
        self._owner = Client(port, ("owner", logins["owner"]), answers, self._answered)
        self._topics = cycle(topics.frame(SITE, f"cam{number}", "garden") for number in range(1, streams + 1))
        cat, person, _ = SCENES
        self._cats = cycle(list(jpegs(cat, 40)))
        self._persons = cycle(list(jpegs(person, 10)))

    # --- heard -----------------------------------------------------------------------------------------------

    def _acked(self, _topic: str, payload: bytes) -> None:
        told = json.loads(payload)
        with self._lock:
            sent = self._unacknowledged.pop(told["sha256"], None)
            if sent is not None:
                self.acknowledged.update(told["ids"])
                self._sent_s.update((event, sent[3]) for event in told["ids"])

    def _answered(self, _topic: str, payload: bytes) -> None:
        told = json.loads(payload)
        with self._lock:
            if told["revision"] not in self.answers.setdefault(told["event"], {}):
                self._waits_s[told["event"]] = time.monotonic()
            self.answers[told["event"]][told["revision"]] = told

    # --- said ------------------------------------------------------------------------------------------------

    def publish(self, number: int) -> None:
        """Publish one round, unless too much is open: a cat at one of the cameras, a reading; now and then a person."""
        if self.open() >= OPEN_MAX:
            return
        self._send(next(self._topics), _unique(next(self._cats), number))
        reading = {"value": 20 + number % 7, "unit": "Cel", "id": ids.event_id(time.time())}
        self._send(topics.reading(SITE, "room1", "temperature"), json.dumps(reading).encode())
        if number % 5 == 0:
            self._send(topics.frame(SITE, "door", "door"), _unique(next(self._persons), number))

    def _send(self, topic: str, payload: bytes) -> None:
        now = time.monotonic()
        with self._lock:
            self.published += 1
            self._unacknowledged[hashlib.sha256(payload).hexdigest()] = (topic, payload, now, now)
        self._camera.publish(topic, payload)

    def repeat(self) -> None:
        """What was not acknowledged is published again, as any careful publisher does."""
        now = time.monotonic()
        with self._lock:
            due = [(k, v) for k, v in self._unacknowledged.items() if now - v[2] > REPEAT_S]
            for key, (topic, payload, _, first) in due:
                self._unacknowledged[key] = (topic, payload, now, first)
        for _, (topic, payload, _, _) in due:
            self._camera.publish(topic, payload)

    def drain(self) -> None:
        """Wait until nothing is open, or nothing moves any more."""
        left, moved = self.open(), time.monotonic()
        while left and time.monotonic() - moved < STILL_S:
            self.repeat()
            time.sleep(0.5)
            if (now_left := self.open()) != left:
                left, moved = now_left, time.monotonic()

    # --- what became of it -----------------------------------------------------------------------------------

    def open(self) -> int:
        """Events that something is still to happen to."""
        with self._lock:
            return len(self._unacknowledged) + len(self._unanswered()) + len(self._unasked())

    def _unanswered(self) -> set[str]:
        return {event for event in self.acknowledged if event not in self.answers}

    def _unasked(self) -> set[str]:
        """Events that the cloud was asked about and has not answered."""
        return {
            event
            for event in self.acknowledged & self.answers.keys()
            if any(answer["pending"] == "cloud" for answer in self.answers[event].values())
            and not any(answer["tier"] == "cloud" for answer in self.answers[event].values())
        }

    def report(self) -> dict[str, Any]:
        with self._lock:
            by_tier = Counter(
                tier
                for event in self.acknowledged
                for tier in {answer["tier"] for answer in self.answers.get(event, {}).values()}
            )
            species = Counter(
                answer["label"]
                for revisions in self.answers.values()
                for answer in revisions.values()
                if answer["rank"] == "species"
            )
            waits = sorted(at - self._sent_s[event] for event, at in self._waits_s.items() if event in self._sent_s)
            return {
                "published": self.published,
                "unacknowledged": len(self._unacknowledged),
                "acknowledged": len(self.acknowledged),
                "answered_by": dict(sorted(by_tier.items())),
                "species": dict(species.most_common(3)),
                "late": sum(wait > LATE_S for wait in waits),
                "longest_wait_s": round(waits[-1], 1) if waits else None,
                "lost": len(self._unanswered()),
                "lost_on_the_way_to_the_cloud": len(self._unasked()),
            }


def _unique(jpeg: bytes, number: int) -> bytes:
    """The same picture as another file: a comment segment (JPEG, ITU-T T.81, B.2.4.5) with the number."""
    text = f"{number}/{time.time_ns()}".encode()
    return jpeg[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + jpeg[2:]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--logins", type=Path, required=True)
    parser.add_argument("--streams", type=int, default=12)
    parser.add_argument("--pause-s", type=float, default=0.8)
    parser.add_argument("--report", type=Path, required=True)
    given = parser.parse_args()
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    logins = [json.loads(line) for line in given.logins.read_text().splitlines()]
    traffic = Traffic(
        given.port,
        {login["name"]: login["password"] for login in logins if login["where"] == "mqtt"},
        given.streams,
    )
    number = 0
    while not ending.wait(given.pause_s):
        number += 1
        traffic.publish(number)
        traffic.repeat()
    traffic.drain()
    given.report.write_text(json.dumps(traffic.report(), indent=1) + "\n")


if __name__ == "__main__":
    main()
