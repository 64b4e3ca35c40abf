"""What a device sees with: the settings say it, or a measurement, and a weak eye lets no pixels out unasked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sample_messages import GARDEN, NOW_S, edge_model, event_id, photo_jpeg, settings

from agents.device.model_choice import KEEPS_UP_MS, choose, open_device_model
from models.answering.device import FrameAnswer, Frames, StreamMemory
from models.labels.taxonomy import KINGDOMS, load_taxonomy
from models.shipped import BACKBONE, GLIMPSE, load_zoo
from models.vision.frame_scan import judging
from models.vision.tier_models import DeviceModel
from pipeline.messages import Crop, Privacy
from pipeline.privacy.policy import Policy
from pipeline.privacy.seal import Keyring
from pipeline.settings.settings import DeviceSettings, Settings, UplinkSettings


def never() -> float:
    raise AssertionError("nothing had to be measured")


def takes(ms: float) -> Callable[[], float]:
    return lambda: ms


def device(**keys: Any) -> Settings:
    return settings(device=DeviceSettings(**keys))


def test_a_quick_device_sees_by_the_backbone_and_a_slow_one_by_the_small_network() -> None:
    quick, slow = (choose(device(), takes(ms)) for ms in (KEEPS_UP_MS, KEEPS_UP_MS + 1))
    assert (quick.model, slow.model) == (BACKBONE, GLIMPSE)
    assert "250 ms a frame here, at most 250" in quick.reason
    assert "251 ms a frame here, more than 250" in slow.reason


@pytest.mark.parametrize(("said", "model"), [("on", BACKBONE), ("off", GLIMPSE)])
def test_what_the_settings_say_needs_no_measurement(said: str, model: str) -> None:
    choice = choose(device(backbone=said), never)
    assert (choice.model, choice.reason) == (model, f'device.backbone = "{said}"')


@pytest.mark.parametrize(
    "asked",
    [
        settings(device=DeviceSettings(send="vector")),
        settings(uplink=UplinkSettings(sealed=(Privacy.USER_PRIVATE,))),
    ],
)
def test_a_device_that_makes_vectors_runs_the_backbone_however_slow(asked: Settings) -> None:
    assert choose(asked, never).model == BACKBONE


@pytest.mark.parametrize(("said", "title"), [("on", "lite0@"), ("off", "glimpse@")])
def test_the_eye_is_told_with_the_reason_for_it(said: str, title: str) -> None:
    eye, described = open_device_model(device(backbone=said), load_zoo())
    assert eye.name.startswith(title)
    assert described == f'{eye.name}: device.backbone = "{said}"'


def animal(pictures: Any) -> tuple[np.ndarray, np.ndarray]:
    """Judges everything to be an animal and nobody to be there."""
    logits = np.tile(np.where(np.array(KINGDOMS) == "animal", 9.0, 0.0).astype(np.float32), (len(pictures), 1))
    return logits, np.full(len(pictures), 0.01, np.float32)


def answered(miss_rate: float | None, **keys: Any) -> FrameAnswer:
    configured = device(**keys)
    eye = DeviceModel("glimpse@1", judging(animal), 0.5, miss_rate)
    frames = Frames(configured, Policy(configured), load_taxonomy(), eye, Keyring(), edge_model)
    return frames.answer(
        event_id(1),
        GARDEN,
        photo_jpeg("chelsea.png"),
        received_s=NOW_S,
        now=lambda: NOW_S,
        order=(1, 1),
        visit=None,
        memory=StreamMemory(),
    )


def test_an_eye_that_misses_more_persons_than_accepted_keeps_pixels_on_the_device() -> None:
    kept = answered(0.114)
    assert (kept.result.rule, kept.result.pending, kept.event.body) == ("person-check-too-weak", None, None)
    assert "misses 11.4% of persons" in kept.result.reason
    assert kept.result.reason.endswith("write under [device]: person_miss_rate = 0.12")


def test_what_the_reason_says_to_write_lets_crops_leave() -> None:
    assert isinstance(answered(0.114, person_miss_rate=0.12).event.body, Crop)


def test_the_backbone_s_word_is_enough() -> None:
    assert isinstance(answered(None, person_miss_rate=0.0).event.body, Crop)
