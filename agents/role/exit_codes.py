"""Exit codes of every `tierwise` process; the supervisor decides by them whether another start would help."""

from __future__ import annotations

from typing import Final

ASKED: Final = 0
"""Done, or ended because it was asked to."""

FAILED: Final = 1
"""Could not go on, or could not be done now: another try may help."""

STOP: Final = 2
"""A person must change something first (settings, arguments, input); stderr says what in one line."""
