"""Options and fixtures of all tests: the real brokers, the contract suites, one running system for the end-to-end
tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from stack import Listener, Stack, Stage

# As the roles have it (agents/role/memory_limits.py). On a busy machine, BLAS's threads wait for each other:
# small heads took ten times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# No test depends on timing: on a busy machine an example may take any time.
settings.register_profile("tierwise", deadline=None)
settings.load_profile("tierwise")

pytest_plugins = ("kafka_brokers", "run_guard")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--real", action="store_true", help="also run on Apache Kafka and Mosquitto (make test-real)")


def pytest_configure(config: pytest.Config) -> None:
    # kafka-python reads its message schemas, when imported, by a call that Python 3.11 and 3.12 deprecate.
    config.addinivalue_line("filterwarnings", "ignore:(read|open)_text is deprecated:DeprecationWarning")


def pytest_itemcollected(item: pytest.Item) -> None:
    if "end_to_end" in item.path.parts:
        item.add_marker(pytest.mark.e2e)
    # For pytest-xdist: the tests of a file share its fixtures, those that start the real processes share one stack.
    group = "real processes" if item.get_closest_marker("e2e") else item.nodeid.partition("::")[0]
    item.add_marker(pytest.mark.xdist_group(group))
    if item.get_closest_marker("real") and not item.config.getoption("--real"):
        item.add_marker(pytest.mark.skip(reason="needs the real brokers: make test-real"))


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    # Imported here: kafka-python warns at its import, and `pytest_configure` above allows that first.
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
