from __future__ import annotations

import json
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap

from lab.impairment import Impairment
from lab.user_link import Endpoint, UserLinks
from lab.user_link_ring import LEAST_SLOT_BYTES, slot_bytes
from schemas.errors import LabError, UsageError
from tests.namespaces import Namespace, Namespaces, in_namespace

MAC_A, MAC_B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
PORT = 5000
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
PERFECT = Impairment()

pytestmark = pytest.mark.netns


class LinkedPair:
    """Namespaces A (10.1.N.1) and B (10.1.N.2) joined by a link of the process."""

    def __init__(self, links: UserLinks, a: Namespace, b: Namespace, number: int = 0) -> None:
        self.a, self.b, self.number = a, b, number
        self.interface = f"u{number}"
        ends = (Endpoint(a.name, self.interface, MAC_A), Endpoint(b.name, self.interface, MAC_B))
        links.add(f"link{number}", *ends, PERFECT, PERFECT)
        for namespace, host, neighbor, mac in ((a, 1, 2, MAC_B), (b, 2, 1, MAC_A)):
            device = f"dev {self.interface}"
            commands = (
                f"address add 10.1.{number}.{host}/24 {device}\n"
                f"link set {self.interface} up\n"
                f"neighbor add 10.1.{number}.{neighbor} lladdr {mac} {device}\n"
            )
            namespace.run("ip", "-batch", "-", stdin=commands)

    def carrier(self, namespace: Namespace) -> bool:
        (shown,) = json.loads(namespace.run("ip", "-json", "link", "show", self.interface))
        return "LOWER_UP" in shown["flags"]

    def mtus(self) -> tuple[int, ...]:
        """Of the interfaces in A and B."""
        shown = (json.loads(end.run("ip", "-json", "link", "show", self.interface)) for end in (self.a, self.b))
        return tuple(interface["mtu"] for (interface,) in shown)

    def send(self, count: int, *, payload_bytes: int = 64, burst: int = 20) -> list[tuple[int, int]]:
        """Number and one-way delay in ns of each datagram from A that reached B, in order of arrival."""
        with in_namespace(self.b.name):
            receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with in_namespace(self.a.name):
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with receiver, sender:
            receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
            receiver.bind((f"10.1.{self.number}.2", PORT))
            receiver.settimeout(0.3)
            sent_at_ns = []
            for number in range(count):
                sent_at_ns.append(time.time_ns())
                message = struct.pack("!I", number).ljust(payload_bytes, b"x")
                sender.sendto(message, (f"10.1.{self.number}.2", PORT))
                if number % burst == burst - 1:
                    time.sleep(0.002)
            return [(number, at_ns - sent_at_ns[number]) for number, at_ns in received(receiver)]


def received(receiver: socket.socket) -> Iterator[tuple[int, int]]:
    while True:
        try:
            data, ancillary, _, _ = receiver.recvmsg(16_384, 64)
        except TimeoutError:
            return
        seconds, nanoseconds = struct.unpack("@qq", ancillary[0][2])
        yield struct.unpack_from("!I", data)[0], seconds * 1_000_000_000 + nanoseconds


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "lab.user_link", "--control", str(tmp_path / "control")]
    running = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        yield running
    finally:
        running.terminate()
        running.communicate(timeout=20)


@pytest.fixture
def links(process: subprocess.Popen[bytes], tmp_path: Path) -> Iterator[UserLinks]:
    client = UserLinks(tmp_path / "control")
    yield client
    client.close()


@pytest.fixture
def pair(namespaces: Namespaces, links: UserLinks) -> LinkedPair:
    return LinkedPair(links, namespaces.make("a"), namespaces.make("b"))


def eventually(is_true: Callable[[], bool]) -> bool:
    give_up_at_s = time.monotonic() + 5
    while not is_true():
        if time.monotonic() > give_up_at_s:
            return False
        time.sleep(0.02)
    return True


def median_ms(arrivals: list[tuple[int, int]]) -> float:
    return statistics.median(delay_ns for _, delay_ns in arrivals) / 1e6


def test_a_perfect_link_passes_every_datagram_at_once_and_in_order(pair: LinkedPair) -> None:
    arrivals = pair.send(200)
    assert [number for number, _ in arrivals] == list(range(200))
    assert median_ms(arrivals) < 2


