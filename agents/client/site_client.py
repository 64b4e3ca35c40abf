"""A person's own connection to the site's broker, for the time of a command or a script."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from agents.client.edge_reader import standing_answer
from agents.client.labelling import LabelDelivery, Labelling, now_text, person
from agents.client.publishing import Capture, Publishing
from agents.client.window import D, DeliveryState, DeliveryWindow, replies_to
from agents.role.presence import endpoint
from pipeline import clock, ids, topics
from pipeline.errors import Rejected, Retry
from pipeline.messages import Label, Malformed, Result, decode
from pipeline.mqtt import Connection, Message
from pipeline.privacy.gate import Cleared
from pipeline.settings.settings import Settings

CONNECT_WITHIN_S: Final = 5.0

TICK_S: Final = 0.2

ANSWERED_WITHIN_S: Final = 60.0
"""The deadline of each tier is far below: an answer that is pending after this has lost its tier for good."""

LABELLED_WITHIN_S: Final = 45.0
"""Longer than the edge waits for an event that its label has overtaken."""


class MessageQueue:
    """Hands what a connection receives to the thread of the command."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def connected(self, session_present: bool) -> int:  # noqa: ARG002 - the transport's interface; nothing is stored here
        """Return the mark of the newest stored message: none is stored."""
        return 0

    def received(self, batch: Sequence[Message]) -> int:
        """Take a batch in."""
        for message in batch:
            self._messages.put(message)
        return 0

    def confirmed(self, mark: int) -> None:
        """Do nothing: no message is stored here that could be dropped now."""

    def take(self, timeout_s: float) -> list[Message]:
        """Return all messages that are there; wait for the first one, up to the timeout."""
        taken = []
        with contextlib.suppress(queue.Empty):
            taken.append(self._messages.get(timeout=timeout_s))
            while True:
                taken.append(self._messages.get_nowait())
        return taken


