"""Whatever is done to a packet, the lane does nothing that the pipeline would not."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from interceptor.packet import decode_packet, with_payload
from schemas.errors import PacketError
from schemas.glance import glance_at
from schemas.keyring import NO_KEYS, Keyring
from tests.mp.fast_lane.judged_point import (
    ONE_KEY,
    Point,
    datagram,
    deflated,
    document,
    growing,
)

USUAL_PACKET = datagram(document())
PIECES = (
    *(b"0", b"1", b"01", b"-", b".", b"9" * 15, b"9" * 16, b" ", b'"', b"<", b">", b"/>", b"<m>", b"</m>", b"a"),
    *(
        b"<mrp>",
        b"</mrp>",
        b"<ag>7</ag>",
        b"<fr>10.0.0.1</fr>",
        b"<cp>0</cp>",
        b"<cp>01</cp>",
        b"256",
        b"10.0.0.1",
    ),
    *(
        b'<a k="b" t="AAAAAAAAAAAAAAAAAAAAAA"/>',
        b'<a k="b" t="AAAAAAAAAAAAAAAAAAAAAB"/>',
        b'<a k="',
        b"\0",
        b"\xff",
    ),
    *(b'<a k=".b" t="AAAAAAAAAAAAAAAAAAAAAA"/>', b'<a k="b2345678901234567" t="AAAAAAAAAAAAAAAAAAAAAA"/>'),
)


@pytest.mark.parametrize("keyring", [NO_KEYS, ONE_KEY], ids=["unsigned", "signed"])
@pytest.mark.parametrize("form", [bytes, deflated, growing], ids=["plain", "deflated", "growing"])
def test_whatever_is_done_to_a_message_the_lane_does_nothing_that_the_pipeline_would_not(
    keyring: Keyring, form: Callable[[bytes], bytes]
) -> None:
    rng = random.Random(21)
    usual = document(keyring=keyring)
    point = Point(keyring).seen(datagram(usual))
    extended = 0
    for _ in range(4000):
        changed = usual
        for _ in range(rng.choice((1, 1, 2))):
            at = rng.randrange(len(changed))
            changed = changed[:at] + rng.choice(PIECES) + changed[at + rng.choice((0, 1, 1, 2, 20)) :]
        if changed != usual:
            packet = with_payload(decode_packet(USUAL_PACKET), form(changed))
            extended += point.extended(packet) is not None
    assert extended > 30 if keyring is NO_KEYS else extended == 0


def test_whatever_is_done_to_a_deflated_payload_the_lane_does_nothing_that_the_pipeline_would_not() -> None:
    rng = random.Random(23)
    usual = growing(document(5))
    point = Point(room=1000)
    point.knows("10.0.0.6")
    point.lane.take_down(glance_at(document(5)))
    assert point.extended(datagram(usual)) is not None
    extended = 0
    for _ in range(6000):
        at = rng.randrange(1, len(usual))
        changed = usual[:at] + bytes((rng.randrange(256),)) + usual[at + rng.choice((0, 1, 1, 1, 2)) :]
        extended += point.extended(datagram(changed)) is not None
    assert extended > 5


def test_whatever_is_done_to_a_packet_the_lane_does_nothing_that_the_pipeline_would_not() -> None:
    rng = random.Random(22)
    point = Point().seen(USUAL_PACKET)
    extended = 0
    for _ in range(4000):
        at = rng.randrange(40)
        changed = USUAL_PACKET[:at] + bytes((rng.randrange(256),)) + USUAL_PACKET[at + 1 :]
        changed = changed[: rng.choice((len(changed), len(changed), len(changed), rng.randrange(len(changed))))]
        try:
            extended += point.extended(changed) is not None
        except PacketError:
            pytest.fail(f"the lane extended what is no packet of ours: {changed!r}")
    assert extended > 100
    for length in range(len(USUAL_PACKET)):
        assert point.lane.extended(USUAL_PACKET[:length]) is None