def test_a_link_whose_process_did_not_run_during_a_flood_carries_again_what_comes_later(
    pair: LinkedPair, process: subprocess.Popen[bytes]
) -> None:
    with in_namespace(pair.a.name):
        flood = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with flood:
        for _ in range(2):
            process.send_signal(signal.SIGSTOP)
            for _ in range(3_000):
                flood.sendto(b"x", (f"10.1.{pair.number}.2", 9))
            process.send_signal(signal.SIGCONT)
            time.sleep(0.2)
    assert len(pair.send(50)) == 50


def test_datagrams_arrive_after_the_delay_that_is_set_while_the_link_runs(
    pair: LinkedPair, links: UserLinks
) -> None:
    for delay_ms in (20, 40):
        links.set("link0", Impairment(delay_ms=delay_ms), PERFECT)
        arrivals = pair.send(50, burst=1)
        assert len(arrivals) == 50
        assert min(delay_ns for _, delay_ns in arrivals) > (delay_ms - 0.1) * 1e6
        assert median_ms(arrivals) == pytest.approx(delay_ms, abs=2)


def test_jitter_lets_datagrams_overtake_each_other_within_its_bounds(pair: LinkedPair, links: UserLinks) -> None:
    links.set("link0", Impairment(delay_ms=10, jitter_ms=5), PERFECT)
    arrivals = pair.send(200)
    numbers = [number for number, _ in arrivals]
    assert sorted(numbers) == list(range(200))
    assert numbers != sorted(numbers)
    assert min(delay_ns for _, delay_ns in arrivals) > 4.9e6
    assert median_ms(arrivals) == pytest.approx(10, abs=2)


def test_the_share_of_lost_datagrams_is_the_one_asked_for_and_is_counted(
    pair: LinkedPair, links: UserLinks
) -> None:
    links.set("link0", Impairment(loss_ratio=0.1), PERFECT)
    before = links.counters()["link0"]["a_to_b"]
    arrived = len(pair.send(2_000))
    after = links.counters()["link0"]["a_to_b"]
    # Four standard deviations of 2000 trials at 0.1.
    assert abs(2_000 - arrived - 200) < 4 * (2_000 * 0.1 * 0.9) ** 0.5
    assert after["queue_drops"] == 0
    # The kernel's own router solicitations may be among the frames.
    assert after["packets"] - before["packets"] - 2_000 in range(10)
    assert after["lost"] - before["lost"] - (2_000 - arrived) in range(10)
    assert after["bytes"] - before["bytes"] >= 2_000 * (64 + 42)


def test_a_limited_rate_spaces_a_burst_and_its_queue_has_an_end(pair: LinkedPair, links: UserLinks) -> None:
    links.set("link0", Impairment(rate_mbit=2), PERFECT)
    arrivals = pair.send(60, payload_bytes=1000, burst=100)
    # 50 ms at 2 Mbit/s are 11 of these frames, but 20 full ones are always held: 29 of 1042 octets.
    assert 28 <= len(arrivals) <= 30
    frame_ms = 1042 * 8 / 2e3
    assert (arrivals[27][1] - arrivals[0][1]) / 27e6 == pytest.approx(frame_ms, rel=0.1)
    assert 28 <= links.counters()["link0"]["a_to_b"]["queue_drops"] <= 32


def test_a_link_that_is_down_in_one_direction_has_no_carrier_at_both_ends_until_it_is_up(
    pair: LinkedPair, links: UserLinks
) -> None:
    assert eventually(lambda: pair.carrier(pair.a) and pair.carrier(pair.b))
    links.set("link0", PERFECT, Impairment(up=False))
    assert eventually(lambda: not pair.carrier(pair.a) and not pair.carrier(pair.b))
    links.set("link0", PERFECT, PERFECT)
    assert eventually(lambda: pair.carrier(pair.a) and pair.carrier(pair.b))
    assert len(pair.send(20)) == 20


def test_an_interface_that_was_down_for_a_while_carries_again(pair: LinkedPair, links: UserLinks) -> None:
    pair.b.run("ip", "link", "set", "u0", "down")
    pair.send(20)
    assert links.counters()["link0"]["a_to_b"]["lost"] >= 20
    commands = f"link set u0 up\nneighbor replace 10.1.0.1 lladdr {MAC_A} dev u0\n"
    pair.b.run("ip", "-batch", "-", stdin=commands)
    assert len(pair.send(20)) == 20


def test_a_frame_longer_than_a_slot_is_dropped_and_counted(pair: LinkedPair, links: UserLinks) -> None:
    pair.a.run("ip", "link", "set", "u0", "mtu", "4000")
    arrivals = pair.send(10, payload_bytes=LEAST_SLOT_BYTES)
    assert arrivals == []
    assert links.counters()["link0"]["a_to_b"]["queue_drops"] == 10


