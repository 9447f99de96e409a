from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interceptor.network import Network
from tests.namespaces import Namespaces


@pytest.fixture
def network(namespaces: Namespaces) -> Iterator[Network]:
    """Three hosts in a row, of which the middle one intercepts."""
    with Network(namespaces) as network:
        yield network
