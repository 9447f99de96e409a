from __future__ import annotations

import pytest
from scapy.compat import raw
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from benchmarks.suite.wire import Traffic, traffic_of
from tests.interceptor.datagram import build_datagram

SENT = IP(src="192.0.2.1", dst="192.0.2.2")


@pytest.mark.parametrize(
    ("packet", "traffic"),
    [
        (SENT / TCP(sport=40000, dport=49862), Traffic.REQUEST),
        (SENT / TCP(sport=49862, dport=40000), Traffic.REQUEST),
        (SENT / UDP(sport=40000, dport=862), Traffic.PROBE),
        (SENT / UDP(sport=2112, dport=40000), Traffic.IRTT),
        (SENT / ICMP(), Traffic.ICMP),
        (SENT / UDP(sport=40000, dport=40001), Traffic.OTHER),
        (IPv6() / UDP(sport=40000, dport=862), Traffic.OTHER),
    ],
)
def test_packets_are_told_apart_by_protocol_and_ports(packet: Packet, traffic: Traffic) -> None:
    assert traffic_of(raw(packet)) is traffic


def test_a_request_is_known_behind_its_option() -> None:
    assert traffic_of(build_datagram()) is Traffic.REQUEST


def test_what_is_no_packet_is_other_traffic() -> None:
    assert traffic_of(b"") is Traffic.OTHER
