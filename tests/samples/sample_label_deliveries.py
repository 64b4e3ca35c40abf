"""Labels on their way to the edge, and the edge's replies."""

from __future__ import annotations

from sample_messages import event_id, result

from agents.client.labelling import LabelDelivery
from pipeline import messages, topics
from pipeline.messages import Ack, Label, Privacy, Refusal, Tier

TOPIC = topics.label("home", "cam1")


def given(number: int = 1, text: str | None = "Felis catus") -> LabelDelivery:
    return LabelDelivery.of(Label(event=event_id(number), label=text, by="ann"), "home", "cam1", f"event {number}")


def ack(of: LabelDelivery) -> tuple[str, bytes]:
    told = Ack(ids=(of.label.event,), topic=of.topic, sha256=of.sha256)
    return topics.ack("home", "cam1"), messages.encode(told)


def refusal(of: LabelDelivery) -> tuple[str, bytes]:
    told = Refusal(reason="unknown-label", detail="no such", topic=of.topic, size_bytes=9, sha256=of.sha256, time="")
    return topics.rejected("home", "cam1"), messages.encode(told)


def answer(number: int = 1, revision: int = 3) -> tuple[str, bytes]:
    told = result(event_id(number), tier=Tier.EDGE, revision=revision, pending=None, rule="labelled")
    return topics.result("home", "cam1", Tier.EDGE, Privacy.PUBLIC), messages.encode(told)
