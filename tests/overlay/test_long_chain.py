"""A path with more records than one small datagram holds, on the real kernel path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from requestor.query import DEFAULT_METRICS
from schemas.metrics import METRICS
from schemas.result import ResultStatus
from tests.overlay.long_chain import LINK_DELAY_MS, await_mtu, chain_of, handed_over, names_of, set_mtu, walk
from tests.overlay.network import Network, eventually, network, start

pytestmark = pytest.mark.netns

MTU_BYTES = 576
RATE_MBIT = 50.0
"""A link without a rate has no capacity that could be told."""
UNASKED = tuple(metric for metric in METRICS if metric != "available-bandwidth")
"""What is measured of every segment without being asked for."""
POINTS = names_of(14)


@pytest.fixture(scope="module")
def chain() -> Iterator[Network]:
    with network(chain_of(len(POINTS), rate_mbit=RATE_MBIT)) as net:
        set_mtu(net, MTU_BYTES)
        start(net)
        await_mtu(net, MTU_BYTES)
        eventually(
            lambda: net.ask(POINTS[0], POINTS[-1], metrics=UNASKED).status is ResultStatus.COMPLETE,
            "all metrics of all segments",
            within_s=60,
        )
        yield net


@pytest.mark.parametrize(
    ("metrics", "slices"), [(DEFAULT_METRICS, 2), (UNASKED, 4)], ids=["usual metrics", "nearly all"]
)
def test_the_records_of_a_long_path_come_in_parts_and_no_datagram_is_cut(
    chain: Network, tmp_path: Path, metrics: tuple[str, ...], slices: int
) -> None:
    before = handed_over(chain)
    seen = walk(chain, metrics, tmp_path)
    assert seen.faults([chain.address(name) for name in POINTS], MTU_BYTES) == []
    assert seen.parts > 1
    assert seen.slices == slices
    assert all(seen.result.composed[metric].value is not None for metric in DEFAULT_METRICS)
    eventually(lambda: handed_over(chain) >= before + seen.parts - 1, "counted hand-overs", within_s=5)


def test_the_sum_of_many_segments_is_near_the_truth(chain: Network) -> None:
    result = chain.await_answer(POINTS[0], POINTS[-1], POINTS, within_s=60)
    truth = chain.lab.truth(POINTS[0], POINTS[-1])
    assert truth.hops == len(POINTS) - 1
    minima_ms = [float(segment.metrics["delay"]["minimum_ms"] or 0) for segment in result.segments]
    # The least delay of a segment is that of its link and a little of the machine's own.
    assert min(minima_ms) > 0.9 * LINK_DELAY_MS
    assert max(minima_ms) < 2 * LINK_DELAY_MS
    delay_ms = result.composed["delay"].value
    assert delay_ms is not None and truth.delay_ms is not None
    assert truth.delay_ms <= delay_ms < truth.delay_ms + len(POINTS)
