"""When a photo was taken: EXIF's local time in a zone, and clocks that cannot be right."""

from __future__ import annotations

import datetime as dt
import io
import struct
from zoneinfo import ZoneInfo

import pytest
from exif_samples import (
    DATE_TIME,
    EXIF_DIRECTORY,
    OFFSET,
    ORIGINAL,
    SUBSECOND,
    looped,
    with_exif,
    with_tiff,
)
from hypothesis import given
from hypothesis import strategies as st

from models.vision.capture_time import CaptureTime, ExifTags, capture_time, exif_tags, wall_time_s
from pipeline.clock import seconds

NEW_YORK, BERLIN = ZoneInfo("America/New_York"), ZoneInfo("Europe/Berlin")
NOW_S = seconds("2026-11-30T12:00:00Z")


def tags_of(data: bytes) -> ExifTags:
    return exif_tags(io.BytesIO(data))


# --- tags ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
def test_date_offset_and_part_of_a_second_are_read(order: str) -> None:
    tags = {
        ORIGINAL: "2020:02:03 04:05:06",
        OFFSET: "-05:00",
        SUBSECOND: "25",
        DATE_TIME: "2021:01:01 00:00:00",
    }
    assert tags_of(with_exif(tags, order=order)) == ("2020:02:03 04:05:06", "-05:00", "25")


def test_without_an_original_time_the_time_of_the_last_change_counts() -> None:
    assert tags_of(with_exif({DATE_TIME: "2020:02:03 04:05:06"})) == ("2020:02:03 04:05:06", "", "")


def test_directories_that_point_back_to_an_earlier_one_end() -> None:
    assert tags_of(looped()) == ExifTags()


def test_a_directory_that_claims_more_than_the_file_holds_ends() -> None:
    huge = struct.pack("<HHHIII", 65535, EXIF_DIRECTORY, 2, 0xFFFFFFFF, 8, 8)
    assert tags_of(with_tiff(b"II*\0" + struct.pack("<I", 8) + huge)) == ExifTags()


@given(st.binary(max_size=80), st.sampled_from((b"II*\0", b"MM\0*", b"")))
def test_damaged_exif_data_never_raise(tail: bytes, mark: bytes) -> None:
    capture_time(tags_of(with_tiff(mark + tail)), BERLIN, NOW_S)


@given(st.integers(0, 160))
def test_exif_data_cut_anywhere_never_raise(length: int) -> None:
    capture_time(tags_of(with_exif({ORIGINAL: "2020:02:03 04:05:06"})[:length]), BERLIN, NOW_S)


# --- times -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "zone", "time", "source"),
    [
        (ExifTags("2026:05:06 20:30:00"), NEW_YORK, "2026-05-07T00:30:00Z", "exif-timezone"),
        (ExifTags("2026:05:06 20:30:00"), BERLIN, "2026-05-06T18:30:00Z", "exif-timezone"),
        (ExifTags("2026:05:06 20:30:00", "+02:00"), NEW_YORK, "2026-05-06T18:30:00Z", "exif-offset"),
        (ExifTags("2026:05:06 20:30:00", "Z"), NEW_YORK, "2026-05-06T20:30:00Z", "exif-offset"),
        (ExifTags("2026:05:06 20:30:00", "+99:00"), BERLIN, "2026-05-06T18:30:00Z", "exif-timezone"),
        (ExifTags("2026:05:06 20:30:00", "", "250"), dt.UTC, "2026-05-06T20:30:00.250Z", "exif-timezone"),
        (ExifTags("2026:05:06 20:30:00", "", "x"), dt.UTC, "2026-05-06T20:30:00Z", "exif-timezone"),
        # Programs that write the offset without a colon, or all into the date.
        (ExifTags("2026:05:06 20:30:00", "+0200"), NEW_YORK, "2026-05-06T18:30:00Z", "exif-offset"),
        (ExifTags("2026-05-06T20:30:00.25+02:00"), NEW_YORK, "2026-05-06T18:30:00.250Z", "exif-offset"),
        (ExifTags("2026:05:06 20:30:00Z"), NEW_YORK, "2026-05-06T20:30:00Z", "exif-offset"),
        (ExifTags("2026:05:06  8:30:00"), NEW_YORK, "2026-05-06T12:30:00Z", "exif-timezone"),
        # The clocks go back: the first of the two hours. They go forward: the hour after.
        (ExifTags("2025:11:02 01:30:00"), NEW_YORK, "2025-11-02T05:30:00Z", "exif-timezone"),
        (ExifTags("2026:03:08 02:30:00"), NEW_YORK, "2026-03-08T07:30:00Z", "exif-timezone"),
        (ExifTags("2025:10:26 02:30:00"), BERLIN, "2025-10-26T00:30:00Z", "exif-timezone"),
        (ExifTags("2026:03:29 02:30:00"), BERLIN, "2026-03-29T01:30:00Z", "exif-timezone"),
        (ExifTags("2025:10:26 02:30:00", "+01:00"), BERLIN, "2025-10-26T01:30:00Z", "exif-offset"),
    ],
)
def test_local_time_becomes_utc(tags: ExifTags, zone: dt.tzinfo, time: str, source: str) -> None:
    assert capture_time(tags, zone, NOW_S) == (seconds(time), source, True)


@pytest.mark.parametrize(
    ("date", "time"),
    [
        ("2026:05:06", "2026-05-05T22:00:00Z"),
        ("2026:05:06 24:00:05", "2026-05-06T22:00:05Z"),
        ("2016:12:31 23:59:60", "2016-12-31T23:00:00Z"),
    ],
)
def test_a_time_that_is_known_in_part_is_kept_and_not_trusted(date: str, time: str) -> None:
    assert capture_time(ExifTags(date), BERLIN, NOW_S) == (seconds(time), "exif-timezone", False)


@pytest.mark.parametrize(
    "date",
    [
        "1904:01:01 00:00:00",
        "1970:01:01 00:00:12",
        "0000:00:00 00:00:00",
        "0001:01:01 00:00:00",
        "9999:12:31 23:59:60",
        "2027:01:01 00:00:00",
        "2026:02:30 00:00:00",
        "2026:05:06 25:00:00",
        "2026:05:06 12:00:61",
        "yesterday afternoon",
    ],
)
def test_a_clock_that_was_never_set_gives_the_time_of_receipt_and_is_not_trusted(date: str) -> None:
    for zone in (NEW_YORK, BERLIN):
        assert capture_time(ExifTags(date), zone, NOW_S) == CaptureTime(NOW_S, "received", False)


@pytest.mark.parametrize("date", ["", "    :  :     :  :  "])
def test_a_photo_without_a_date_has_the_time_of_receipt_and_nothing_is_wrong(date: str) -> None:
    assert capture_time(ExifTags(date), BERLIN, NOW_S) == CaptureTime(NOW_S, "received", True)


def test_the_cameras_own_time_orders_photos_also_if_its_clock_was_never_set() -> None:
    assert wall_time_s(ExifTags("1970:01:01 00:00:12", "+02:00")) == 12.0
    assert wall_time_s(ExifTags("yesterday")) is None


@given(st.text(max_size=25), st.text(max_size=7), st.text(max_size=7))
def test_any_text_gives_a_time(date: str, offset: str, subsecond: str) -> None:
    assert capture_time(ExifTags(date, offset, subsecond), NEW_YORK, NOW_S).time_s > 0
