"""Daily reports of trail cameras become values with a unit; other texts become none."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest

from agents.device.intake.reports import time_of, values_of

WILLFINE = (
    "IMEI:860123456789012\r\nCSQ:31\r\nTemp:24℃ \r\nBattery:60%\r\nSD:59405M/59628M\r\nTotal:12\r\n"
    "Date:05/12/2025 15:46:47\r\n"
)


def test_a_report_gives_battery_temperature_signal_and_card() -> None:
    assert [tuple(value) for value in values_of(WILLFINE)] == [
        ("signal", -51.0, "dBm"),
        ("temperature", 24.0, "Cel"),
        ("battery", 60.0, "%"),
        ("card", 99.6, "%"),
    ]


@pytest.mark.parametrize(
    ("line", "stream", "value", "unit"),
    [
        ("Battery Level = 80 %", "battery", 80.0, "%"),
        ("BATT: 5.9V", "voltage", 5.9, "V"),
        ("Temperature: 75°F", "temperature", 23.9, "Cel"),
        ("temp: 41F", "temperature", 5.0, "Cel"),
        ("Temp: -12.5 °C", "temperature", -12.5, "Cel"),
        ("Temp: 7", "temperature", 7.0, "Cel"),
        ("Signal: -80 dBm", "signal", -80.0, "dBm"),
        ("Signal strength: 75%", "reception", 75.0, "%"),
        ("CSQ: 0", "signal", -113.0, "dBm"),
        ("SD card: 1.5GB/32GB", "card", 4.7, "%"),
        ("- SD used: 12%", "card", 12.0, "%"),
    ],
)
def test_usual_spellings(line: str, stream: str, value: float, unit: str) -> None:
    assert [tuple(each) for each in values_of(line)] == [(stream, value, unit)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "Battery",
        "Battery:",
        "Battery: low",
        "CSQ: 99",
        "Temp: 24.5x",
        "SD: 1M/0M/2M",
        "To: you",
        "Battery: 6O%",
    ],
)
def test_a_text_without_values_is_no_report(text: str) -> None:
    assert values_of(text) == []


def test_a_card_of_no_size_is_unused() -> None:
    assert values_of("SD: 0M/0M")[0].value == 0.0


def test_the_stated_time_is_in_the_zone_of_the_site() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert time_of(WILLFINE, berlin) == dt.datetime(2025, 12, 5, 14, 46, 47, tzinfo=dt.UTC).timestamp()
    assert time_of("Date: 2025-12-05 15:46:47", berlin) == time_of(WILLFINE, berlin)
    assert time_of("Date: 99/99/2025 00:00:00\nTemp: 1", berlin) is None
