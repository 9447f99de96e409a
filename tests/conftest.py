from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.namespaces import Namespaces
from tests.second_tries import SecondTries


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(SecondTries())


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    """Makes network namespaces, and removes them at the end."""
    factory = Namespaces()
    try:
        yield factory
    finally:
        factory.remove()
