from __future__ import annotations

import os
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from scapy.layers.inet import IP, UDP

from interceptor import nfqueue
from interceptor.firewall import InterceptionRule, IptablesRules
from interceptor.nfqueue import KernelQueue, fail_open_request, length_request
from interceptor.packet import decode_packet, with_payload
from interceptor.packet_queue import LONGEST_PACKET_BYTES, InterceptedPacket
from schemas.errors import HostError, UsageError
from tests.interceptor.datagram import ROUTER_ALERT, build_datagram, recomputed
from tests.interceptor.network import Network, grow, process
from tests.namespaces import in_namespace

RULE = InterceptionRule(queue_number=7, burst=1000)
IPTABLES = IptablesRules()
SO_TIMESTAMP = 29


def payloads(packets: list[bytes]) -> list[bytes]:
    return [bytes(IP(packet)[UDP].payload) for packet in packets]


def set_mtu(network: Network, mtu_bytes: int) -> None:
    """Of all interfaces of the row."""
    for namespace in (network.a, network.r, network.b):
        for interface in namespace.interfaces:
            namespace.run("ip", "link", "set", interface, "mtu", str(mtu_bytes))


@contextmanager
def stamps() -> Iterator[None]:
    """The kernel stamps all packets of the machine, since one socket asks for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stamped:
        stamped.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMP, 1)
        time.sleep(0.1)  # the kernel needs up to 50 ms to begin
        yield


def test_the_fail_open_message_has_the_layout_of_the_kernel_header() -> None:
    message = fail_open_request(0x1234)
    assert message[:8] == struct.pack("=IHH", len(message), 0x0302, 1)
    assert message[16:20] == b"\0\0\x12\x34"
    assert message[20:] == struct.pack("=HH", 8, 4) + b"\0\0\0\1" + struct.pack("=HH", 8, 5) + b"\0\0\0\1"


def test_the_length_message_has_the_layout_of_the_kernel_header() -> None:
    message = length_request(0x1234, 0x56789A)
    assert message[:8] == struct.pack("=IHH", len(message), 0x0302, 1)
    assert message[16:] == b"\0\0\x12\x34" + struct.pack("=HH", 8, 3) + b"\0\x56\x78\x9a"


@pytest.mark.parametrize("number", [-1, 65536])
def test_a_number_that_no_queue_has_is_refused(number: int) -> None:
    with pytest.raises(UsageError, match="queue_number"):
        KernelQueue(number, grow)


@pytest.mark.netns
def test_a_grown_packet_arrives_with_everything_else_as_it_was(network: Network) -> None:
    with network.intercepted(grow, IPTABLES, RULE) as queue:
        network.send(b"<mr/>")
        process(queue, handled=1)
        (arrived,) = network.received(1)
    packet = decode_packet(arrived)
    assert packet.payload == b"<mr/><mrp/>"
    assert (packet.source, packet.destination) == (network.source, network.destination)
    assert (packet.header_length, packet.header[20:]) == (24, ROUTER_ALERT)
    assert packet.ttl == 63
    assert packet.dont_fragment
    assert arrived == recomputed(arrived)


@pytest.mark.netns
def test_many_packets_keep_their_order(network: Network) -> None:
    with network.intercepted(grow, IPTABLES, RULE) as queue:
        for number in range(100):
            network.send(b"%d" % number)
        process(queue, handled=100)
        assert payloads(network.received(100)) == [b"%d<mrp/>" % number for number in range(100)]
        counters = queue.counters()
    assert (counters.queued, counters.waiting, counters.failed) == (100, 0, 0)


@pytest.mark.netns
def test_a_dropped_packet_goes_no_further(network: Network) -> None:
    with network.intercepted(lambda packet: packet.drop(), IPTABLES, RULE) as queue:
        network.send(b"<mr/>")
        process(queue, handled=1)
        assert network.received(0) == []


@pytest.mark.netns
def test_a_handler_that_fails_hurts_no_packet(network: Network) -> None:
    def fail_first(packet: InterceptedPacket) -> None:
        if b"first" in packet.payload:
            raise LookupError("no such segment")
        if b"second" in packet.payload:
            return
        grow(packet)
        packet.drop()

    with network.intercepted(fail_first, IPTABLES, RULE) as queue:
        for payload in (b"first", b"second", b"third"):
            network.send(payload)
        process(queue, handled=3)
        assert payloads(network.received(3)) == [b"first", b"second", b"third<mrp/>"]
        assert queue.counters().failed == 3


@pytest.mark.netns
def test_an_interrupt_passes_and_its_packet_goes_on(network: Network) -> None:
    def interrupted(packet: InterceptedPacket) -> None:
        raise KeyboardInterrupt

    with network.intercepted(interrupted, IPTABLES, RULE) as queue:
        network.send(b"<mr/>")
        with pytest.raises(KeyboardInterrupt):
            process(queue, handled=1)
        assert payloads(network.received(1)) == [b"<mr/>"]


@pytest.mark.netns
@pytest.mark.parametrize("excess", [0, 1, 1000])
def test_a_packet_longer_than_the_library_reads_goes_on_whole(network: Network, excess: int) -> None:
    set_mtu(network, 9000)
    # All that the kernel may tell beside the packet takes room in the library's buffer, too.
    network.r.run("iptables", "-t", "raw", "-A", "PREROUTING", "-j", "MARK", "--set-mark", "5")
    payload = bytes(LONGEST_PACKET_BYTES - 32 + excess)
    with stamps(), network.intercepted(grow, IPTABLES, RULE) as queue:
        network.send(payload)
        process(queue, handled=1)
        assert payloads(network.received(1)) == [payload if excess else payload + b"<mrp/>"]
        assert queue.counters().failed == (1 if excess else 0)
    set_mtu(network, 1500)


@pytest.mark.netns
def test_what_exceeds_a_full_queue_passes_unprocessed(network: Network) -> None:
    with network.intercepted(grow, IPTABLES, RULE, length=4) as queue:
        for number in range(10):
            network.send(b"%d" % number)
        assert payloads(network.received(6)) == [b"4", b"5", b"6", b"7", b"8", b"9"]
        counters = queue.counters()
        assert (counters.waiting, counters.queued, counters.queue_dropped) == (4, 4, 0)
        process(queue, handled=4)
        assert payloads(network.received(4)) == [b"0<mrp/>", b"1<mrp/>", b"2<mrp/>", b"3<mrp/>"]


@pytest.mark.netns
def test_without_fail_open_the_same_excess_is_dropped_and_counted(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nfqueue, "_fail_open", lambda netlink, number: None)
    with network.intercepted(grow, IPTABLES, RULE, length=4) as queue:
        for number in range(10):
            network.send(b"%d" % number)
        process(queue, handled=4)
        assert len(network.received(4)) == 4
        assert queue.counters().queue_dropped == 6


@pytest.mark.netns
@pytest.mark.parametrize("fails_open", [True, False])
def test_packets_beyond_a_full_socket_buffer_pass_or_are_counted_as_dropped(
    network: Network, monkeypatch: pytest.MonkeyPatch, fails_open: bool
) -> None:
    if not fails_open:
        monkeypatch.setattr(nfqueue, "_fail_open", lambda netlink, number: None)
    with network.intercepted(grow, IPTABLES, RULE, socket_buffer_bytes=4096) as queue:
        for number in range(20):
            network.send(b"%d" % number)
        held = queue.counters().waiting
        process(queue, handled=held)
        dropped = queue.counters().user_dropped
        assert 0 < held < 20
        assert dropped == (0 if fails_open else 20 - held)
        assert len(network.received(20 - dropped)) == 20 - dropped


@pytest.mark.netns
def test_the_socket_buffer_is_as_large_as_asked_for(network: Network) -> None:
    with (
        in_namespace(network.r.name),
        KernelQueue(RULE.queue_number, grow) as queue,
        socket.socket(fileno=os.dup(queue.fileno())) as netlink,
    ):
        assert netlink.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * 16 * 1024 * 1024


@pytest.mark.netns
def test_a_packet_that_the_kernel_gave_up_while_it_waited_stops_nothing(network: Network) -> None:
    with network.intercepted(grow, IPTABLES, RULE) as queue:
        network.send(b"lost")
        interface = network.r.interfaces[0]
        network.r.run("sh", "-c", f"ip link set {interface} down && ip link set {interface} up")
        network.r.run("ip", "route", "replace", network.destination, "dev", network.r.interfaces[1])
        process(queue, handled=1)
        network.send(b"next")
        process(queue, handled=2)
        assert payloads(network.received(1)) == [b"next<mrp/>"]


@pytest.mark.netns
def test_packets_that_wait_at_the_end_are_decided_before_the_queue_is_given_back(network: Network) -> None:
    with network.intercepted(grow, IPTABLES, RULE):
        network.send(b"waiting")
    assert payloads(network.received(1)) == [b"waiting<mrp/>"]


@pytest.mark.netns
def test_the_kernels_time_of_arrival_is_given_once_a_socket_asks_for_stamps(network: Network) -> None:
    arrivals = []

    def note(packet: InterceptedPacket) -> None:
        arrivals.append(packet.arrived_at_ns)
        packet.accept()

    with stamps(), network.intercepted(note, IPTABLES, RULE) as queue:
        before_ns = time.time_ns()
        network.send(b"<mr/>")
        after_ns = time.time_ns()
        process(queue, handled=1)
        assert len(network.received(1)) == 1
    assert arrivals[0] is not None
    assert before_ns - 1_000 <= arrivals[0] <= after_ns + 1_000


@pytest.mark.netns
def test_a_queue_in_use_is_refused_in_one_clear_line(network: Network) -> None:
    with (
        in_namespace(network.r.name),
        KernelQueue(7, grow),
        pytest.raises(HostError, match=r"^packet queue 7 is in use; stop its owner .* another number$"),
    ):
        KernelQueue(7, grow)


@pytest.mark.netns
def test_a_queue_can_be_bound_again_after_its_end(network: Network) -> None:
    with in_namespace(network.r.name):
        for _ in range(2):
            with KernelQueue(7, grow) as queue:
                assert queue.counters().waiting == 0
            queue.close()
        with pytest.raises(ValueError, match="packet queue 7 is closed"):
            queue.fileno()


@pytest.mark.netns
def test_no_descriptor_is_left_behind(network: Network) -> None:
    with in_namespace(network.r.name), KernelQueue(7, grow):
        before = set(os.listdir("/proc/self/fd"))
        with KernelQueue(8, grow), pytest.raises(HostError):
            KernelQueue(7, grow)
        assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.netns
def test_a_process_without_the_capability_is_told_which_one_it_needs(network: Network) -> None:
    bind = (
        "from interceptor.nfqueue import KernelQueue\n"
        "from schemas.errors import HostError\n"
        "try: KernelQueue(7, lambda packet: None)\n"
        "except HostError as error: print(error)\n"
    )
    without = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
    said = network.r.run(*without, sys.executable, "-c", bind)
    assert said.startswith("packet queue 7: the kernel refuses")
    assert "run with CAP_NET_ADMIN" in said
    assert said.count("\n") == 1


@pytest.mark.netns
def test_datagrams_without_a_checksum_get_one(network: Network) -> None:
    packet = build_datagram(b"<mr/>", source=network.source, destination=network.destination)
    with network.intercepted(grow, IPTABLES, RULE) as queue:
        network.send_raw(packet[:30] + b"\0\0" + packet[32:])
        process(queue, handled=1)
        (arrived,) = network.received(1)
    assert payloads([arrived]) == [b"<mr/><mrp/>"]
    assert arrived == recomputed(arrived)


@pytest.mark.netns
def test_what_the_shortcut_replaces_the_handler_never_sees(network: Network) -> None:
    def shortcut(packet: bytes) -> bytes | None:
        decoded = decode_packet(packet)
        if decoded.payload == b"bad":
            raise LookupError("no such segment")
        return with_payload(decoded, b"replaced") if decoded.payload == b"usual" else None

    with network.intercepted(grow, IPTABLES, RULE, shortcut=shortcut) as queue:
        for payload in (b"usual", b"other", b"bad"):
            network.send(payload)
        process(queue, handled=3)
        assert payloads(network.received(3)) == [b"replaced", b"other<mrp/>", b"bad<mrp/>"]
        assert queue.counters().failed == 1


@pytest.mark.netns
def test_all_that_waits_can_be_let_go_on_at_once_in_order_and_what_comes_later_is_shown_again(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nfqueue, "VERDICTS_AT_ONCE", 4)
    passed = []

    def pass_all_after_the_second(packet: InterceptedPacket) -> None:
        grow(packet)
        if decode_packet(packet.payload).payload == b"1":
            passed.append(queue.pass_waiting())

    with network.intercepted(pass_all_after_the_second, IPTABLES, RULE) as queue:
        for number in range(12):
            network.send(b"%d" % number)
        process(queue, handled=2)
        assert passed == [10]
        unseen = [b"%d" % number for number in range(2, 12)]
        assert payloads(network.received(12)) == [b"0<mrp/>", b"1<mrp/>", *unseen]
        network.send(b"later")
        process(queue, handled=3)
        assert payloads(network.received(1)) == [b"later<mrp/>"]
        assert queue.pass_waiting() == 0
        counters = queue.counters()
    assert (counters.queued, counters.waiting, counters.failed) == (13, 0, 0)


@pytest.mark.netns
def test_a_queue_that_pauses_lets_all_pass_at_once_and_afterwards_takes_packets_again(network: Network) -> None:
    with network.intercepted(grow, IPTABLES, RULE) as queue:
        network.send(b"before")
        process(queue, handled=1)
        network.send(b"waits")
        queue.pause()
        for payload in (b"1", b"2", b"3"):
            network.send(payload)
        assert payloads(network.received(4)) == [b"before<mrp/>", b"1", b"2", b"3"]
        assert queue.counters().waiting == 1
        queue.resume()
        network.send(b"after")
        process(queue, handled=3)
        assert payloads(network.received(2)) == [b"waits<mrp/>", b"after<mrp/>"]
        counters = queue.counters()
    assert (counters.queued, counters.waiting, counters.queue_dropped, counters.failed) == (3, 0, 0, 0)