class SiteClient:
    """A client of a site's broker, made by `connect`. Methods without a `DeliveryWindow` wait for the answer."""

    def __init__(self, settings: Settings, connection: Connection, messages: MessageQueue) -> None:
        self.settings = settings
        self._connection = connection
        self._messages = messages

    # --- messages ----------------------------------------------------------------------------------------------

    @property
    def problem(self) -> str:
        """Why nothing can be sent or received now; empty: all is well."""
        return self._connection.problem

    def take(self, timeout_s: float) -> list[Message]:
        """Return all messages that have come; wait for the first one, up to the timeout."""
        return self._messages.take(timeout_s)

    def publish(self, cleared: Cleared) -> None:
        """Publish one message. Raises `Retry` while the broker is away; see `deliver` for how to repeat it."""
        self._connection.wait_writable(1.0)
        self._connection.publish(cleared)

    def deliver(self, window: DeliveryWindow[D]) -> Iterator[list[tuple[D, Result | None]]]:
        """Publish all messages of a window, repeat what is not acknowledged, and yield the news of each round.

        It ends when all messages are answered or refused. The caller decides how long to wait.
        """
        while not window.is_done():
            window.publish_due(self._connection.publish, time.monotonic())
            yield [news for message in self.take(TICK_S) for news in window.receive(message.topic, message.payload)]

    def deliver_labels(self, labels: Sequence[LabelDelivery]) -> Iterator[LabelDelivery]:
        """Send labels to the edge, and yield each one when the edge has accepted or refused it.

        Raises
        ------
        Retry
            The edge did not answer for `LABELLED_WITHIN_S`.
        """
        labelling = Labelling(labels)
        progressed_s = time.monotonic()
        for news in self.deliver(labelling):
            for label, _ in news:
                progressed_s = time.monotonic()
                yield label
            if time.monotonic() - progressed_s > LABELLED_WITHIN_S:
                left = len(labels) - labelling.accepted
                raise Retry(
                    f"the edge did not answer for {LABELLED_WITHIN_S:.0f} s; {left} of {len(labels)} labels are not "
                    "acknowledged. Is an edge running? See `tierwise health`. It accepts the labels once it is back"
                )

    # --- for scripts -------------------------------------------------------------------------------------------

    def publish_photo(self, photo: Path, stream: str) -> Result:
        """Publish a JPEG or PNG as this camera (``device/stream``), and return the last answer.

        Raises
        ------
        Rejected
            The device agent refused the photo. The text has the reason.
        Retry
            No agent acknowledged or answered it in time.
        """
        device, _, name = stream.partition("/")
        topic = topics.frame(self.settings.site, device, name)
        return self._answer(Capture(photo.name, topic, photo.read_bytes()))

    def publish_reading(self, value: float, stream: str, unit: str = "") -> Result:
        """Publish a reading as this sensor, and return the last answer. Raises as `publish_photo`."""
        device, _, name = stream.partition("/")
        return self._answer(reading(self.settings.site, device, name, value, unit))

    def label(
        self, event: str, device: str, label: str | None, *, by: str | None = None, under: str = ""
    ) -> Result | None:
        """Label an event of a device (None withdraws the label); return its new answer, if the label changed it.

        Raises
        ------
        Rejected
            The edge refused the label. The text has the reason.
        Retry
            No edge answered in time.
        """
        given = Label(event=event, label=label, by=person(by), time=now_text(), under=under)
        (delivery,) = self.deliver_labels([LabelDelivery.of(given, self.settings.site, device)])
        if delivery.refusal is not None:
            raise Rejected(delivery.refusal.reason, delivery.refusal.detail)
        return delivery.answer

    def answers(self, timeout_s: float | None = None) -> Iterator[Result]:
        """Yield the answers of the site's tiers as they come: for ever, or until none came for so long."""
        while True:
            found = self.take(TICK_S if timeout_s is None else timeout_s)
            if not found and timeout_s is not None:
                return
            for message in found:
                parsed = topics.parse(message.topic)
                if parsed is not None and parsed.channel in ("result", "private"):
                    with contextlib.suppress(Malformed):  # anyone may publish there
                        yield decode(Result, message.payload)

    def _answer(self, publication: Capture) -> Result:
        until_s = time.monotonic() + ANSWERED_WITHIN_S
        for _ in self.deliver(Publishing([publication], partial(standing_answer, self.settings.data_dir))):
            if time.monotonic() > until_s:
                break
        if publication.refusal is not None:
            raise Rejected(publication.refusal.reason, publication.refusal.detail)
        if publication.answer is None:
            state = "not acknowledged" if publication.state is DeliveryState.WAITING else "not answered"
            state = "published before, and not answered again" if publication.repeat else state
            raise Retry(f"{publication.name}: {state} within {ANSWERED_WITHIN_S:.0f} s. See `tierwise health`")
        return publication.answer


def reading(site: str, device: str, stream: str, value: float, unit: str = "") -> Capture:
    """Make a reading of now, with an id of its own."""
    now_s = time.time()
    event = ids.event_id(now_s)
    body: dict[str, Any] = {"value": value, "time": clock.rfc3339(now_s), "id": event}
    if unit:
        body["unit"] = unit
    topic = topics.reading(site, device, stream)
    return Capture(f"{value:g} {unit}".strip(), topic, msgspec.json.encode(body), id=event)


@contextlib.contextmanager
def connect(
    settings: Settings | None = None, purpose: str = "client", subscriptions: Sequence[str] | None = None
) -> Iterator[SiteClient]:
    """Connect to the site's broker. Without subscriptions, receive what all devices of the site answer.

    Raises
    ------
    Stop
        The settings file cannot be used.
    Retry
        The broker does not answer, or refuses the login.
    """
    loaded = settings or Settings.load(None)
    ours = logging.getLogger("pipeline")
    before = ours.level
    ours.setLevel(logging.CRITICAL)  # who calls reports connections
    messages = MessageQueue()
    connection = Connection(
        endpoint(loaded.mqtt),
        f"tierwise-{purpose}-{os.urandom(4).hex()}",
        subscriptions=replies_to(loaded.site, "+") if subscriptions is None else subscriptions,
        handler=messages,
        persistent=False,
    )
    connection.start()
    try:
        if not connection.wait_connected(CONNECT_WITHIN_S):
            raise Retry(
                f"MQTT broker {connection.endpoint}: {connection.problem}. Start one with `tierwise up`, "
                "or name yours in the settings ([mqtt] address)"
            )
        yield SiteClient(loaded, connection, messages)
    finally:
        connection.stop()
        ours.setLevel(before)