def test_a_link_carries_whole_packets_of_the_mtu_that_is_set_while_it_runs(
    pair: LinkedPair, links: UserLinks
) -> None:
    headers = 28  # of IPv4 and UDP
    for mtu in (9000, 1400, 4001):
        links.set_mtu("link0", mtu)
        assert pair.mtus() == (mtu, mtu)
        before = links.counters()["link0"]["a_to_b"]
        assert len(pair.send(40, payload_bytes=mtu - headers)) == 40
        after = links.counters()["link0"]["a_to_b"]
        # In one piece each: fragments would have 34 octets of headers more. The kernel's own IPv6 comes on top.
        assert after["bytes"] - before["bytes"] - 40 * (mtu + 14) in range(40 * 34)
        assert after["queue_drops"] == before["queue_drops"]


def test_a_longer_packet_than_the_mtu_is_refused_where_it_is_sent(pair: LinkedPair, links: UserLinks) -> None:
    links.set_mtu("link0", 1300)
    ping = ("ping", "-c", "1", "-W", "2", "-M", "do", "10.1.0.2", "-s")
    assert "1 received" in pair.a.run(*ping, "1272")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        pair.a.run(*ping, "1273")
    assert "mtu=1300" in refused.value.stderr + refused.value.output


@pytest.mark.parametrize("octets", [0, -1, 575, 9001, 10**30])
def test_an_mtu_beyond_the_bounds_is_refused_and_changes_nothing(
    pair: LinkedPair, links: UserLinks, octets: int
) -> None:
    with pytest.raises(LabError, match="mtu_octets: got .* expected a whole number from 576 to 9000"):
        links.set_mtu("link0", octets)
    assert pair.mtus() == (1500, 1500)


@pytest.mark.parametrize(("mtu", "size"), [(576, 2048), (1968, 2048), (1969, 4096), (9000, 16_384)])
def test_a_slot_is_the_least_power_of_two_that_holds_a_frame(mtu: int, size: int) -> None:
    assert slot_bytes(mtu) == size


def test_more_frames_than_the_kernel_queues_hold_pass_in_turn(pair: LinkedPair, links: UserLinks) -> None:
    assert len(pair.send(5_000, burst=10)) == 5_000
    assert links.counters()["link0"]["a_to_b"]["queue_drops"] == 0


def test_checksums_are_right_on_the_wire_at_every_hop(
    namespaces: Namespaces, links: UserLinks, tmp_path: Path
) -> None:
    a, b, c = (namespaces.make(label) for label in "abc")
    LinkedPair(links, a, b, 0), LinkedPair(links, b, c, 1)
    a.run("ip", "route", "add", "10.1.1.0/24", "via", "10.1.0.2")
    c.run("ip", "route", "add", "10.1.0.0/24", "via", "10.1.1.1")
    frames = exchange_while_watching(a, c, "10.1.1.2", watched=(a, b, c))
    capture = tmp_path / "frames.pcap"
    wrpcap(str(capture), [Ether(frame) for frame in frames])
    fields = [f"{protocol}.checksum.status" for protocol in ("ip", "udp", "tcp")]
    options = ["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE"]
    selection = [part for field in fields for part in ("-e", field)]
    command = ["tshark", "-r", str(capture), "-Y", "ip", *options, "-T", "fields", "-E", "separator=,", *selection]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    # One UDP datagram and more than 14 segments of TCP, each seen four times: leaving A, at B in and out, at C.
    assert shown.count("1,1,") == 4
    assert shown.count("1,,1") > 4 * 14
    assert set(shown) == {"1,1,", "1,,1"}


def exchange_while_watching(
    a: Namespace, c: Namespace, address: str, watched: tuple[Namespace, ...]
) -> list[bytes]:
    """Every IPv4 frame seen while A sends C a datagram and 20,000 octets of TCP."""
    watchers = [packet_socket(namespace) for namespace in watched]
    with in_namespace(c.name):
        server = socket.create_server((address, PORT))
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind((address, PORT))
    with in_namespace(a.name):
        client = socket.create_connection((address, PORT), timeout=5)
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with server, datagrams, client, sender:
        sender.sendto(b"hello", (address, PORT))
        datagrams.settimeout(5)
        assert datagrams.recv(100) == b"hello"
        connection, _ = server.accept()
        with connection:
            client.sendall(bytes(20_000))
            client.shutdown(socket.SHUT_WR)
            assert sum(len(part) for part in iter(lambda: connection.recv(65_536), b"")) == 20_000
    return [frame for watcher in watchers for frame in drained(watcher) if frame[12:14] == b"\x08\x00"]


