from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prober.knowledge.advertisement import (
    MAX_BODY_BYTES,
    MAX_FRAGMENTS,
    Advertisement,
    advertisement_from_bytes,
    advertisement_to_bytes,
    fragments_of,
)
from schemas.errors import MessageError
from schemas.message import SegmentState
from schemas.metrics import DistributionStatistics, ScalarStatistics
from tests.prober.knowledge.advertisements import advertisements, plain, record

A, B, C = "192.0.2.1", "192.0.2.2", "192.0.2.3"


@settings(max_examples=50)
@given(advertisements())
def test_decoding_reverses_encoding(one: Advertisement) -> None:
    assert advertisement_from_bytes(advertisement_to_bytes(one)) == one


@given(st.binary(max_size=200))
def test_any_octets_are_an_advertisement_or_an_error(data: bytes) -> None:
    try:
        one = advertisement_from_bytes(data)
    except MessageError:
        return
    assert advertisement_from_bytes(advertisement_to_bytes(one)) == one


@settings(max_examples=50)
@given(advertisements(), st.data())
def test_damaged_octets_are_an_advertisement_or_an_error(one: Advertisement, data: st.DataObject) -> None:
    octets = bytearray(advertisement_to_bytes(one))
    octets[data.draw(st.integers(0, len(octets) - 1))] ^= data.draw(st.integers(1, 255))
    cut = octets[: data.draw(st.integers(0, len(octets)))]
    for damaged in (bytes(octets), bytes(cut)):
        try:
            found = advertisement_from_bytes(damaged)
        except MessageError:
            continue
        assert advertisement_from_bytes(advertisement_to_bytes(found)) == found


def test_what_contradicts_itself_is_refused() -> None:
    good = plain(A, segments=(record(B, A),))
    advertisement_from_bytes(advertisement_to_bytes(good))
    for bad, reason in (
        (replace(good, lifetime_s=0), "lifetime of 0"),
        (replace(good, lifetime_s=3601), "lifetime of 3601"),
        (replace(good, fragment=1), "fragment 1 of 1"),
        (replace(good, fragments=MAX_FRAGMENTS + 1), "fragment 0 of 17"),
        (replace(good, sequence=1 << 63), "63 bits"),
        (replace(good, revision=2), "revision after"),
        (replace(good, asked=frozenset({C})), "without its next point"),
        (replace(good, addresses=(A, A)), "one address twice"),
        (replace(good, addresses=tuple(f"10.0.0.{n}" for n in range(33))), "33 entries"),
        (replace(good, segments=(record(B, C),)), "got a segment 192.0.2.2 -> 192.0.2.3"),
        (replace(good, segments=(record(B, A), record(B, A))), "one segment twice"),
        (replace(good, segments=(replace(record(B, A), told_by=C),)), "got a segment"),
        (replace(good, segments=(replace(record(B, A), state=SegmentState.PENDING),)), "got a segment"),
        (replace(good, area="x" * 64), "area of 64 octets"),
    ):
        with pytest.raises(MessageError, match=reason):
            advertisement_from_bytes(advertisement_to_bytes(bad))


def test_a_message_in_the_place_of_the_segments_must_carry_nothing_else() -> None:
    octets = advertisement_to_bytes(plain(A))
    other = advertisement_to_bytes(plain(B, segments=(record(C, B),)))
    tail = other[len(advertisement_to_bytes(plain(B))) :]
    with pytest.raises(MessageError, match="carries more or less"):
        advertisement_from_bytes(octets + tail)


def test_two_next_points_toward_one_destination_are_refused() -> None:
    octets = advertisement_to_bytes(plain(A, addresses=(), next_points={C: B}))
    one = bytes([1, 192, 0, 2, 2, 1, 192, 0, 2, 3])
    assert octets.count(one) == 1
    two = bytes([2, 192, 0, 2, 2, 1, 192, 0, 2, 3, 192, 0, 2, 9, 1, 192, 0, 2, 3])
    with pytest.raises(MessageError, match="two next points toward 192.0.2.3"):
        advertisement_from_bytes(octets.replace(one, two))


def large(segments: int, destinations: int) -> Advertisement:
    toward = {f"10.{n >> 8}.{n & 255}.1": f"192.0.2.{n % 7 + 2}" for n in range(destinations)}
    return plain(
        A,
        serves=(IPv4Network("198.51.100.0/24"),),
        next_points=MappingProxyType(toward),
        asked=frozenset(list(toward)[::2]),
        segments=tuple(record(f"192.0.2.{n + 2}", A, age_ms=n * 7919 % 9000) for n in range(segments)),
    )


@pytest.mark.parametrize(("segments", "destinations"), [(0, 0), (3, 10), (100, 0), (0, 256), (90, 256)])
def test_fragments_fit_a_datagram_and_together_say_the_same(segments: int, destinations: int) -> None:
    whole = large(segments, destinations)
    fragments = fragments_of(whole)
    assert all(len(advertisement_to_bytes(one)) <= MAX_BODY_BYTES for one in fragments)
    assert [(one.fragment, one.fragments) for one in fragments] == [
        (n, len(fragments)) for n in range(len(fragments))
    ]
    assert {key: value for one in fragments for key, value in one.next_points.items()} == dict(whole.next_points)
    assert frozenset().union(*(one.asked for one in fragments)) == whole.asked
    assert tuple(segment for one in fragments for segment in one.segments) == whole.segments
    assert fragments[0].serves == whole.serves
    assert [advertisement_from_bytes(advertisement_to_bytes(one)) for one in fragments] == list(fragments)


def test_one_fragment_is_enough_for_a_point_with_few_neighbors() -> None:
    assert len(fragments_of(large(4, 20))) == 1


def test_a_segment_too_large_for_any_fragment_loses_its_distribution_first() -> None:
    noise = " ".join(str(n * n * 7919 % 99_991 + 1) for n in range(256))
    plugins = {
        f"m{n}": ScalarStatistics(count=n, value=n / 7, low=n / 9, high=n / 5, measured_at_ms=n * 7919)
        for n in range(9)
    }
    distribution = DistributionStatistics(count=9, minimum_ms=1, p50_ms=1, p95_ms=1, p99_ms=1, bins=noise)
    segment = replace(record(B, A), metrics={"distribution": distribution, **plugins})
    (fragment,) = fragments_of(plain(A, segments=(segment,)))
    assert list(fragment.segments[0].metrics) == list(plugins)
    small = fragments_of(plain(A, segments=(segment,)), room=220)[-1]
    assert 0 < len(small.segments[0].metrics) < len(plugins)
    assert [one.segments for one in fragments_of(plain(A, segments=(segment,)), room=60)] == [()]


def test_no_more_fragments_are_made_than_a_receiver_takes() -> None:
    assert len(fragments_of(large(100, 0), room=145)) == MAX_FRAGMENTS
