"""The topic tables of docs/topics.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pipeline import topics
from tools.reference.channels import KAFKA, SITE, UPLINK, Channel
from tools.reference.struct_docs import table

_PREFIX: Final = topics.ROOT + "/"


def mqtt(channels: Sequence[Channel]) -> str:
    """Return the table of these MQTT channels."""
    rows = [
        (f"`{each.topic.removeprefix(_PREFIX)}`", _payload(each), f"{each.sender} → {each.receiver}")
        for each in channels
    ]
    return table((f"topic under `{_PREFIX}`", "payload", "from → to"), *rows)


def kafka() -> str:
    """Return the table of Kafka's topics."""
    rows = [
        (
            f"`{each.topic}`",
            _payload(each) + ("; compacted" if each.topic in topics.COMPACTED else ""),
            each.sender,
            each.receiver,
        )
        for each in KAFKA
    ]
    return table(("topic", "holds", "written by", "read by"), *rows)


def _payload(channel: Channel) -> str:
    names = [f"[{each.__name__}](reference/messages.md#{each.__name__.lower()})" for each in channel.messages]
    return ": ".join(filter(None, (" and ".join(names), channel.payload)))


BLOCKS: Final[Mapping[str, Callable[[], str]]] = {
    "mqtt topics of a site": lambda: mqtt(SITE),
    "mqtt topics of the uplink": lambda: mqtt(UPLINK),
    "kafka topics": kafka,
}
