from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mp.bridge import (
    CredentialsChanged,
    Event,
    Failed,
    FurtherSegment,
    Heartbeat,
    HostChanged,
    PathAsked,
    PathGone,
    PathKnown,
    Ready,
    RelayReady,
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
from schemas.message import Carrier
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
    credentials={"is_required": False, "area": "west", "areas": {"west": ["10.0.0.0/8"]}, "keys": []},
)
known_segments = metric_names.flatmap(
    lambda names: st.builds(
        SegmentKnown,
        upstream=addresses,
        newest_sample_at_ms=st.integers(0, 2**53),
        metrics=st.fixed_dictionaries({name: statistics_of(name) for name in names}),
    )
)
known_paths = st.builds(
    PathKnown,
    destination=addresses,
    segments=st.lists(
        st.builds(
            FurtherSegment,
            upstream=addresses,
            current=addresses,
            newest_sample_at_ms=st.integers(0, 2**53),
            metrics=st.fixed_dictionaries({name: statistics_of(name) for name in ("delay", "loss", "mtu")}),
        ),
        max_size=3,
    ).map(tuple),
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
    carrier=st.sampled_from(Carrier),
).map(lambda report: ReportReady(report=report))
events = st.one_of(
    st.builds(PathAsked, destination=addresses),
    known_segments,
    known_paths,
    st.builds(PathGone, destination=addresses),
    st.builds(RelayReady, destination=addresses, payload=st.binary(max_size=200)),
    st.just(CredentialsChanged(credentials=SETUP.credentials)),
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


def test_a_secret_is_not_shown_where_an_event_is() -> None:
    credentials = {**SETUP.credentials, "keys": ["secret"]}
    told = repr(replace(SETUP, credentials=credentials)) + repr(CredentialsChanged(credentials=credentials))
    assert "secret" not in told
