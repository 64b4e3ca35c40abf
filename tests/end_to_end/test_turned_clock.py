"""The whole system while its clock is set back by three days: `time.time` is turned in every process."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from stack import EACH_FRAME_COUNTS, GARDEN, Listener, Stack, cats

from pipeline import clock
from pipeline.messages import Result, Tier

pytestmark = pytest.mark.e2e

DAY_S = 86_400.0

TURNED = """
import os, time
real = time.time
def turned():
    with open(os.environ["TURNED"]) as file:
        return real() + float(file.read() or 0)
time.time = turned
"""
"""Python runs a module of this name at its start, before any of ours. libfaketime cannot be used: it turns Python's
monotonic waits into errors."""


def test_everything_goes_on_when_the_clock_is_set_back_by_three_days(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(TURNED)
    ahead = tmp_path / "ahead"
    ahead.write_text("0")
    turned = {"PYTHONPATH": str(tmp_path), "TURNED": str(ahead)}
    first, second, third = cats(3)
    stack = Stack(tmp_path, TIERWISE_EDGE__CLOUD_DEADLINE_S="2", **EACH_FRAME_COUNTS, **turned)
    try:
        stack.start()
        with stack.listen() as site:
            before = last_word(site, site.capture(GARDEN, first))
            with stack.halted("edge"):
                waiting = site.capture(GARDEN, second)
                ahead.write_text(str(-3 * DAY_S))
            answers = [last_word(site, event) for event in (waiting, site.capture(GARDEN, third))]
            latest_s = clock.seconds(before.time) - 2 * DAY_S
            assert all(clock.seconds(answer.time) < latest_s for answer in answers), "they have the time of receipt"
            for answer in answers:
                site.wait(partial(is_closed, site, answer.sighting), "the end of a sighting")
    finally:
        stack.stop()


def last_word(site: Listener, event: str) -> Result:
    """Wait for the edge's or the cloud's answer that nobody is expected to refine."""
    return site.wait(partial(final, site, event), f"the last word about {event}")


def final(site: Listener, event: str) -> Result | None:
    return next((r for r in site.answers(event) if r.tier is not Tier.DEVICE and r.pending is None), None)


def is_closed(site: Listener, sighting: str | None) -> bool:
    return any(report.closed and report.sighting == sighting for report in site.sightings)
