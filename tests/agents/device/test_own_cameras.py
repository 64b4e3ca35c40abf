"""A bad photo, a failing disk or a source that is away: its own stream says so, and no other notices."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from exif_samples import GREY, looped
from sample_messages import settings

from agents.device import own_cameras, photo_sources
from agents.device.agent import build
from agents.device.camera_states import CameraStates
from agents.device.own_cameras import OwnCameras
from agents.device.store import SITE, DeviceStore
from agents.role import outbox
from agents.role.telemetry import Metrics
from pipeline.clock import SystemClock
from pipeline.messages import Refusal, Result
from pipeline.settings.settings import MqttSettings, StreamSettings
from pipeline.spool import Spool

GARDEN = "home/cam1/garden"


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool.open(tmp_path / "spool.db", limit_bytes=1 << 26)
    DeviceStore(opened, SystemClock()).open()
    yield opened
    opened.close()


class Running:
    """Own cameras, each on its thread."""

    def away(self, source: str) -> str:
        return state.reason if (state := self.states.current().get(source)) else ""

    def __init__(self, spool: Spool, **sources: Path) -> None:
        self.stop = threading.Event()
        self.states = CameraStates(settings(), Metrics(), SystemClock())
        self.cameras = OwnCameras(spool, Metrics(), SystemClock(), self.stop, self.states)
        self.threads = [
            threading.Thread(target=self.cameras.run, args=(f"home/cam1/{name}", str(path)))
            for name, path in sources.items()
        ]

    def __enter__(self) -> Running:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(5.0)
            assert not thread.is_alive()


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_cameras, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(own_cameras, "LONGEST_PAUSE_S", 0.05)
    monkeypatch.setattr(photo_sources, "SEARCH_AGAIN_S", 0.05)
    monkeypatch.setattr(photo_sources, "LOOK_AGAIN_S", 0.05)
    monkeypatch.setattr(photo_sources, "SETTLED_S", 0.2)


def wait_for(fulfilled: Callable[[], bool], within_s: float = 5.0) -> None:
    until_s = time.monotonic() + within_s
    while not fulfilled():
        assert time.monotonic() < until_s
        time.sleep(0.01)


def refusals(spool: Spool) -> list[Refusal]:
    opened = map(outbox.opened, spool.outgoing(SITE, 100, time.time()))
    return [each for each in opened if isinstance(each, Refusal)]


def folder_of(path: Path, **photos: bytes) -> Path:
    path.mkdir()
    for name, data in photos.items():
        (path / f"{name}.jpg").write_bytes(data)
    return path


def test_a_photo_whose_exif_directories_go_in_a_circle_is_a_photo(spool: Spool, tmp_path: Path) -> None:
    with Running(spool, garden=folder_of(tmp_path / "card", a=looped(), b=GREY)):
        wait_for(lambda: spool.waiting_count == 2)
    assert refusals(spool) == []


def test_bad_photos_are_refused_by_name_and_the_others_are_taken(spool: Spool, tmp_path: Path) -> None:
    card = folder_of(tmp_path / "card", empty=b"", half=GREY[:-40], text=b"no picture", good=GREY)
    (card / "eio.jpg").symlink_to("/proc/self/mem")  # reading its first byte fails with EIO
    with Running(spool, garden=card):
        wait_for(lambda: spool.waiting_count == 1 and len(refusals(spool)) == 4)
    assert sorted((each.detail.partition(":")[0], each.reason) for each in refusals(spool)) == [
        ("eio.jpg", "unreadable"),
        ("empty.jpg", "image-empty"),
        ("half.jpg", "image-truncated"),
        ("text.jpg", "image-unknown-format"),
    ]
    assert {each.topic for each in refusals(spool)} == {"tierwise/v1/home/cam1/frame/garden"}


def test_a_photo_that_was_copied_by_half_is_taken_once_it_is_whole(spool: Spool, tmp_path: Path) -> None:
    card = folder_of(tmp_path / "card", a=GREY[:-40])
    with Running(spool, garden=card):
        wait_for(lambda: len(refusals(spool)) == 1)
        (card / "a.jpg").write_bytes(GREY)
        wait_for(lambda: spool.waiting_count == 1)


@pytest.mark.parametrize("there", ["nothing", "an empty folder", "only notes"])
def test_a_folder_that_is_not_there_yet_is_waited_for_and_reported(spool: Spool, tmp_path: Path, there: str) -> None:
    late = tmp_path / "late"
    if there != "nothing":
        late.mkdir()
    if there == "only notes":
        (late / "notes.txt").write_text("no photo")
    with Running(spool, garden=late, yard=folder_of(tmp_path / "card", a=GREY)) as running:
        wait_for(lambda: spool.waiting_count == 1 and running.away(GARDEN) != "")
        assert running.away("home/cam1/yard") == ""
        late.mkdir(exist_ok=True)
        (late / "b.jpg").write_bytes(GREY)
        wait_for(lambda: spool.waiting_count == 2)
        assert running.away(GARDEN) == ""


def test_a_source_that_fails_in_an_unknown_way_is_tried_again(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = own_cameras.open_source
    failures = [RecursionError("too deep"), OSError(5, "Input/output error")]

    def failing(*args: object, **named: object) -> object:
        if failures:
            raise failures.pop()
        return opened(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(own_cameras, "open_source", failing)
    with Running(spool, garden=folder_of(tmp_path / "card", a=GREY)):
        wait_for(lambda: spool.waiting_count == 1)


def test_a_file_that_is_neither_photo_nor_video_is_refused_by_name(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_bytes(b"no video")
    with Running(spool, garden=tmp_path / "notes.mp4") as running:
        wait_for(lambda: len(refusals(spool)) == 1)
        assert "notes.mp4" in refusals(spool)[0].detail
        assert "notes.mp4" in running.away(GARDEN)


@pytest.mark.slow
def test_a_device_with_a_bad_card_and_a_camera_that_is_away_answers_and_says_so(tmp_path: Path) -> None:
    card = folder_of(tmp_path / "card", circle=looped(), empty=b"")
    sources = {
        "garden": card,
        "yard": tmp_path / "not mounted",
        "gate": "rtsp://user:secret@127.0.0.1:9/live",
    }
    streams = {f"home/cam1/{name}": StreamSettings(source=str(at)) for name, at in sources.items()}
    device = build(settings(tmp_path, streams=streams, mqtt=MqttSettings(address="127.0.0.1:9")))
    device.start()
    try:
        wait_for(lambda: device.health().parts.get("cameras", "").count("away since") == 2, 20.0)
        pictures = tmp_path / "device" / "pictures"
        wait_for(lambda: any(path.is_file() for path in pictures.rglob("*")), 20.0)
        wait_for(lambda: device.health().parts["waiting"] == "0", 20.0)
        assert "(the camera does not answer), no frame yet" in device.health().parts["cameras"]
        assert "not mounted: no such file or folder yet)" in device.health().parts["cameras"]
        assert "secret" not in device.health().parts["cameras"]
    finally:
        device.stop(3.0)
    with contextlib.closing(Spool.open(tmp_path / "device" / "spool.db", limit_bytes=1 << 26)) as spool:
        opened = list(map(outbox.opened, spool.outgoing(SITE, 100, time.time())))
    assert [each.detail.partition(":")[0] for each in opened if isinstance(each, Refusal)] == ["empty.jpg"]
    assert [each.stream for each in opened if isinstance(each, Result)] == ["garden"]
