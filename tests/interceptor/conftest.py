from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interceptor.network import Network
from tests.namespaces import Namespaces


@pytest.fixture(scope="module")
def row() -> Iterator[Network]:
    """Three hosts in a row, of which the middle one intercepts."""
    namespaces = Namespaces()
    try:
        with Network(namespaces) as network:
            yield network
    finally:
        namespaces.remove()


@pytest.fixture
def network(row: Network) -> Iterator[Network]:
    """The row, on which no test before has left anything."""
    yield row
    row.clean()
