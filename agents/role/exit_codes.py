"""Exit codes of every `tierwise` process. The supervisor reads them to decide whether to start a process again."""

from __future__ import annotations

from typing import Final

ASKED: Final = 0
"""Finished, or stopped on request."""

FAILED: Final = 1
"""Failed; another try may help."""

STOP: Final = 2
"""A person must change settings, arguments or input first; a line on stderr names them."""
