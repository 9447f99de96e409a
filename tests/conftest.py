from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.namespaces import Namespaces

ON_THE_KERNEL = ("netns", "slow")
"""Marks of tests that need the machine's time as it passes: they run one after the other."""
ASIDE_NICENESS = 10


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(item.get_closest_marker(name) for name in ON_THE_KERNEL):
            item.add_marker(pytest.mark.xdist_group("kernel"))


@pytest.fixture(autouse=True)
def _step_aside(request: pytest.FixtureRequest) -> None:
    """Where tests run beside each other, those without the kernel yield to those with it."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        on_the_kernel = any(request.node.get_closest_marker(name) for name in ON_THE_KERNEL)
        os.setpriority(os.PRIO_PROCESS, 0, 0 if on_the_kernel else ASIDE_NICENESS)


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    """Makes network namespaces, and removes them at the end."""
    factory = Namespaces()
    try:
        yield factory
    finally:
        factory.remove()
