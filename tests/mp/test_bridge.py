from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mp.bridge import (
    Event,
    Failed,
    Heartbeat,
    HostChanged,
    Ready,
    ReportReady,
    SegmentGone,
    SegmentKnown,
    Setup,
    UpstreamSeen,
    event_from_bytes,
    event_to_bytes,
)
from processor.decision import Report
from schemas.errors import MessageError
from tests.messages import addresses, identifiers, metric_names, statistics_of

SETUP = Setup(
    address="10.0.0.1",
    own_addresses=("10.0.0.1", "127.0.0.1"),
    serves=("10.1.0.0/16",),
    port=49862,
    queue=1,
    rate_per_s=10,
    burst=5,
    rules="auto",
    room=1468,
    log_level="info",
    log_format="text",
)
known_segments = metric_names.flatmap(
    lambda names: st.builds(
        SegmentKnown,
        upstream=addresses,
        newest_sample_at_ms=st.integers(0, 2**53),
        metrics=st.fixed_dictionaries({name: statistics_of(name) for name in names}),
    )
)
reports = st.builds(
    Report,
    asker=addresses,
    id=identifiers,
    copy=st.integers(0, 5),
    part=st.integers(0, 9),
    final=st.booleans(),
    lifetime_ms=st.integers(0, 10**6),
    payload=st.binary(max_size=200),
    wants_return=st.booleans(),
).map(lambda report: ReportReady(report=report))
events = st.one_of(
    known_segments,
    reports,
    st.builds(UpstreamSeen, upstream=addresses, metrics=metric_names, hello=st.booleans()),
    st.builds(SegmentGone, upstream=addresses),
    st.builds(HostChanged, own_addresses=st.lists(addresses).map(tuple), room=st.integers(0, 9000)),
    st.builds(Ready, rules=st.text()),
    st.builds(Failed, text=st.text()),
    st.builds(Heartbeat, counters=st.dictionaries(st.text(), st.integers(0, 2**53))),
    st.just(SETUP),
)


@given(events)
def test_an_event_survives_the_bridge(event: Event) -> None:
    assert event_from_bytes(event_to_bytes(event)) == event


@given(st.binary(max_size=100))
def test_any_octets_are_an_event_or_a_message_error(data: bytes) -> None:
    with pytest.raises(MessageError):
        event_from_bytes(data)
