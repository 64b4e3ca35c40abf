"""One stage for all tests that start the real system."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from stack import Listener, Stack, Stage


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    # Here: this file is loaded before the warnings of kafka-python's import are allowed (tests/conftest.py).
    from stack import Stage

    stage = Stage(lambda: tmp_path_factory.mktemp("stack"))
    yield stage
    stage.clear()


@pytest.fixture
def shared(stage: Stage) -> Stack:
    """The running system, which every test leaves as it was."""
    return stage.shared()


@pytest.fixture
def listener(shared: Stack) -> Iterator[Listener]:
    """A client that hears everything, from before the test's first message."""
    with shared.listen() as listener:
        yield listener
