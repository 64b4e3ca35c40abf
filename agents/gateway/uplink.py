"""Uplink batches of sites: which envelopes a site may send, and what the gateway acknowledges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pipeline import records, topics
from pipeline.errors import Rejected
from pipeline.messages import Envelope, Kind, SightingReport, UplinkAck
from pipeline.mqtt import Message
from pipeline.privacy import gate

ACK_MAX = 1000
"""Ids in one acknowledgement: some 60 kB."""


class SiteUplink(NamedTuple):
    """An uplink message: its envelopes that may go to Kafka, and the reasons for the others by envelope id."""

    message: Message
    site: str
    accepted: list[tuple[Envelope, gate.ClearedRecord]]
    refused: dict[str, Rejected]


def acknowledgements(uplinks: Sequence[SiteUplink]) -> Iterator[tuple[str, UplinkAck]]:
    """Yield the acknowledgements of delivered uplinks with their sites: few, since each is a message."""
    sites: dict[str, dict[str, bool]] = {}
    for uplink in uplinks:
        stored = sites.setdefault(uplink.site, {})
        stored.update((envelope.id, envelope.id not in uplink.refused) for envelope, _ in uplink.accepted)
        stored.update(dict.fromkeys(uplink.refused, False))
    for site, stored in sites.items():
        names = [*stored]
        for start in range(0, len(names), ACK_MAX):
            part = names[start : start + ACK_MAX]
            ids, refused = (tuple(name for name in part if stored[name] is kept) for kept in (True, False))
            yield site, UplinkAck(ids=ids, refused=refused)


def check_site(envelope: Envelope, batch_site: str, topic_site: str) -> None:
    """Check that an envelope speaks only for the site whose uplink topic carried it.

    Raises
    ------
    Rejected
        ``other-site``: the batch, the envelope or its result names another site; ``odd-name``: the source has invalid
        names; ``wrong-key``: the key does not belong to the source; ``not-a-sighting``: an edge may send sightings
        only, not results of other tiers.
    """
    if batch_site != topic_site:
        raise Rejected("other-site", f"the uplink of site {topic_site} carried a batch of another site")
    if not envelope.source:
        return
    names = envelope.source.split("/")
    if len(names) != 3 or not all(map(topics.is_name, names)):
        raise Rejected("odd-name", f"{envelope.event}: the source must be site/device/stream, each a valid name")
    if names[0] != topic_site:
        raise Rejected("other-site", f"the uplink of site {topic_site} carried {envelope.event} of another site")
    if envelope.key != "/".join(names[:2]):
        raise Rejected("wrong-key", f"{envelope.event}: the key must be site/device of the source")
    if envelope.kind is Kind.RESULT and not envelope.sealed_by:
        sighting = records.answer(envelope.payload)
        if not isinstance(sighting, SightingReport):
            raise Rejected(
                "not-a-sighting",
                f"{envelope.event}: an edge may send the consensus of its sightings, and no other result",
            )
        if sighting.source != envelope.source:
            raise Rejected("other-site", f"{envelope.event}: the sighting belongs to another source")