def packet_socket(namespace: Namespace) -> socket.socket:
    all_protocols = 0x0003
    with in_namespace(namespace.name):
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(all_protocols))


def drained(watcher: socket.socket) -> Iterator[bytes]:
    watcher.settimeout(0.1)
    with watcher:
        while True:
            try:
                yield watcher.recv(65_536)
            except TimeoutError:
                return


def test_an_unknown_link_namespace_or_a_taken_name_is_a_lab_error(pair: LinkedPair, links: UserLinks) -> None:
    with pytest.raises(LabError, match="no link 'nowhere'"):
        links.set("nowhere", PERFECT, PERFECT)
    with pytest.raises(LabError, match="nowhere.*No such file"):
        links.add("second", Endpoint(pair.a.name, "u1"), Endpoint("nowhere", "u1"), PERFECT, PERFECT)
    with pytest.raises(LabError, match="u0.*busy"):
        links.add("second", Endpoint(pair.a.name, "u0"), Endpoint(pair.b.name, "u1"), PERFECT, PERFECT)
    with pytest.raises(LabError, match="'link0' exists"):
        links.add("link0", Endpoint(pair.a.name, "u1"), Endpoint(pair.b.name, "u1"), PERFECT, PERFECT)
    assert list(links.counters()) == ["link0"]
    assert "u1" not in pair.a.run("ip", "link")


@pytest.mark.parametrize(
    "message",
    [
        b"\xff",
        b"[]",
        b"{}",
        b'{"do": "dance"}',
        b'{"do": "set", "link": 1}',
        b'{"do": "add", "link": "x"}',
        b'{"do": "set_mtu"}',
    ],
)
def test_a_senseless_message_is_answered_with_an_error_and_harms_nobody(
    links: UserLinks, tmp_path: Path, message: bytes
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.connect(str(tmp_path / "control"))
        stranger.send(message)
        assert list(json.loads(stranger.recv(10_000))) == ["error"]
    assert links.counters() == {}


def test_only_the_owner_may_command_the_process(links: UserLinks, tmp_path: Path) -> None:
    assert (tmp_path / "control").stat().st_mode & 0o777 == 0o600
    assert links.counters() == {}


def test_the_links_outlive_the_client_that_made_them(pair: LinkedPair, links: UserLinks, tmp_path: Path) -> None:
    links.close()
    assert len(pair.send(20)) == 20
    later = UserLinks(tmp_path / "control")
    assert list(later.counters()) == ["link0"]
    later.close()


def test_a_second_process_at_the_same_socket_is_refused(links: UserLinks, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lab.user_link", "--control", str(tmp_path / "control")]
    second = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode == 1
    assert "Address already in use" in second.stderr
    assert links.counters() == {}


@pytest.mark.parametrize("by_signal", [True, False])
def test_the_process_ends_cleanly_on_sigterm_or_stop_and_takes_its_interfaces_along(
    pair: LinkedPair, links: UserLinks, process: subprocess.Popen[bytes], tmp_path: Path, by_signal: bool
) -> None:
    if by_signal:
        process.terminate()
    else:
        links.stop()
    assert process.wait(timeout=10) == 0
    assert not (tmp_path / "control").exists()
    assert "u0" not in pair.a.run("ip", "link") + pair.b.run("ip", "link")
    with pytest.raises(LabError, match=r"has ended|does not answer"):
        links.counters()


@pytest.mark.parametrize(
    ("namespace", "interface", "mac", "field"),
    [
        ("", "u0", None, "namespace"),
        ("../x", "u0", None, "namespace"),
        ("n", "", None, "interface"),
        ("n", "sixteen-letters-", None, "interface"),
        ("n", "a b", None, "interface"),
        ("n", "..", None, "interface"),
        ("n", "u0", "02:00:00:00:00", "mac"),
        ("n", "u0", "01:00:00:00:00:01", "mac"),
        ("n", "u0", "02:00:00:00:00:zz", "mac"),
    ],
)
def test_an_endpoint_that_the_kernel_would_refuse_is_refused_by_name(
    namespace: str, interface: str, mac: str | None, field: str
) -> None:
    with pytest.raises(UsageError) as caught:
        Endpoint(namespace, interface, mac)
    assert caught.value.field == field
