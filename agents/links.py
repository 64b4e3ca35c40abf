"""How an agent meets a broker: where it is, how to say that one is there, and what to tell `/health` about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from models.registry import Zoo
from pipeline import clock, topics
from pipeline.clock import Clock
from pipeline.messages import Status, Tier
from pipeline.mqtt import Connection, Endpoint
from pipeline.privacy import gate
from pipeline.privacy.gate import Cleared
from pipeline.settings import MqttSettings


def endpoint(mqtt: MqttSettings) -> Endpoint:
    """The broker that these settings name."""
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
    models: Sequence[str] = (),
    backlog: Callable[[], int] = lambda: 0,
) -> tuple[Callable[[], Cleared], Cleared]:
    """The retained status that a role publishes at each connect, and the last will that replaces it."""
    topic = topics.status(site, role)

    def status(state: str, waiting: int) -> Cleared:
        message = Status(
            state=state,
            role=role,
            version=version("tierwise"),
            time=clock.rfc3339(time.now()),
            models=tuple(models),
            backlog=waiting,
        )
        return gate.clear(message, topic, to=Tier.EDGE)

    return lambda: status("online", backlog()), status("offline", 0)


def model_names(zoo: Zoo, *more: str) -> tuple[str, ...]:
    """The models that a role serves, as its status tells them: ``lite0@1``; `more` are those beside the zoo's."""
    return tuple(dict.fromkeys((*(manifest.title for manifest in zoo.manifests), *more)))


def broker_parts(connection: Connection, name: str = "mqtt") -> dict[str, str]:
    """One line for `/health`."""
    return {name: "connected" if connection.connected else connection.problem or "connecting"}
