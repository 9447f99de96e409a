from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.slices import MOST_SLICES, divided, slices_of
from schemas.metrics import METRICS

ALL = tuple(METRICS)
DEFAULT = ("delay", "loss", "jitter", "rtt")


@pytest.mark.parametrize(
    ("metrics", "room", "count"),
    [(DEFAULT, 1468, 1), (ALL, 1468, 2), (DEFAULT, 544, 2), (("loss",), 544, 1), (("loss",), 100, 1)],
)
def test_a_question_is_cut_only_as_far_as_datagrams_need_it(
    metrics: tuple[str, ...], room: int, count: int
) -> None:
    assert len(slices_of(metrics, room)) == count


@given(st.integers(1, len(ALL)), st.integers(68, 2000))
def test_slices_hold_each_metric_once_in_order_and_none_is_empty(count: int, room: int) -> None:
    slices = slices_of(ALL[:count], room)
    assert tuple(name for one in slices for name in one) == ALL[:count]
    assert all(slices) and len(slices) <= MOST_SLICES
    assert divided(ALL[:count], len(slices)) == slices
