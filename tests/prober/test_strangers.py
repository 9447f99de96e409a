"""What strangers, and those who forge addresses, can have a point do."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time

import pytest
from scapy.compat import raw
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from prober.clock_state import ClockState
from prober.prober import Prober
from prober.segment import Role
from prober.stamp.datagram import Datagram
from prober.stamp.packet import ReflectorPacket, SenderPacket
from prober.stamp.reflected_session import Source
from prober.stamp.reflector import MAX_SESSIONS
from prober.stamp.reply_budget import NEIGHBOR_RATE_PER_S, SOURCE_RATE_PER_S
from prober.stamp.tlv import SenderFollowUp, sender_extension
from prober.timestamp import NS_PER_S, ErrorEstimate, ntp_from_unix_ns
from prober.udp import UdpProber
from schemas.errors import ProbeError
from schemas.metrics import headline
from tests.namespaces import Namespaces, in_namespace

CLOCK = ClockState(synchronized=True, error_ms=0.01)
ERROR = ErrorEstimate.from_int(0x8F84)
NOW_NS = 1_700_000_000 * NS_PER_S
OWN, NEIGHBOR, STRANGER = "10.0.0.2", "10.0.0.1", "203.0.113.9"
EXTENSION = sender_extension(SenderFollowUp())


def prober() -> Prober:
    return Prober(OWN, random_source=random.Random(1), clock=CLOCK)


def receive(point: Prober, sequence: int, source: Source, at_ns: int, extension: bytes = b"") -> int | None:
    """Give a probe to the point; the number of its reply."""
    data = SenderPacket(sequence, ntp_from_unix_ns(at_ns), ERROR, extension=extension).to_bytes()
    reply = point.probe_received(Datagram(data, source.address, source.port, 255, at_ns), at_ns)
    return None if reply is None else ReflectorPacket.from_bytes(reply.data).sequence


def test_a_segment_of_somebody_merely_heard_is_told_but_causes_no_further_packets() -> None:
    point = prober()
    at_ns = NOW_NS
    for number in range(12):
        at_ns = NOW_NS + number * NS_PER_S // 10
        receive(point, number, Source(STRANGER, 5000), at_ns)
    assert [segment.peer for segment in point.measured(at_ns)] == [STRANGER]
    assert point.measured(at_ns, asked_for=True) == ()
    point.want(STRANGER, at_ns)
    assert [segment.peer for segment in point.measured(at_ns, asked_for=True)] == [STRANGER]


def test_strangers_however_many_end_no_session_of_a_neighbor() -> None:
    point = prober()
    point.want(NEIGHBOR, NOW_NS, configured=True)
    numbers = []
    for turn in range(4):
        at_ns = NOW_NS + turn * NS_PER_S
        numbers.append(receive(point, turn, Source(NEIGHBOR, 5000), at_ns, EXTENSION))
        for port in range(1, 2 * MAX_SESSIONS):
            source = Source(f"198.51.100.{port % 50 + 1}", 1024 + port)
            receive(point, 0, source, at_ns + port * 400_000)
    assert numbers == [0, 1, 2, 3]


@pytest.mark.netns
def test_two_reflectors_do_not_answer_each_other(namespaces: Namespaces) -> None:
    left, middle, right = namespaces.chain("left", "middle", "right")

    async def run() -> None:
        points = []
        try:
            for side in (left, right):
                of_side = Prober(side.addresses[0], random_source=random.Random(1), clock=CLOCK)
                points.append(UdpProber(of_side, now_ns=time.time_ns, monotonic_ns=time.monotonic_ns))
                with in_namespace(side.name):
                    points[-1].open()
                await points[-1].start()
            with in_namespace(middle.name):
                forger = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            with forger:
                here, there = (point.prober.address for point in points)
                data = SenderPacket(0, ntp_from_unix_ns(time.time_ns()), ERROR).to_bytes()
                forged = IP(src=here, dst=there) / UDP(sport=862, dport=862) / Raw(data)
                forger.sendto(raw(forged), (there, 0))
                await asyncio.sleep(0.3)
            assert [point.counters() for point in points] == [{}, {"probe-from-reflector": 1}]
            assert [point.snapshots() for point in points] == [(), ()]
        finally:
            for point in points:
                await point.close()

    asyncio.run(run())


def test_a_neighbor_is_answered_more_than_a_stranger_and_yet_without_a_loop() -> None:
    point = prober()
    point.want(NEIGHBOR, NOW_NS, configured=True)
    answered = 0
    for number in range(3_000):
        with contextlib.suppress(ProbeError):
            answered += receive(point, number, Source(NEIGHBOR, 5000), NOW_NS + number * 100_000) is not None
    assert SOURCE_RATE_PER_S < answered <= 1.4 * NEIGHBOR_RATE_PER_S


def test_another_tool_at_a_neighbor_is_answered_and_ends_no_session_of_ours() -> None:
    point = prober()
    point.want(NEIGHBOR, NOW_NS)
    at_ns, probed = NOW_NS, 0
    for number in range(100):
        at_ns = NOW_NS + number * NS_PER_S // 10
        probed += len(point.due(at_ns))
        assert receive(point, number, Source(NEIGHBOR, 5000), at_ns) == number
    assert probed > 50
    assert [snapshot.role for snapshot in point.segments(at_ns)] == [Role.SENDER]
    receive(point, 0, Source(NEIGHBOR, 5001), at_ns, EXTENSION)
    assert [snapshot.role for snapshot in point.segments(at_ns)] == [Role.REFLECTOR]


@pytest.mark.parametrize(
    ("ttl", "hops"), [(255, 1), (250, 6), (129, 127), (128, None), (64, None), (57, None), (0, None)]
)
def test_hops_are_told_only_of_packets_that_began_at_255(ttl: int, hops: int | None) -> None:
    point = prober()
    for number in range(12):
        at_ns = NOW_NS + number * NS_PER_S // 10
        data = SenderPacket(number, ntp_from_unix_ns(at_ns), ERROR).to_bytes()
        point.probe_received(Datagram(data, STRANGER, 5000, ttl, at_ns), at_ns)
    segment = point.segment(STRANGER)
    assert segment is not None
    told = segment.statistics(["hops", "delay"], now_ns=NOW_NS + 2 * NS_PER_S, clock=CLOCK)
    assert "delay" in told
    assert (headline(told["hops"]) if "hops" in told else None) == hops
