"""The time in the names that cameras give their files."""

from __future__ import annotations

import datetime as dt

import pytest

from agents.device.intake.profiles import PROFILES, name_time


@pytest.mark.parametrize(
    ("path", "time"),
    [
        ("/AMC0200KBE29V0X8B2/2017-10-16/001/jpg/21/06/24[M][0@0][0].jpg", "2017-10-16T21:06:24"),
        ("/IPC-HDBW5238R-AS/4D027BCPAA05B90/2018-07-25/pic_001/09/52/21[M][0@0][1].jpg", "2018-07-25T09:52:21"),
        ("/AMC018M7DEQ8X7DS23/2024-08-13/06hour/jpg/06.56.37[M][0@0][0].jpg", "2024-08-13T06:56:37"),
        ("/192.168.1.64_01_20200730111229020_MOTION_DETECTION.jpg", "2020-07-30T11:12:29"),
        ("/2022/03/07/K3TA_00_20220307125217.jpg", "2022-03-07T12:52:17"),
        ("/snap/MDAlarm_20250103-153045.jpg", "2025-01-03T15:30:45"),
        ("/Entrance-2009-06-05@225030.jpg", "2009-06-05T22:50:30"),
        ("/cam_20050107175903.jpg", "2005-01-07T17:59:03"),
        ("/MOTION_2021-01-09-14-03-07-123_001.jpg", "2021-01-09T14:03:07"),
        ("/IMAG0001.JPG", None),
        ("/photo.jpg", None),
        ("/20259999-999999.jpg", None),
        ("/860123456789012.jpg", None),
        ("", None),
    ],
)
def test_the_time_of_a_name(path: str, time: str | None) -> None:
    expected = None if time is None else dt.datetime.fromisoformat(time).replace(tzinfo=dt.UTC).timestamp()
    assert name_time(path, dt.UTC) == expected


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_each_profile_fits_its_example(profile) -> None:
    assert profile.pattern.search(profile.example)
    assert (name_time(profile.example, dt.UTC) is not None) is bool(profile.pattern.groups)
