"""The ring of pictures on the device: bounded in size and age, readable by its owner alone."""

from __future__ import annotations

import stat
import uuid
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from sample_messages import NOW_S, event_id

from agents.device.picture_ring import DAY_S, Pictures, kept

JPEG = b"\xff\xd8\xff\xe0 picture"


def test_a_picture_is_found_by_its_event_and_kept_as_it_came(tmp_path: Path) -> None:
    ring = Pictures(tmp_path / "pictures", max_bytes=1 << 20, max_days=7)
    ring.keep(event_id(), JPEG, NOW_S)
    found = ring.find(event_id())
    assert found is not None
    assert found.read_bytes() == JPEG
    assert found.suffix == ".jpg"
    assert ring.find(event_id(2)) is None


def test_a_png_is_called_one(tmp_path: Path) -> None:
    ring = Pictures(tmp_path, max_bytes=1 << 20, max_days=7)
    ring.keep(event_id(), b"\x89PNG\r\n\x1a\n", NOW_S)
    found = ring.find(event_id())
    assert found is not None
    assert found.suffix == ".png"


def test_only_the_devices_own_user_may_read_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    ring = Pictures(folder, max_bytes=1 << 20, max_days=7)
    ring.keep(event_id(), JPEG, NOW_S)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600]


@settings(max_examples=25)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=20), st.integers(60, 200))
def test_the_newest_pictures_stay_and_never_more_than_fit(sizes: list[int], max_bytes: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        ring = Pictures(Path(folder), max_bytes=max_bytes, max_days=7)
        for number, size in enumerate(sizes):
            ring.keep(event_id(number, NOW_S + number), b"x" * size, NOW_S + number)
        held = [number for number in range(len(sizes)) if ring.find(event_id(number, NOW_S + number))]
        total = 0
        fits = []
        for number in reversed(range(len(sizes))):
            total += sizes[number]
            if total > max_bytes:
                break
            fits.append(number)
        assert held == sorted(fits)


def test_pictures_older_than_the_ring_keeps_go_with_the_next_one(tmp_path: Path) -> None:
    ring = Pictures(tmp_path, max_bytes=1 << 20, max_days=7)
    ring.keep(event_id(1), JPEG, NOW_S)
    later_s = NOW_S + 7 * DAY_S + 1
    ring.keep(event_id(2, later_s), JPEG, later_s)
    assert ring.find(event_id(1)) is None
    assert ring.find(event_id(2, later_s)) is not None


def test_a_restart_counts_what_is_there(tmp_path: Path) -> None:
    for number in range(3):
        Pictures(tmp_path, max_bytes=25, max_days=7).keep(event_id(number, NOW_S + number), b"x" * 10, NOW_S + number)
    assert len(list(tmp_path.iterdir())) == 2


def test_what_a_kill_left_half_written_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / f".{event_id(1)}.jpg").write_bytes(b"half")
    ring = Pictures(tmp_path, max_bytes=1 << 20, max_days=7)
    ring.keep(event_id(2), JPEG, NOW_S)
    assert ring.find(event_id(1)) is None


def test_the_picture_of_an_old_photo_stays_as_long_as_any_other(tmp_path: Path) -> None:
    ring = Pictures(tmp_path, max_bytes=25, max_days=7)
    last_year = event_id(1, NOW_S - 365 * DAY_S)
    ring.keep(event_id(2), b"x" * 10, NOW_S)
    ring.keep(last_year, b"x" * 10, NOW_S + 1)
    assert ring.find(last_year) is not None
    Pictures(tmp_path, max_bytes=25, max_days=7).keep(event_id(3), b"x" * 10, NOW_S + 2)  # after a restart
    assert ring.find(event_id(2)) is None, "the first to arrive is the first to go"
    assert [path.stem for path in kept(tmp_path)] == [last_year, event_id(3)]


def test_an_event_whose_id_holds_no_time_keeps_its_picture(tmp_path: Path) -> None:
    ring = Pictures(tmp_path, max_bytes=1 << 20, max_days=7)
    odd = str(uuid.UUID(int=1, version=4))
    ring.keep(odd, JPEG, NOW_S)
    assert ring.find(odd) is not None
