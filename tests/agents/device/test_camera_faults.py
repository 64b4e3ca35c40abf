"""A broken camera is told once, at the stream's level; its frames are flagged; a restart forgets nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from sample_messages import (
    GARDEN,
    NOW_S,
    SOURCE,
    device_model,
    edge_model,
    event_id,
    photo,
    photo_jpeg,
    settings,
)

from agents.device.camera_faults import CameraFaults
from agents.device.store import SITE
from agents.role import outbox
from agents.role.telemetry import Metrics
from models.answering.device import Frames
from models.answering.frame_gate import StreamMemory
from models.labels.taxonomy import load_taxonomy
from models.vision.camera_health import glance
from models.vision.images import Picture
from pipeline import topics
from pipeline.messages import Drift, Privacy, Tier
from pipeline.privacy.policy import Policy
from pipeline.privacy.seal import Keyring
from pipeline.settings.settings import StreamSettings
from pipeline.spool import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool.open(tmp_path / "spool.db", limit_bytes=1 << 26)
    yield opened
    opened.close()


def cameras(spool: Spool, folder: Path, **changes: object) -> CameraFaults:
    configured = settings(folder, **changes)
    opened = CameraFaults(configured, Policy(configured), spool, Metrics())
    opened.open()
    return opened


def frames(count: int, seed: int, *, sigma: float = 0.0) -> Iterator[Picture]:
    """A yard that nobody visits, with a sensor's noise; `sigma`: out of focus."""
    rng = np.random.default_rng(seed)
    scene = cv2.resize(photo("coffee.png"), (320, 240))
    for _ in range(count):
        seen = cv2.GaussianBlur(scene, (0, 0), sigma) if sigma else scene
        yield np.clip(seen + rng.normal(0, 2, (240, 320, 1)), 0, 255).astype(np.uint8)


def passed(faults: CameraFaults, spool: Spool, shown: Iterator[Picture], from_s: float) -> list[Drift]:
    """A frame a minute through the device; what is told on the way."""
    for number, frame in enumerate(shown):
        looked = faults.check(GARDEN, glance(frame), from_s + 60 * number)
        with spool.transaction() as tx:
            faults.write(looked, tx)
        faults.committed(looked)
    sent = spool.outgoing(SITE, 100, from_s)
    spool.settle(SITE, [each.id for each in sent])
    assert {each.topic for each in sent} <= {topics.drift("home", "cam1")}
    for each in sent:
        outbox.cleared(each, to=Tier.EDGE)
    return [each for each in map(outbox.opened, sent) if isinstance(each, Drift)]


@pytest.mark.slow
def test_a_lens_that_went_out_of_focus_is_told_once_and_so_is_that_it_is_well_again(
    spool: Spool, tmp_path: Path
) -> None:
    faults = cameras(spool, tmp_path)
    assert passed(faults, spool, frames(60, 1), NOW_S) == []

    (drift,) = passed(faults, spool, frames(30, 2, sigma=6.0), NOW_S + 3600)
    assert (drift.rule, drift.stream, drift.privacy) == ("camera-blurred", "garden", Privacy.PUBLIC)
    assert faults.fault(SOURCE) == "blurred"
    assert faults.check(GARDEN, glance(next(frames(1, 5, sigma=6.0))), NOW_S + 5400).flags == ("camera-blurred",)

    (well,) = passed(faults, spool, frames(30, 3), NOW_S + 7200)
    assert (well.rule, faults.fault(SOURCE)) == ("camera-well", "")


@pytest.mark.slow
def test_a_restart_forgets_neither_the_past_nor_the_fault(spool: Spool, tmp_path: Path) -> None:
    before = cameras(spool, tmp_path)
    passed(before, spool, frames(60, 1), NOW_S)
    passed(before, spool, frames(30, 2, sigma=6.0), NOW_S + 3600)

    again = cameras(spool, tmp_path)

    assert again.fault(SOURCE) == "blurred"
    assert passed(again, spool, frames(30, 4, sigma=6.0), NOW_S + 7200) == []


@pytest.mark.slow
def test_a_camera_whose_answers_are_its_users_alone_is_told_to_nobody_else(spool: Spool, tmp_path: Path) -> None:
    private = StreamSettings(result=Privacy.USER_PRIVATE)
    faults = cameras(spool, tmp_path, streams={SOURCE: private})
    passed(faults, spool, frames(60, 1), NOW_S)

    assert passed(faults, spool, frames(30, 2, sigma=6.0), NOW_S + 3600) == []
    assert faults.fault(SOURCE) == "blurred"


@pytest.mark.slow
def test_a_flag_stands_in_the_answer_and_in_what_goes_to_the_edge(tmp_path: Path) -> None:
    configured = settings(tmp_path)
    keyring = Keyring.open(tmp_path / "keys", create=True)
    eyes = Frames(configured, Policy(configured), load_taxonomy(), device_model(), keyring, edge_model)
    answer = eyes.answer(
        event_id(1),
        GARDEN,
        photo_jpeg("chelsea.png"),
        received_s=NOW_S,
        now=lambda: NOW_S,
        order=(1, 1),
        visit=None,
        memory=StreamMemory(),
    )

    flagged = answer.flagged(("camera-blurred",))

    assert answer.flagged(()) is answer
    assert flagged.result.flags == flagged.event.result.flags == (*answer.result.flags, "camera-blurred")
