"""Connect an agent to its broker: the endpoint, the retained status with its last will, and lines for `/health`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import clock, topics
from pipeline.clock import Clock
from pipeline.messages import CameraState, Status, Tier, Update
from pipeline.mqtt import Connection, Endpoint
from pipeline.privacy import gate
from pipeline.privacy.gate import Cleared
from pipeline.settings.settings import MqttSettings

if TYPE_CHECKING:
    from models.shipped import Zoo


def endpoint(mqtt: MqttSettings) -> Endpoint:
    """Return the broker that these settings name."""
    return Endpoint(
        host=mqtt.host,
        port=mqtt.port_number,
        username=mqtt.username,
        password=mqtt.password,
        tls=mqtt.tls,
        ca=Path(mqtt.ca) if mqtt.ca else None,
    )


def presence(
    site: str,
    role: str,
    time: Clock,
    *,
    models: Callable[[], Sequence[str]] = tuple,
    backlog: Callable[[], int] = lambda: 0,
    update: Callable[[], Update | None] = lambda: None,
    cameras: Callable[[], dict[str, CameraState]] = dict,
) -> tuple[Callable[[], Cleared], Cleared]:
    """Return the retained status that a role publishes at each connect and change, and its last will."""
    topic = topics.status(site, role)

    def status(
        state: str,
        serves: Sequence[str] = (),
        waiting: int = 0,
        now: Update | None = None,
        seen: dict[str, CameraState] | None = None,
    ) -> Cleared:
        message = Status(
            state=state,
            role=role,
            version=version("tierwise"),
            time=clock.rfc3339(time.now()),
            models=tuple(serves),
            backlog=waiting,
            update=now,
            cameras=seen or {},
        )
        return gate.clear(message, topic, to=Tier.EDGE)

    return lambda: status("online", models(), backlog(), update(), cameras()), status("offline")


def model_names(zoo: Zoo, *more: str, heads: str = "") -> tuple[str, ...]:
    """Return the titles of the models that a role serves, as its status lists them: ``lite0@2``.

    `heads` is the release whose heads serve in place of the shipped ones; `more` are models beside the zoo's.
    """
    from models.shipped import BACKBONE  # the gateway has no models, and loads none

    titles = (heads if heads and manifest.name == BACKBONE else manifest.title for manifest in zoo.manifests)
    return tuple(dict.fromkeys((*titles, *more)))


def broker_parts(connection: Connection, name: str = "mqtt") -> dict[str, str]:
    """Return the state of the broker connection, as a part for `/health`."""
    return {name: "connected" if connection.connected else connection.problem or "connecting"}


def update_parts(serves: str, update: Update) -> dict[str, str]:
    """Return the model that serves and the candidate that may follow, as parts for `/health`."""
    words = [update.stage, update.candidate, ": ".join(word for word in (update.rule, update.reason) if word)]
    parts = {"model": serves, "update": " ".join(word for word in words if word)}
    if update.refused:
        parts["refused"] = update.refused
    if update.trouble:
        parts["releases"] = update.trouble
    return parts
