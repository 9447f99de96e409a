from __future__ import annotations

import dataclasses

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from interceptor.checksum import ones_complement_sum
from interceptor.packet import MeasurementPacket, decode_packet, maximum_payload, with_payload
from schemas.errors import PacketError, UsageError
from schemas.message import Carrier
from tests.interceptor.datagram import ROUTER_ALERT, build_datagram, recomputed, replaced

WHOLE = build_datagram(b"<mr>one</mr>")
UDP_AT = 24


def udp_checksum_is_right(data: bytes) -> bool:
    """RFC 768: pseudo header and datagram sum to all ones."""
    start = (data[0] & 15) * 4
    pseudo_header = data[12:20] + b"\0\x11" + (len(data) - start).to_bytes(2, "big")
    datagram = data[start:]
    return ones_complement_sum(pseudo_header + datagram) == 0xFFFF


def test_every_field_is_read_from_its_place() -> None:
    packet = decode_packet(
        build_datagram(
            b"payload",
            source="10.1.2.3",
            destination="203.0.113.255",
            source_port=1,
            destination_port=65535,
            ttl=9,
            identification=0xBEEF,
        )
    )
    assert (packet.source, packet.destination) == ("10.1.2.3", "203.0.113.255")
    assert (packet.source_port, packet.destination_port) == (1, 65535)
    assert (packet.ttl, packet.identification, packet.dont_fragment) == (9, 0xBEEF, True)
    assert (packet.header_length, packet.payload) == (24, b"payload")
    assert packet.header == packet.data[:24]
    assert packet.udp_checksum == int.from_bytes(packet.data[30:32], "big")


def test_a_packet_that_may_be_fragmented_says_so() -> None:
    assert not decode_packet(build_datagram(flags="")).dont_fragment


def test_a_packet_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        decode_packet(WHOLE).payload = b""  # type: ignore[misc]


def test_a_datagram_without_payload_is_one() -> None:
    assert decode_packet(build_datagram(b"")).payload == b""


@pytest.mark.parametrize(
    "options",
    [
        ROUTER_ALERT,
        b"\x01\x01\x01\x01" + ROUTER_ALERT,
        b"\x01\x01" + ROUTER_ALERT + b"\x00\x00",
        ROUTER_ALERT + b"\x00\x94\x04\x99",  # nothing counts after the end of the list
        b"\x9e\x04\xaa\xbb" + ROUTER_ALERT,
        b"\x9e\x02\x01" + ROUTER_ALERT + b"\x01",
        b"\x44\x24" + bytes(34) + ROUTER_ALERT,
    ],
)
def test_router_alert_is_found_anywhere_in_the_options(options: bytes) -> None:
    packet = decode_packet(build_datagram(b"xy", options=options))
    assert packet.header_length == 20 + len(options)
    assert packet.payload == b"xy"


def test_a_packet_without_options_is_one_of_plain_udp_and_stays_so() -> None:
    plain = decode_packet(build_datagram(b"payload", options=b""))
    assert (plain.carrier, plain.header_length, plain.payload) == (Carrier.UDP, 20, b"payload")
    grown = with_payload(plain, b"payload and more")
    assert grown == recomputed(grown)
    assert decode_packet(grown).carrier is Carrier.UDP
    assert decode_packet(WHOLE).carrier is Carrier.ROUTER_ALERT


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (b"\x94\x04\x00\x01", "no router alert"),
        (b"\x94\x04\xff\xdf", "no router alert"),
        (b"\x00\x00\x00\x00", "no router alert"),
        (b"\x00\x00\x00\x00" + ROUTER_ALERT, "no router alert"),  # behind the end of the list
        (b"\x9e\x08\x00\x00" + ROUTER_ALERT, "no router alert"),  # inside another option
        (ROUTER_ALERT + b"\x9e\x05\x00\x00", "no usable length"),
        (ROUTER_ALERT + b"\x9e\x01\x00\x00", "no usable length"),
        (ROUTER_ALERT + b"\x9e\x00\x00\x00", "no usable length"),
        (ROUTER_ALERT + b"\x01\x01\x01\x94", "no usable length"),
    ],
)
def test_options_without_router_alert_or_with_broken_lengths_are_refused(options: bytes, complaint: str) -> None:
    with pytest.raises(PacketError, match=complaint):
        decode_packet(build_datagram(options=options))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "too short"),
        (WHOLE[:27], "too short"),
        (replaced(WHOLE, 0, b"\x66"), "version 6"),
        (WHOLE[:-1], "total length"),
        (WHOLE + b"\0", "total length"),
        (replaced(WHOLE, 6, b"\x20\x00"), "fragment"),
        (replaced(WHOLE, 6, b"\x00\x01"), "fragment"),
        (replaced(WHOLE, 6, b"\x5f\xff"), "fragment"),
        (replaced(WHOLE, 9, b"\x06"), "protocol 6"),
        (replaced(WHOLE, 0, b"\x45"), "UDP length 40000"),  # the datagram would begin where the option is
        (replaced(WHOLE, 0, b"\x44"), "header length 16"),
        (replaced(WHOLE, 0, b"\x40"), "header length 0"),
        (replaced(WHOLE, 0, b"\x4f"), "header length 60"),
        (replaced(WHOLE, UDP_AT + 4, b"\x00\x13"), "UDP length 19, expected 20"),
        (replaced(WHOLE, UDP_AT + 4, b"\x00\x00"), "UDP length 0"),
    ],
)
def test_packets_that_lie_about_themselves_are_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(PacketError, match=complaint):
        decode_packet(data)


