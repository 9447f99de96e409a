from __future__ import annotations

import asyncio
import errno
import os
import random
import select
import socket
import time
from collections.abc import Iterator

import pytest
from scapy.compat import raw
from scapy.layers.inet import ICMP, IP, UDP, fragment

from interceptor.firewall import InterceptionRule, IptablesRules
from interceptor.packet import maximum_payload
from prober.clock_state import ClockState
from prober.prober import Prober
from prober.udp import UdpProber
from schemas.metrics import DelayStatistics, LossStatistics
from tests.interceptor.datagram import ROUTER_ALERT, build_datagram
from tests.interceptor.network import Network, grow, process
from tests.namespaces import Namespace, Namespaces, in_namespace

pytestmark = pytest.mark.netns

RULE = InterceptionRule(queue_number=7)
CLOCK = ClockState(synchronized=True, error_ms=0.01)
ETHERNET_IPV4 = 0x0800
QUIET_S = 0.2
RSVP = 46


@pytest.fixture
def network(namespaces: Namespaces) -> Iterator[Network]:
    with Network(namespaces) as network:
        yield network


class Wire:
    """Whole IPv4 packets as they come to one host, before its own stack puts fragments together."""

    def __init__(self, namespace: Namespace) -> None:
        with in_namespace(namespace.name):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETHERNET_IPV4))
        self._socket.bind((namespace.interfaces[0], ETHERNET_IPV4))

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *failure: object) -> None:
        self._socket.close()

    def packets(self, destination: str) -> list[IP]:
        """All that came for the address until it is quiet."""
        came = []
        while select.select([self._socket], [], [], QUIET_S)[0]:
            data, (_, _, kind, *_) = self._socket.recvfrom(65_535)
            if kind != socket.PACKET_OUTGOING and (packet := IP(data)).dst == destination:
                came.append(packet)
        return came


def routed(data: bytes) -> bytes:
    """The packet as a router passes it on that changes nothing else."""
    packet = IP(data)
    packet.ttl -= 1
    del packet.chksum
    return bytes(raw(packet))


def datagram(network: Network, payload: bytes = b"<mr/>", **options: object) -> bytes:
    addresses = {"source": network.source, "destination": network.destination}
    return build_datagram(payload, **addresses, **options)  # type: ignore[arg-type]


# The kernel's own match knows value 0 alone, so this is the value to send, and any other is somebody else's.
@pytest.mark.parametrize("value", [1, 32, 65_503, 65_535])
def test_a_router_alert_of_another_value_than_0_goes_on_octet_by_octet(network: Network, value: int) -> None:
    other = datagram(network, b"other", options=b"\x94\x04" + value.to_bytes(2, "big"))
    with Wire(network.b) as wire, network.intercepted(grow, IptablesRules(), RULE) as queue:
        network.send_raw(other, datagram(network))
        process(queue, handled=1)
        came = {bytes(raw(packet)) for packet in wire.packets(network.destination)}
    assert len(came) == 2
    assert routed(other) in came


# A socket with IP_ROUTER_ALERT takes such packets away, of anybody, before their TTL is looked at.
def test_nobodys_router_alert_packet_is_stolen_and_every_ttl_sinks(network: Network) -> None:
    theirs = [
        datagram(network, b"GIST", destination_port=270),
        datagram(network, b"RSVP" * 4, protocol=RSVP),
    ]
    with Wire(network.b) as wire, network.intercepted(grow, IptablesRules(), RULE) as queue:
        network.send_raw(*theirs, datagram(network))
        process(queue, handled=1)
        *passed, ours = wire.packets(network.destination)
        assert [bytes(raw(packet)) for packet in passed] == [routed(data) for data in theirs]
        assert ours.ttl == 63


def test_a_measurement_packet_whose_ttl_ends_gets_its_time_exceeded(network: Network) -> None:
    with Wire(network.a) as source, Wire(network.b) as wire:
        with network.intercepted(grow, IptablesRules(), RULE) as queue:
            network.send_raw(datagram(network, ttl=1))
            process(queue, handled=1)
        assert wire.packets(network.destination) == []
        (answer,) = source.packets(network.source)
    assert (answer[ICMP].type, answer[ICMP].code) == (11, 0)
    # The option is quoted too, so whoever reads the quotation must look at its header length.
    assert bytes(answer[ICMP].payload)[20:24] == ROUTER_ALERT


# The option is copied into every fragment, but only the first one has ports.
def test_fragments_that_bear_router_alert_go_on_octet_by_octet(network: Network) -> None:
    whole = IP(datagram(network, os.urandom(3000), flags=""))
    parts = [bytes(raw(part)) for part in fragment(whole, 1400)]  # type: ignore[no-untyped-call]
    assert len(parts) == 3
    assert all(part[20:24] == ROUTER_ALERT for part in parts)
    with Wire(network.b) as wire, network.intercepted(grow, IptablesRules(), RULE) as queue:
        network.send_raw(*parts)
        came = [bytes(raw(packet)) for packet in wire.packets(network.destination)]
        assert queue.counters().queued == 0
    assert came == [routed(part) for part in parts]


def test_a_packet_that_grows_keeps_its_df_flag(network: Network) -> None:
    with Wire(network.b) as wire, network.intercepted(grow, IptablesRules(), RULE) as queue:
        network.send(b"<mr/>")
        process(queue, handled=1)
        (came,) = wire.packets(network.destination)
    assert came.flags == "DF"
    assert bytes(came[UDP].payload) == b"<mr/><mrp/>"


# The option takes 4 octets of every packet.
def test_the_room_of_a_datagram_is_what_the_kernel_takes_with_the_option_and_4_octets_less_than_without(
    network: Network,
) -> None:
    room = maximum_payload(1500)
    assert room == 1468
    network.send(bytes(room))
    network.send(bytes(room + 4), options=b"")
    for size, options in ((room + 1, ROUTER_ALERT), (room + 5, b"")):
        with pytest.raises(OSError, match="Message too long") as refusal:
            network.send(bytes(size), options=options)
        assert refusal.value.errno == errno.EMSGSIZE
    assert [len(packet) for packet in network.received(2)] == [1500, 1500]


# A datagram with the option is not standard-formed, and routers treat it as they like.
def test_probes_bear_no_option_and_do_not_feel_what_becomes_of_packets_that_do(network: Network) -> None:
    network.r.run("iptables", "-A", "FORWARD", "-m", "u32", "--u32", "0>>24&0x0F=0x6:0xF", "-j", "DROP")

    async def measure() -> list[IP]:
        points = []
        for side in (network.a, network.b):
            prober = Prober(side.addresses[0], random_source=random.Random(1), clock=CLOCK, rate_per_s=50)
            points.append(UdpProber(prober, now_ns=time.time_ns, monotonic_ns=time.monotonic_ns))
            with in_namespace(side.name):
                points[-1].open()
        with Wire(network.b) as wire:
            try:
                for point in points:
                    await point.start()
                points[0].want(points[1].prober.address)
                for _ in range(20):
                    network.send(b"<mr/>")
                    await asyncio.sleep(0.1)
                (snapshot,) = points[0].snapshots()
            finally:
                for point in points:
                    await point.close()
            loss, delay = snapshot.outbound["loss"], snapshot.outbound["delay"]
            assert isinstance(loss, LossStatistics) and isinstance(delay, DelayStatistics)
            assert loss.lost == 0 and loss.sent > 20
            assert 0 < delay.mean_ms < 5
            return wire.packets(network.destination)

    came = asyncio.run(measure())
    assert len(came) > 50
    assert {(packet.ihl, packet[UDP].dport) for packet in came} == {(5, 862)}
