"""The ingest benchmark measures what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.bench import ingest


@pytest.mark.slow
def test_both_receivers_get_every_message_and_are_compared() -> None:
    report = ingest.run(messages=300, rounds=1)
    assert set(report["receivers"]) == {ingest.OURS, ingest.PEER}
    assert all(len(of["cpu_us_per_message"]) == 1 for of in report["receivers"].values())
    assert report["cpu_ratios"][ingest.PEER] > 0


def test_the_publishers_packets_are_as_long_as_they_say() -> None:
    data = ingest.packets(65534, 3)
    packet_ids = []
    while data:
        kind, length, body = data[0], data[1], data[2 : 2 + data[1]]
        topic_length = int.from_bytes(body[:2], "big")
        assert (kind, len(body)) == (0x32, length)
        packet_ids.append(int.from_bytes(body[2 + topic_length : 4 + topic_length], "big"))
        data = data[2 + length :]
    assert packet_ids == [65535, 1, 2]


def test_the_ratio_is_the_median_of_the_rounds() -> None:
    assert ingest.cost_ratio([60.0, 90.0, 66.0], [50.0, 100.0, 60.0]) == 1.1


@pytest.mark.slow
def test_a_peer_that_is_not_there_is_skipped_with_the_reason(tmp_path: Path) -> None:
    report = ingest.run(messages=100, rounds=1, ekuiper=tmp_path / "kuiperd")
    assert "is no program" in report["receivers"][ingest.EKUIPER]["skipped"]
