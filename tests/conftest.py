"""What all tests share: the option that adds the real brokers, and the fixtures of the contract suites."""

from __future__ import annotations

import pytest
from hypothesis import settings

# No test depends on timing: on a busy machine an example may take any time.
settings.register_profile("tierwise", deadline=None)
settings.load_profile("tierwise")

pytest_plugins = ("kafka_brokers", "run_guard")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--real", action="store_true", help="also run on Apache Kafka and Mosquitto (make test-real)"
    )


def pytest_configure(config: pytest.Config) -> None:
    # kafka-python reads its message schemas, when imported, by a call that Python 3.11 and 3.12 deprecate.
    config.addinivalue_line("filterwarnings", "ignore:(read|open)_text is deprecated:DeprecationWarning")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--real"):
        return
    for item in items:
        if item.get_closest_marker("real"):
            item.add_marker(pytest.mark.skip(reason="needs the real brokers: make test-real"))
