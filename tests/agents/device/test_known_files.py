"""A file's event is its stream and its bytes, at any time: nothing is answered twice, and nothing vanishes."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clip_samples import walk
from exif_samples import GREY, ORIGINAL, with_exif

from agents.device import known_files
from agents.device.camera_states import CameraStates
from agents.device.known_files import KnownFiles
from agents.device.own_cameras import OwnCameras
from agents.device.store import SITE, DeviceStore
from agents.role import outbox
from agents.role.telemetry import Metrics
from models.vision import images
from pipeline import ids, topics
from pipeline.clock import HandClock
from pipeline.messages import Refusal
from pipeline.settings.settings import Settings
from pipeline.spool import Arrival, Item, Spool

GARDEN = "home/cam1/garden"
FRAME = topics.frame("home", "cam1", "garden")


class OnePass(threading.Event):
    """Stops at the first pause between two searches of a folder."""

    def wait(self, timeout: float | None = None) -> bool:
        self.set()
        return True


class Device:
    """A device's store, and searches of its folder, each as after a restart."""

    def __init__(self, path: Path) -> None:
        self.spool = Spool.open(path, limit_bytes=1 << 26)
        self.clock = HandClock(time.time() + 60.0)
        DeviceStore(self.spool, self.clock).open()
        metrics = Metrics()
        self.states = CameraStates(Settings(), metrics, self.clock)
        self.cameras = OwnCameras(self.spool, metrics, self.clock, OnePass(), self.states)

    def search(self, folder: Path, source: str = GARDEN) -> list[Item]:
        """Search a folder once; return what was taken, and finish it."""
        OwnCameras(self.spool, Metrics(), self.clock, OnePass(), self.states).run(source, str(folder))
        items = self.spool.waiting(1000)
        with self.spool.transaction() as tx:
            tx.finish(*items)
        return items

    def refusals(self) -> list[str]:
        opened = map(outbox.opened, self.spool.outgoing(SITE, 100, self.clock.now()))
        return [each.detail.partition(":")[0] for each in opened if isinstance(each, Refusal)]


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    made = Device(tmp_path / "spool.db")
    yield made
    made.spool.close()


@pytest.fixture
def card(tmp_path: Path) -> Path:
    (tmp_path / "card").mkdir()
    return tmp_path / "card"


def photo(shade: int, second: str = "") -> bytes:
    jpeg = images.encode_jpeg(np.full((32, 32, 3), shade, np.uint8))
    return with_exif({ORIGINAL: second}, jpeg) if second else jpeg


def test_equal_names_and_seconds_with_other_bytes_are_other_events(device: Device, card: Path) -> None:
    for number, folder in enumerate(("100MEDIA", "101MEDIA", "102MEDIA")):
        (card / folder).mkdir()
        (card / folder / "DSCF0001.JPG").write_bytes(photo(number, "1970:01:01 00:00:05"))
    assert len({item.id for item in device.search(card)}) == 3
    assert device.search(card) == []


def test_another_card_in_the_same_slot_is_read_again(device: Device, card: Path) -> None:
    """Its photo has name, size and time of the last card's."""
    first, second = photo(100), photo(120)
    assert len(first) == len(second)
    for data in (first, second):
        (card / "DSCF0001.JPG").write_bytes(data)
        os.utime(card / "DSCF0001.JPG", (1e9, 1e9))
        assert [item.payload for item in device.search(card)] == [data]


def test_equal_bytes_are_one_event_whatever_the_file_is_called_and_dated(device: Device, card: Path) -> None:
    for number, name in enumerate(("a.jpg", "copy of a.jpg")):
        (card / name).write_bytes(GREY)
        os.utime(card / name, (1e9 + number, 1e9 + number))
    (taken,) = device.search(card)
    shutil.move(card / "a.jpg", card / "b.jpg")
    os.utime(card / "b.jpg", (1.5e9, 1.5e9))
    assert device.search(card) == []
    assert taken.captured_at == 1e9
    (other,) = device.search(card, "home/cam2/garden")
    assert other.id != taken.id, "another stream has its own event"


@pytest.mark.parametrize("data", [GREY, photo(5, "2026:05:06 20:30:00")], ids=["no time", "EXIF"])
def test_the_id_depends_on_stream_and_bytes_alone(tmp_path: Path, card: Path, data: bytes) -> None:
    found = set()
    for number in range(2):
        (card / "a.jpg").write_bytes(data)
        os.utime(card / "a.jpg", (1e9 * (number + 1), 1e9))
        made = Device(tmp_path / f"{number}.db")
        found.update(item.id for item in made.search(card))
        made.spool.close()
    (event,) = found
    assert ids.is_event_id(event)
    assert ids.time_s(event) == (None if data is GREY else 1778099400.0)


