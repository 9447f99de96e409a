"""Messages that come or leave deflated: continued as the pipeline would, octet by octet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from interceptor.packet import decode_packet
from mp.fast_lane import lane
from schemas.glance import glance_at
from schemas.keyring import NO_KEYS, Keyring
from schemas.payload import COMPRESSED, payload_from_xml, xml_from_payload
from tests.interceptor.datagram import recomputed
from tests.mp.fast_lane.judged_point import (
    ONE_KEY,
    REQUEST,
    ROOM,
    Point,
    datagram,
    deflated,
    document,
    growing,
)


@pytest.mark.parametrize("points", [1, 3, 5, 9])
@pytest.mark.parametrize("keyring", [NO_KEYS, ONE_KEY], ids=["unsigned", "signed"])
@pytest.mark.parametrize("form", [deflated, growing])
@pytest.mark.parametrize("options", [b"\x94\x04\x00\x00", b""], ids=["router alert", "plain"])
def test_one_that_comes_deflated_is_extended_as_the_pipeline_would(
    points: int, keyring: Keyring, form: Callable[[bytes], bytes], options: bytes
) -> None:
    request = replace(REQUEST, metrics=("delay", "loss", "jitter", "rtt"))
    point = Point(keyring, is_required=keyring is not NO_KEYS)
    point.knows(f"10.0.0.{points + 1}")
    point.seen(datagram(form(document(points, request, keyring)), options=options))
    another = replace(request, id="cd" * 16, created_at_ms=7, copy=2)
    grown = point.extended(datagram(form(document(points, another, keyring)), ttl=9, options=options))
    assert grown is not None
    assert grown == recomputed(grown)
    leaves = decode_packet(grown).payload
    assert (leaves[:1] == COMPRESSED) == (len(xml_from_payload(leaves)) > ROOM)
    assert (leaves[:1] == COMPRESSED) == (points > 1)


def test_what_points_have_deflated_takes_no_python(monkeypatch: pytest.MonkeyPatch) -> None:
    packets = [datagram(growing(document(points))) for points in (5, 6, 7)]
    point = Point().seen(datagram(document(3)))
    for number in (6, 7, 8):
        point.knows(f"10.0.0.{number}")
        point.lane.take_down(glance_at(document(number - 1)))
    monkeypatch.setattr(lane, "xml_from_payload", None)
    assert None not in [point.lane.extended(packet) for packet in packets]


def test_where_the_stream_has_no_room_to_go_on_python_deflates_all_of_it() -> None:
    packet = datagram(growing(document(6)))
    point = Point()
    point.knows("10.0.0.7")
    point.lane.take_down(glance_at(document(6)))
    whole = point.extended(packet)
    assert whole is not None
    smallest = payload_from_xml(xml_from_payload(decode_packet(whole).payload), 1000)
    assert smallest is not None
    room = len(decode_packet(whole).payload) - 1
    assert room >= len(smallest) + 10
    tight = Point(room=room)
    tight.knows("10.0.0.7")
    tight.lane.take_down(glance_at(document(6)))
    assert tight.extended(packet) is not None


def test_a_deflated_one_that_leaves_no_room_or_is_broken_is_left_to_the_pipeline() -> None:
    for form in (deflated, growing):
        payload = form(document(3))
        tight = Point(room=len(payload))
        tight.lane.take_down(glance_at(document(3)))
        assert tight.extended(datagram(payload)) is None
        point = Point().seen(datagram(payload))
        assert point.extended(datagram(payload)) is not None
        for broken in (payload[:-1], payload + b"x", payload[:1] + b"\x07" + payload[2:], COMPRESSED):
            assert point.lane.extended(datagram(broken)) is None


def test_what_leaves_no_room_is_deflated_and_what_leaves_none_even_then_is_left_to_the_pipeline() -> None:
    packet = datagram(document())

    def grown(room: int) -> bytes | None:
        point = Point(room=room)
        point.knows("10.0.0.4", age_ms=1500)  # an age of four digits, and so for a while
        point.lane.take_down(glance_at(decode_packet(packet).payload))
        extended = point.extended(packet)
        return None if extended is None else decode_packet(extended).payload

    usual = grown(ROOM)
    assert usual is not None
    assert [(grown(room) or b"")[:1] for room in (len(usual), len(usual) - 1)] == [b"<", COMPRESSED]
    assert grown(100) is None
