"""The scripts of `examples/` run as they are, against the real system."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import pytest
from kafka_brokers import eventually
from stack import PATIENCE_S, Listener, Stack, cat, photo

from pipeline.messages import Tier

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).parents[2] / "examples"


def environment(stack: Stack) -> dict[str, str]:
    return os.environ | stack.environ | {"MQTT_PORT": str(stack.settings.mqtt.port)}


@contextmanager
def running(stack: Stack, script: str, *arguments: str) -> Iterator[Path]:
    """An example in a folder with settings; what it prints."""
    printed = stack.folder / f"{script}.out"
    with (
        printed.open("w") as out,
        subprocess.Popen(
            [sys.executable, EXAMPLES / script, *arguments],
            cwd=stack.folder,
            env=environment(stack),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        yield printed
        process.kill()


def run(stack: Stack, script: str, *arguments: str) -> str:
    """What an example prints that ends by itself."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, *arguments],
        cwd=stack.folder,
        env=environment(stack),
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_photo_is_published_and_its_answers_are_printed(shared: Stack, listener: Listener) -> None:
    """subscribe.py, publish.py, time_series.py"""
    picture = shared.folder / "cat.jpg"
    with running(shared, "subscribe.py") as printed:

        def answered() -> bool:
            picture.write_bytes(cat())
            run(shared, "publish.py", str(picture))  # another: the first may come before the subscription
            return "cloud: Felis catus" in printed.read_text()

        eventually(answered, PATIENCE_S, interval_s=1)
    eventually(lambda: "cam1/garden Felis catus" in run(shared, "time_series.py"), PATIENCE_S)


def test_a_camera_publishes_its_frames_until_each_is_acknowledged(shared: Stack, listener: Listener) -> None:
    """camera.py"""
    video = shared.folder / "visit.avi"
    whole = cv2.resize(photo("chelsea.png"), (320, 240))
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 5, (320, 240))
    for _ in range(2):
        writer.write(whole)
    writer.release()
    printed = [line.split(maxsplit=1) for line in run(shared, "camera.py", str(video)).splitlines()]
    assert len(printed) == 2
    for event, label in printed:
        assert label.startswith("Felis catus")
        assert listener.answers(event)[0].tier is Tier.DEVICE


def test_a_custom_rule_raises_only_the_events_that_it_names() -> None:
    """custom_rule.py"""
    done = subprocess.run([sys.executable, EXAMPLES / "custom_rule.py"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "2026-05-01T10:00:00Z animal: feature public, result public, by ()",
        "2026-05-01T18:30:00Z animal: feature user-private, result public, by ('our-evenings',)",
        "2026-05-01T10:00:00Z Lynx lynx: feature public, result edge-private, by ('hide-rare-cats',)",
    ]