def test_a_packet_that_the_queue_cut_off_is_refused() -> None:
    with pytest.raises(PacketError, match="total length 5000, but 4016 octets"):
        decode_packet(build_datagram(bytes(5000 - 32))[:4016])


@given(st.binary(max_size=80) | st.builds(replaced, st.just(WHOLE), st.integers(0, 43), st.binary(max_size=12)))
def test_any_bytes_decode_or_raise_packet_error(data: bytes) -> None:
    try:
        packet = decode_packet(data)
    except PacketError:
        return
    assert packet.header + data[packet.header_length : packet.header_length + 8] + packet.payload == data


@given(
    st.binary(max_size=300), st.binary(max_size=300), st.sampled_from([ROUTER_ALERT, b"\x01" * 8 + ROUTER_ALERT])
)
@example(b"", b"", ROUTER_ALERT)
@example(b"a", b"ab", ROUTER_ALERT)
def test_another_payload_changes_lengths_and_checksums_and_nothing_else(
    old: bytes, new: bytes, options: bytes
) -> None:
    packet = decode_packet(build_datagram(old, options=options))
    assert with_payload(packet, new) == recomputed(build_datagram(new, options=options))


@given(st.binary(max_size=600), st.integers(0, 600), st.binary(max_size=200))
def test_an_insertion_at_any_place_keeps_the_checksum_right(old: bytes, place: int, added: bytes) -> None:
    packet = decode_packet(build_datagram(old))
    grown = with_payload(packet, old[:place] + added + old[place:])
    assert udp_checksum_is_right(grown)
    assert decode_packet(grown).payload == old[:place] + added + old[place:]


@given(
    st.binary(min_size=1, max_size=300),
    st.integers(0),
    st.integers(1, 254),
    st.binary(max_size=300),
    st.booleans(),
)
def test_a_corruption_on_the_way_is_still_seen_at_the_end(
    sent: bytes, place: int, flipped: int, other: bytes, appended: bool
) -> None:
    offset = UDP_AT + 8 + place % len(sent)
    arrived = build_datagram(sent)
    arrived = replaced(arrived, offset, bytes([arrived[offset] ^ flipped]))
    packet = decode_packet(arrived)
    assert not udp_checksum_is_right(with_payload(packet, packet.payload + other if appended else other))


def test_a_sender_that_computed_no_checksum_gets_a_full_one() -> None:
    packet = decode_packet(replaced(WHOLE, UDP_AT + 6, b"\0\0"))
    assert with_payload(packet, b"<mr>two</mr>") == build_datagram(b"<mr>two</mr>")


def payload_with_checksum_zero() -> bytes:
    """Its last word is the checksum of the rest, so that the sum of all is all ones."""
    checksum = decode_packet(build_datagram(b"even\0\0")).udp_checksum
    return b"even" + checksum.to_bytes(2, "big")


@pytest.mark.parametrize("incoming", [None, b"\0\0"])
def test_a_computed_zero_is_sent_as_all_ones(incoming: bytes | None) -> None:
    arrived = WHOLE if incoming is None else replaced(WHOLE, UDP_AT + 6, incoming)
    changed = with_payload(decode_packet(arrived), payload_with_checksum_zero())
    assert decode_packet(changed).udp_checksum == 0xFFFF
    assert udp_checksum_is_right(changed)


def test_all_ones_on_the_way_in_are_a_checksum_like_any_other() -> None:
    packet = decode_packet(build_datagram(payload_with_checksum_zero()))
    assert packet.udp_checksum == 0xFFFF
    assert with_payload(packet, packet.payload) == packet.data
    assert with_payload(packet, b"other") == build_datagram(b"other")


def test_no_packet_grows_past_what_its_length_field_can_say() -> None:
    packet = decode_packet(WHOLE)
    assert len(with_payload(packet, bytes(65535 - 32))) == 65535
    with pytest.raises(PacketError, match="65536 octets"):
        with_payload(packet, bytes(65536 - 32))


def test_the_longest_payload_leaves_room_for_headers_and_option() -> None:
    assert maximum_payload(1500) == 1468
    assert maximum_payload(576) == 544
    assert len(build_datagram(bytes(maximum_payload(1500)))) == 1500


@pytest.mark.parametrize("mtu_bytes", [0, 67, 65536])
def test_an_mtu_that_no_link_has_is_refused(mtu_bytes: int) -> None:
    with pytest.raises(UsageError, match="mtu_bytes"):
        maximum_payload(mtu_bytes)


def test_equal_octets_are_equal_packets() -> None:
    assert decode_packet(WHOLE) == decode_packet(bytes(WHOLE))
    assert decode_packet(WHOLE) != decode_packet(build_datagram(ttl=3))
    assert isinstance(decode_packet(WHOLE), MeasurementPacket)
