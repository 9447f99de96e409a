from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.namespaces import Namespaces
from tests.prober.stamp.bad_input import LIAR, STRANGER, THIRD, Bed


@pytest.fixture(scope="package")
def bed() -> Iterator[Bed]:
    """Two hosts, with addresses for those who send what they should not."""
    factory = Namespaces()
    try:
        left, right = factory.chain("left", "right")
        left.run(*f"ip address add {STRANGER}/24 dev {left.interfaces[0]}".split())
        for address in (LIAR, THIRD):
            right.run(*f"ip address add {address}/24 dev {right.interfaces[0]}".split())
        yield left, right
    finally:
        factory.remove()
