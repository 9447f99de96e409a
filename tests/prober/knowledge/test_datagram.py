from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.knowledge.advertisement import MAX_BODY_BYTES
from prober.knowledge.datagram import (
    MAX_CONTENT_BYTES,
    MAX_DATAGRAM_BYTES,
    MAX_HELD,
    MAX_VERSIONS,
    Acknowledgement,
    Datagram,
    Held,
    Hello,
    Item,
    Summary,
    Update,
    Version,
    datagram_from_bytes,
    datagram_to_bytes,
    item_bytes,
)
from prober.knowledge.seal import MAX_SEAL_BYTES
from schemas.errors import MessageError
from tests.messages import addresses

numbers = st.integers(0, 2**64 - 1)
hellos = st.builds(Hello, st.text(max_size=15), st.binary(min_size=8, max_size=8))
updates = st.builds(
    Update,
    st.lists(st.builds(Item, st.integers(0, 2**32 - 1), st.binary(min_size=1, max_size=200)), max_size=4).map(
        tuple
    ),
)
acknowledgements = st.builds(
    Acknowledgement, st.lists(st.builds(Version, addresses, st.integers(0, 255), numbers), max_size=9).map(tuple)
)
summaries = st.builds(
    Summary,
    st.just("0.0.0.0"),
    st.just("255.255.255.255"),
    st.lists(st.builds(Held, addresses, numbers, st.integers(0, 65_535)), max_size=9).map(tuple),
)
datagrams = st.builds(
    Datagram,
    instance=numbers,
    to_instance=numbers,
    counter=numbers,
    content=hellos | updates | acknowledgements | summaries,
)


@given(datagrams)
def test_decoding_reverses_encoding(datagram: Datagram) -> None:
    assert datagram_from_bytes(datagram_to_bytes(datagram)) == datagram


@given(st.binary(max_size=100) | datagrams.map(datagram_to_bytes), st.integers(0, 99), st.integers(0, 255))
def test_any_octets_are_a_datagram_or_an_error(data: bytes, at: int, change: int) -> None:
    octets = bytearray(data)
    if at < len(octets):
        octets[at] ^= change
    try:
        datagram = datagram_from_bytes(bytes(octets))
    except MessageError:
        return
    assert datagram_to_bytes(datagram) == bytes(octets)


def test_the_largest_of_each_kind_fits() -> None:
    versions = Acknowledgement(tuple(Version("192.0.2.1", 0, n) for n in range(MAX_VERSIONS)))
    held = Summary("192.0.2.1", "192.0.2.1", tuple(Held("192.0.2.1", n, 1) for n in range(MAX_HELD)))
    largest = Item(0, bytes(MAX_SEAL_BYTES + MAX_BODY_BYTES))
    assert item_bytes(largest) <= MAX_CONTENT_BYTES
    for content in (versions, held, Update((largest,)), Hello("x" * 63, bytes(8))):
        data = datagram_to_bytes(Datagram(instance=1, to_instance=2, counter=3, content=content))
        assert len(data) + MAX_SEAL_BYTES <= MAX_DATAGRAM_BYTES
        assert datagram_from_bytes(data).content == content


def test_a_summary_speaks_of_its_range_alone() -> None:
    lie = Summary("192.0.2.1", "192.0.2.9", (Held("192.0.2.10", 1, 1),))
    with pytest.raises(MessageError, match="outside of its range"):
        datagram_from_bytes(datagram_to_bytes(Datagram(instance=1, to_instance=2, counter=3, content=lie)))


def test_an_age_beyond_all_bounds_is_told_as_the_greatest() -> None:
    old = Update((Item(1 << 40, b"x"),))
    data = datagram_to_bytes(Datagram(instance=1, to_instance=2, counter=3, content=old))
    assert datagram_from_bytes(data).content == Update((Item(0xFFFFFFFF, b"x"),))
