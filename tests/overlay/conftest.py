from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.overlay.network import Network, network, start

ROW = {
    "nodes": {
        "h1": {"host": True},
        "p1": {"point": True},
        "r1": {},
        "p2": {"point": True},
        "r2": {},
        "p3": {"point": True},
        "h2": {"host": True},
    },
    "links": [
        {"a": "h1", "b": "p1", "delay_ms": 2, "rate_mbit": 50},
        {"a": "p1", "b": "r1", "delay_ms": 3, "rate_mbit": 50},
        # The only loss: whoever goes the other way loses nothing.
        {"a": "r1", "b": "p2", "delay_ms": 5, "rate_mbit": 50, "a_to_b": {"loss_ratio": 0.03}},
        {"a": "p2", "b": "r2", "delay_ms": 8, "rate_mbit": 50},
        {"a": "r2", "b": "p3", "delay_ms": 4, "rate_mbit": 50, "b_to_a": {"delay_ms": 6}},
        {"a": "p3", "b": "h2", "delay_ms": 2, "rate_mbit": 50},
    ],
}
"""Three points, plain routers between them, and a host at each end."""


@pytest.fixture(scope="session")
def running_row() -> Iterator[Network]:
    with network(ROW) as net:
        start(net)
        yield net


@pytest.fixture
def row(running_row: Network) -> Network:
    """The row with all its points up and their segments measured, whatever the test before did."""
    for point in ("p1", "p2", "p3"):
        if not running_row.is_running(point):
            running_row.lab.start_point(point)
    running_row.await_answer("p1", "p3", ("p1", "p2", "p3"))
    return running_row
