"""Strategies for advertisements, and plain ones to begin from."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from types import MappingProxyType

from hypothesis import strategies as st

from prober.knowledge.advertisement import Advertisement
from schemas.message import SegmentRecord, SegmentState
from schemas.metrics import LossStatistics
from tests.messages import addresses, counts, metric_names, statistics_of

networks = st.builds(
    lambda number, length: IPv4Network((number >> (32 - length) << (32 - length), length)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)


def record(upstream: str, current: str, *, age_ms: int = 40, recorded_at_ms: int = 1_000_000) -> SegmentRecord:
    """A measured segment with one metric."""
    loss = LossStatistics(sent=100, lost=1, threshold_ms=1000, runs=1, longest_run=1)
    return SegmentRecord(
        upstream=upstream,
        current=current,
        state=SegmentState.MEASURED,
        recorded_at_ms=recorded_at_ms,
        age_ms=age_ms,
        metrics=MappingProxyType({"loss": loss}),
    )


def plain(origin: str, sequence: int = 1, **fields: object) -> Advertisement:
    """One that says nothing but what is given."""
    one = Advertisement(
        origin=origin,
        sequence=sequence,
        revision=0,
        created_at_ms=1_000_000,
        lifetime_s=60,
        area="",
        addresses=(origin,),
    )
    return replace(one, **fields)  # type: ignore[arg-type]


@st.composite
def segments(draw: st.DrawFn, origin: str) -> tuple[SegmentRecord, ...]:
    found = []
    for upstream in draw(st.lists(addresses, max_size=2, unique=True)):
        names = draw(metric_names)
        found.append(
            SegmentRecord(
                upstream=upstream,
                current=origin,
                state=SegmentState.MEASURED,
                recorded_at_ms=draw(counts),
                age_ms=draw(counts),
                metrics=MappingProxyType({name: draw(statistics_of(name)) for name in names}),
            )
        )
    return tuple(found)


@st.composite
def advertisements(draw: st.DrawFn) -> Advertisement:
    origin = draw(addresses)
    sequence = draw(st.integers(0, 2**63 - 1))
    next_points = draw(st.dictionaries(addresses, addresses, max_size=20))
    fragments = draw(st.integers(1, 16))
    return Advertisement(
        origin=origin,
        sequence=sequence,
        revision=draw(st.integers(0, sequence)),
        created_at_ms=draw(st.integers(0, 2**63 - 1)),
        lifetime_s=draw(st.integers(1, 3600)),
        area=draw(st.text(max_size=15)),
        fragment=draw(st.integers(0, fragments - 1)),
        fragments=fragments,
        withdrawn=draw(st.booleans()),
        addresses=tuple(draw(st.lists(addresses, max_size=4, unique=True))),
        serves=tuple(draw(st.lists(networks, max_size=3))),
        next_points=MappingProxyType(next_points),
        asked=frozenset(draw(st.sets(st.sampled_from(sorted(next_points)))) if next_points else ()),
        segments=draw(segments(origin)),
    )
