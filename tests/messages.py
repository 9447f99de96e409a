"""Strategies for messages, their parts, and documents near to messages."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from hypothesis import strategies as st

from schemas.histogram import LAST_BIN, Histogram
from schemas.message import MeasureRequest, Message, SegmentRecord, SegmentState, Tag
from schemas.metrics import METRICS, ScalarStatistics, Statistics, statistic_fields

addresses = st.tuples(*[st.integers(0, 255)] * 4).map(lambda octets: ".".join(map(str, octets)))
identifiers = st.integers(0, 2**128 - 1).map("{:032x}".format)
counts = st.integers(0, 10**15 - 1)
tags = st.builds(
    Tag,
    st.from_regex(r"[a-z0-9][a-z0-9.\-]{0,15}", fullmatch=True),
    st.binary(min_size=16, max_size=16) | st.binary(min_size=64, max_size=64),
)
PLUGIN_METRICS = ("icmp-rtt", "x")
"""Names that no registry of this program holds; a message may ask for them all the same."""
metric_names = st.lists(st.sampled_from([*METRICS, *PLUGIN_METRICS]), min_size=1, unique=True).map(
    lambda names: tuple(name for name in (*METRICS, *PLUGIN_METRICS) if name in names)
)
histograms = st.dictionaries(st.integers(0, LAST_BIN), st.integers(1, 10**6), min_size=1, max_size=20).map(
    Histogram
)


def numbers(decimals: int) -> st.SearchStrategy[float]:
    """Values that the wire form holds exactly."""
    return st.integers(-(10**9), 10**9).map(lambda value: round(value / 10**decimals, decimals) + 0.0)


def statistics_of(name: str) -> st.SearchStrategy[Statistics]:
    kind = METRICS[name].statistics if name in METRICS else ScalarStatistics

    def values(kind_of_value: type, decimals: int) -> st.SearchStrategy[int | float | bool | str]:
        if kind_of_value is float:
            return numbers(decimals)
        if kind_of_value is str:
            return histograms.map(Histogram.to_text)
        return st.booleans() if kind_of_value is bool else counts

    fields = {field: values(one, decimals) for field, _, decimals, one in statistic_fields(kind)}
    return st.builds(kind, **fields)


@st.composite
def records(draw: st.DrawFn, upstream: str, asked: tuple[str, ...]) -> SegmentRecord:
    state = draw(st.sampled_from(SegmentState))
    measured = state is SegmentState.MEASURED
    given = [name for name in asked if measured and draw(st.booleans())]
    return SegmentRecord(
        upstream=upstream,
        current=draw(addresses),
        state=state,
        recorded_at_ms=draw(counts),
        age_ms=draw(counts) if measured else 0,
        told_by=draw(st.none() | addresses),
        metrics=MappingProxyType({name: draw(statistics_of(name)) for name in given}),
        unsupported=tuple(name for name in asked if measured and name not in given),
        tag=draw(st.none() | tags),
    )


@st.composite
def messages(draw: st.DrawFn) -> Message:
    asked = draw(metric_names)
    part = draw(st.sampled_from((0, 0, 1, 7)))
    slice_index = draw(st.sampled_from((0, 0, 2)))
    request = MeasureRequest(
        source=draw(addresses),
        destination=draw(addresses),
        id=draw(identifiers),
        metrics=asked,
        created_at_ms=draw(counts),
        lifetime_ms=draw(counts),
        max_age_ms=draw(counts),
        copy=draw(st.sampled_from((0, 1, 5))),
        part=part,
        last_point=draw(addresses) if part else None,
        returning=draw(st.booleans()),
        slice_index=slice_index,
        slices=draw(st.integers(slice_index + 1, 4)),
        previous_tag=draw(st.none() | st.binary(min_size=16, max_size=16)) if part else None,
        tag=draw(st.none() | tags),
    )
    if not request.returning:
        request = replace(request, hello=draw(st.booleans()), return_id=draw(st.none() | identifiers))
    collected: list[SegmentRecord] = []
    upstream = request.last_point or request.source
    for _ in range(draw(st.integers(0, 4))):
        collected.append(draw(records(upstream, asked)))
        upstream = collected[-1].current
    return Message(request=request, records=tuple(collected))
