"""Labels for tests: frames of a cat, what people say of them, and what leaves because of it."""

from __future__ import annotations

import functools
from typing import Any

import msgspec
from sample_edge import SampleEdge
from sample_messages import (
    NOW_S,
    cloud_model,
    edge_model,
    event,
    event_id,
    photo,
    result,
)

from models.answering.cloud import species_answer
from models.answering.model_source import FixedModel
from pipeline import clock, topics
from pipeline.messages import (
    Ack,
    Envelope,
    Event,
    Label,
    Refusal,
    Result,
    Vector,
)

CAT = ("animal", "Felidae", "Felis catus")
WOLF = ("animal", "Canidae", "Canis lupus")
TOPIC = topics.label("home", "cam1")


@functools.cache
def cat_vector() -> bytes:
    return edge_model().predict(photo("chelsea.png")).vector.tobytes()


def cat(number: int = 1, **changes: Any) -> Event:
    answer = result(event_id(number), sighting=event_id(1))
    fields: dict[str, Any] = {"sequence": number, "body": Vector(space=edge_model().space, data=cat_vector())}
    return event(answer, **(fields | changes))


def still(number: int = 1) -> Event:
    """An event that the device answers alone."""
    return event(result(event_id(number), sighting=event_id(number), pending=None, rule="nothing-moved"))


def label(text: str | None, by: str = "ann", number: int = 1, at_s: float | None = None, **more: str) -> Label:
    time = clock.rfc3339(at_s) if at_s is not None else ""
    return Label(event=event_id(number), label=text, by=by, time=time, **more)


def seen(edge: SampleEdge, *events: Event) -> Result:
    """Events answered, and all of it out of the way; the last answer."""
    edge.deliver(*(events or (cat(),)))
    edge.take_up()
    return edge.take_results()[-1]


def refusals(published: list[msgspec.Struct]) -> list[str]:
    return [each.reason for each in published if isinstance(each, Refusal)]


def acks(published: list[msgspec.Struct]) -> list[Ack]:
    return [each for each in published if isinstance(each, Ack)]


def results(published: list[msgspec.Struct]) -> list[Result]:
    return [each for each in published if isinstance(each, Result)]


def answer_of_cloud(envelope: Envelope) -> Result:
    return species_answer(FixedModel(cloud_model()), envelope, NOW_S, lambda: NOW_S + 0.001).result
