"""The Page-Hinkley test: has the mean of a stream of numbers changed? Pure; its state is six numbers.

It adds up how far each value lies above (and below) the mean so far, less an allowance. Where such a sum has risen by
more than a threshold from its lowest point, the mean has changed. The test needs no window and no distribution::

    test = PageHinkley()
    for value in values:
        test = test.take(value, allowance=0.25)
        if test.change(threshold=15.0): ...

Sources: Page 1954 (Biometrika 41:100), Hinkley 1971 (Biometrika 58:509), both directions; fading sums as in Gama et
al. 2013 (Machine Learning 90:317). On equal parameters it alarms where `river.drift.PageHinkley` 0.26 does: a test
holds it to that.
"""

from __future__ import annotations

from typing import Literal

import msgspec

LEAST = 30
"""With fewer values the mean is too uncertain to have changed."""

FADING = 1 - 1e-4
"""Factor of the sums at each value, so that a long stream without a change starts near zero."""

Change = Literal["rose", "fell"]


class PageHinkley(msgspec.Struct, frozen=True, array_like=True):
    """State of the test; the default is the start. Array-like, since a store holds dozens for each stream."""

    count: int = 0
    mean: float = 0.0
    up: float = 0.0
    up_least: float = 0.0
    down: float = 0.0
    down_most: float = 0.0

    def take(self, value: float, *, allowance: float) -> PageHinkley:
        """Return the state after one more value. `allowance` is how far the mean may stray, in the value's unit."""
        count = self.count + 1
        mean = self.mean + (value - self.mean) / count
        off = value - mean
        up = FADING * self.up + off - allowance
        down = FADING * self.down + off + allowance
        return PageHinkley(count, mean, up, min(self.up_least, up), down, max(self.down_most, down))

    def change(self, *, threshold: float, least: int = LEAST) -> Change | None:
        """Return which way the mean has changed, or None. After an alarm, begin with a new state."""
        if self.count < least:
            return None
        if self.up - self.up_least > threshold:
            return "rose"
        return "fell" if self.down_most - self.down > threshold else None
