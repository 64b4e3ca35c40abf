"""A device that runs without the backbone: it answers at once, says what it sees with, and keeps its pixels."""

from __future__ import annotations

import pytest
from stack import GARDEN, Stage, cat

from agents.role.run_file import running
from agents.up.supervisor import ask_health
from pipeline.messages import Tier

pytestmark = pytest.mark.e2e


def test_a_weak_device_answers_and_keeps_its_pixels(stage: Stage) -> None:
    stack = stage.fresh(TIERWISE_DEVICE__BACKBONE="off")
    stack.start("mqtt", "device")
    with stack.listen() as listener:
        event = listener.capture(GARDEN, cat())
        answer = listener.last_word(event, Tier.DEVICE)
    assert (answer.label, answer.rule) == ("animal", "person-check-too-weak")
    assert answer.model.startswith("glimpse@")
    told = running(stack.data, "device")
    assert told is not None and told.port is not None
    _, parts = ask_health(told.port)
    assert parts["model"] == f'{answer.model}: device.backbone = "off"'
