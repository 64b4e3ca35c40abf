"""A person's own connection to the site's broker, for the commands that publish and watch."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
from collections.abc import Iterator, Sequence
from typing import Final

from agents.role.presence import endpoint
from pipeline.errors import Retry
from pipeline.mqtt import Connection, Message
from pipeline.settings.settings import Settings

CONNECT_WITHIN_S: Final = 5.0


class Inbox:
    """Hands what a connection receives to the command's own thread."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def connected(self, session_present: bool) -> int:  # noqa: ARG002 - the transport's interface; nothing is stored here
        return 0

    def received(self, batch: Sequence[Message]) -> int:
        for message in batch:
            self._messages.put(message)
        return 0

    def confirmed(self, mark: int) -> None:
        """Nothing is stored here that could be forgotten now."""

    def take(self, timeout_s: float) -> list[Message]:
        """All that has come; waits for the first, up to the timeout."""
        taken = []
        with contextlib.suppress(queue.Empty):
            taken.append(self._messages.get(timeout=timeout_s))
            while True:
                taken.append(self._messages.get_nowait())
        return taken


@contextlib.contextmanager
def at_site(
    settings: Settings, purpose: str, subscriptions: Sequence[str]
) -> Iterator[tuple[Connection, Inbox]]:
    """Connect for the time of a command.

    Raises
    ------
    Retry
        The site's broker does not answer, or refuses the login.
    """
    ours = logging.getLogger("pipeline")
    before = ours.level
    ours.setLevel(logging.CRITICAL)  # the command tells of connections itself
    inbox = Inbox()
    connection = Connection(
        endpoint(settings.mqtt),
        f"tierwise-{purpose}-{os.urandom(4).hex()}",
        subscriptions=subscriptions,
        handler=inbox,
        persistent=False,
    )
    connection.start()
    try:
        if not connection.wait_connected(CONNECT_WITHIN_S):
            raise Retry(
                f"MQTT broker {connection.endpoint}: {connection.problem}. Start one with `tierwise up`, "
                "or name yours in the settings ([mqtt] address)"
            )
        yield connection, inbox
    finally:
        connection.stop()
        ours.setLevel(before)