def test_an_unchanged_file_is_not_read_again(device: Device, card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (card / "a.jpg").write_bytes(GREY)
    assert len(device.search(card)) == 1
    monkeypatch.setattr("agents.device.photo_sources.read_photo", None)
    assert device.search(card) == []


def test_a_known_folder_is_there(device: Device, card: Path) -> None:
    (card / "a.jpg").write_bytes(GREY)
    device.search(card)
    device.states.away(GARDEN, "not mounted")
    device.cameras.run(GARDEN, str(card))
    assert device.states.current()[GARDEN].state == "online"


def test_a_refused_content_is_refused_once_and_its_repaired_file_is_taken(device: Device, card: Path) -> None:
    (card / "half.jpg").write_bytes(GREY[:-40])
    assert device.search(card) == device.search(card) == []
    (card / "again.jpg").write_bytes(GREY[:-40])
    assert device.search(card) == []
    assert device.refusals() == ["half.jpg"]
    (card / "half.jpg").write_bytes(GREY)
    assert [item.payload for item in device.search(card)] == [GREY]


def test_a_file_that_cannot_be_read_is_refused_once_and_tried_at_each_start(device: Device, card: Path) -> None:
    (card / "eio.jpg").symlink_to("/proc/self/mem")  # reading its first byte fails with EIO
    device.search(card)
    device.search(card)
    assert device.refusals() == ["eio.jpg"]
    (card / "eio.jpg").unlink()
    (card / "eio.jpg").write_bytes(GREY)
    assert len(device.search(card)) == 1


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "clip.mp4"])
def test_a_file_that_still_grows_is_waited_for(device: Device, card: Path, name: str) -> None:
    (card / name).write_bytes(GREY[: len(GREY) // 2])
    device.clock.turn((card / name).stat().st_mtime - device.clock.now())
    assert device.search(card) == []
    assert device.refusals() == []
    device.clock.turn(60.0)
    device.search(card)
    assert device.refusals() == [name]


def test_a_photo_is_taken_at_once_when_its_end_is_there_and_not_before_the_film_behind_it(
    device: Device, card: Path
) -> None:
    for name, behind in (("photo.jpg", b""), ("padded.jpg", bytes(9)), ("motion.jpg", b"half of a film")):
        (card / name).write_bytes(photo(len(behind)) + behind)
    device.clock.turn((card / "motion.jpg").stat().st_mtime - device.clock.now())
    assert len(device.search(card)) == 2
    device.clock.turn(60.0)
    assert len(device.search(card)) == 1


def test_a_folder_that_a_release_before_answered_is_not_answered_anew(device: Device, card: Path) -> None:
    """It named events by the photo's bare name and second; of two such photos it answered one."""
    (card / "other").mkdir()
    answered, vanished = photo(1, "2020:02:03 04:05:06"), photo(2, "2020:02:03 04:05:06")
    (card / "DSCF0001.JPG").write_bytes(answered)
    (card / "other" / "DSCF0001.JPG").write_bytes(vanished)
    old = ids.derived(1580702706.0, GARDEN, "DSCF0001.JPG", "1580702706.0")
    device.spool.receive([Arrival(FRAME, answered, 1.6e9, old)], link="")
    with device.spool.transaction() as tx:
        tx.finish(*device.spool.waiting(1))
    assert [item.payload for item in device.search(card)] == [vanished]
    assert device.search(card) == []


def test_a_full_store_takes_a_photo_once_it_has_room(device: Device, card: Path) -> None:
    (card / "a.jpg").write_bytes(GREY)
    device.spool.limit_bytes = 0
    assert device.search(card) == []
    device.spool.limit_bytes = 1 << 20
    assert len(device.search(card)) == 1


def test_the_memory_of_files_is_bounded(device: Device, card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_files, "KNOWN_KEEP", 3)
    for number in range(5):
        (card / f"{number}.jpg").write_bytes(photo(40 * number))
    device.search(card)
    KnownFiles(device.spool).tidy()
    for table in ("device_contents", "device_files"):
        assert device.spool.query(f"SELECT count(*) FROM {table}") == [(3,)]


# --- clips -----------------------------------------------------------------------------------------------------


def test_a_clip_is_one_event_at_any_time(device: Device, card: Path) -> None:
    walk(card / "clip.avi")
    os.utime(card / "clip.avi", (1e9, 1e9))
    (taken,) = device.search(card)
    assert images.decode(taken.payload).max() > 200, "the frame in which the square is"
    shutil.copy(card / "clip.avi", card / "copy.avi")
    assert device.search(card) == []


@pytest.mark.parametrize("name", ["clip.mp4", "clip.AVI", "clip.mov", "clip.mkv"])
def test_a_clip_that_does_not_open_is_refused_by_name_and_once(device: Device, card: Path, name: str) -> None:
    (card / name).write_bytes(b"no video")
    (card / "a.jpg").write_bytes(GREY)
    assert len(device.search(card)) == 1
    device.search(card)
    assert device.refusals() == [name]
