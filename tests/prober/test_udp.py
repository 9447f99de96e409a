from __future__ import annotations

import asyncio
import logging
import random
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from prober.clock_state import ClockState
from prober.prober import Prober
from prober.segment import Event, Role, SegmentSnapshot
from prober.stamp import stamped_socket
from prober.stamp.datagram import Datagram
from prober.stamp.packet import ReflectorPacket, SenderPacket
from prober.stamp.stamped_socket import StampedSocket
from prober.timestamp import NS_PER_MS, NS_PER_S, ErrorEstimate, ntp_from_unix_ns
from prober.udp import UdpProber
from schemas.errors import HostError
from schemas.metrics import DelayStatistics, LossStatistics, RoundTripStatistics
from tests.namespaces import Namespace, Namespaces, in_namespace

CLOCK = ClockState(synchronized=True, error_ms=0.01)
PORT = 862


def udp_prober(
    address: str, *, rate_per_s: float = 50, port: int = PORT, now_ns: Callable[[], int] = time.time_ns
) -> UdpProber:
    prober = Prober(address, random_source=random.Random(address), clock=CLOCK, rate_per_s=rate_per_s)
    return UdpProber(prober, port=port, now_ns=now_ns, monotonic_ns=time.monotonic_ns)


@asynccontextmanager
async def running(points: Sequence[tuple[Namespace, UdpProber]]) -> AsyncIterator[None]:
    try:
        for namespace, point in points:
            with in_namespace(namespace.name):
                point.open()
        for _, point in points:
            await point.start()
        yield
    finally:
        for _, point in points:
            await point.close()


class SteppedClock:
    """A wall clock that can be set, and the kernel's stamps on sockets that go by it."""

    def __init__(self) -> None:
        self.ahead_ns = 0

    def __call__(self) -> int:
        return time.time_ns() + self.ahead_ns

    def rule_stamps(self, patch: pytest.MonkeyPatch) -> None:
        """Have the kernel read this clock too, for the sockets that were given it."""
        stamp, receive, stamps = stamped_socket._stamp_ns, StampedSocket.receive, StampedSocket.stamps
        ahead_ns = 0

        def look(opened: StampedSocket[object]) -> None:
            nonlocal ahead_ns
            ahead_ns = self.ahead_ns if opened._now_ns is self else 0

        def stamp_by_clock(value: bytes) -> int | None:
            at_ns = stamp(value)
            return None if at_ns is None else at_ns + ahead_ns

        def receive_by_clock(opened: StampedSocket[object]) -> Datagram | None:
            look(opened)
            return receive(opened)

        def stamps_by_clock(
            opened: StampedSocket[object], *, to_the_end: bool = False
        ) -> list[tuple[object, int]]:
            look(opened)
            return stamps(opened, to_the_end=to_the_end)

        patch.setattr(stamped_socket, "_stamped", None)  # which reads the stamps itself
        patch.setattr(stamped_socket, "_stamp_ns", stamp_by_clock)
        patch.setattr(StampedSocket, "receive", receive_by_clock)
        patch.setattr(StampedSocket, "stamps", stamps_by_clock)


def linked(namespaces: Namespaces) -> tuple[Namespace, Namespace]:
    left, right = namespaces.chain("left", "right")
    return left, right


def assert_measured(snapshot: SegmentSnapshot) -> None:
    for delay in (snapshot.statistics["delay"], snapshot.outbound["delay"]):
        assert isinstance(delay, DelayStatistics)
        assert 0 < delay.mean_ms < 1
    round_trip, loss = snapshot.statistics["rtt"], snapshot.statistics["loss"]
    assert isinstance(round_trip, RoundTripStatistics) and isinstance(loss, LossStatistics)
    for delay in (snapshot.statistics["delay"], snapshot.outbound["delay"]):
        assert isinstance(delay, DelayStatistics)
        assert round_trip.mean_ms >= delay.mean_ms
    assert loss.lost == 0
    assert snapshot.hops == 0
    assert snapshot.counters["user-stamp"] == snapshot.counters["malformed"] == snapshot.counters["absurd"] == 0


@pytest.mark.netns
def test_two_points_measure_a_real_link_with_the_kernels_times(namespaces: Namespaces) -> None:
    left, right = linked(namespaces)
    a, b = (udp_prober(side.addresses[0]) for side in (left, right))

    async def measure() -> None:
        async with running([(left, a), (right, b)]):
            a.want(b.prober.address)
            b.want(a.prober.address)
            await asyncio.sleep(4)
            (of_a,), (of_b,) = a.snapshots(), b.snapshots()
            assert {of_a.role, of_b.role} == {Role.SENDER, Role.REFLECTOR}
            assert_measured(of_a)
            assert_measured(of_b)
            assert a.counters() == b.counters() == {}

    asyncio.run(measure())


@pytest.mark.netns
def test_the_routers_own_egress_queue_is_part_of_the_delay(namespaces: Namespaces) -> None:
    left, right = linked(namespaces)
    device = left.interfaces[0]
    left.run(*f"tc qdisc add dev {device} root tbf rate 2mbit burst 2000 limit 100000".split())

    async def measure() -> None:
        a, b = (udp_prober(side.addresses[0]) for side in (left, right))
        with in_namespace(left.name):
            load = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        async with running([(left, a), (right, b)]):
            a.want(b.prober.address)
            for _ in range(40):
                for _ in range(10):
                    load.sendto(bytes(1200), (b.prober.address, 9))
                await asyncio.sleep(0.05)
            (snapshot,) = a.snapshots()
            delay, back = snapshot.outbound["delay"], snapshot.statistics["delay"]
            assert isinstance(delay, DelayStatistics) and isinstance(back, DelayStatistics)
            # Ten packets of 1242 octets at 2 Mbit/s take 50 ms to leave.
            assert 10 < delay.mean_ms < 100
            assert back.mean_ms < 1
        load.close()

    asyncio.run(measure())


@pytest.mark.netns
def test_unreachable_peers_and_refusals_raise_nothing_and_spoil_no_stamp(namespaces: Namespaces) -> None:
    left, right = linked(namespaces)
    left.run("iptables", "-A", "OUTPUT", "-d", "10.9.0.77", "-j", "DROP")
    a, b = (udp_prober(side.addresses[0]) for side in (left, right))

    async def measure() -> None:
        async with running([(left, a), (right, b)]):
            for peer in (b.prober.address, "203.0.113.1", "10.9.0.77"):
                a.want(peer)
            await asyncio.sleep(3)
            snapshots = {snapshot.peer: snapshot for snapshot in a.snapshots()}
            assert a.counters()["send-failed"] > 20
            assert not snapshots["203.0.113.1"].statistics
            assert_measured(snapshots[b.prober.address])
            await b.close()  # from now on the kernel answers with ICMP
            await asyncio.sleep(0.3)
            assert a.snapshots()

    asyncio.run(measure())


@pytest.mark.netns
@pytest.mark.parametrize(("stepping", "step_s"), [("sender", 3), ("sender", 3600), ("reflector", -3600)])
def test_a_clock_that_is_set_is_told_and_its_delays_begin_anew_while_the_round_trips_go_on(
    namespaces: Namespaces,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    stepping: str,
    step_s: int,
) -> None:
    left, right = linked(namespaces)
    clock = SteppedClock()
    clock.rule_stamps(monkeypatch)
    a = udp_prober(left.addresses[0], now_ns=clock if stepping == "sender" else time.time_ns)
    b = udp_prober(right.addresses[0], now_ns=clock if stepping == "reflector" else time.time_ns)
    stepped, other = (a, b) if stepping == "sender" else (b, a)

    async def measure() -> None:
        async with running([(left, a), (right, b)]):
            a.want(b.prober.address)
            await asyncio.sleep(2)
            clock.ahead_ns = step_s * NS_PER_S
            set_at_ns = time.monotonic_ns()
            await asyncio.sleep(2.5)
            (of_stepped,), (of_other,) = stepped.snapshots(), other.snapshots()
        assert of_other.counters["clock-step"] == 1
        assert of_stepped.counters["clock-step"] == 1
        most = 50 * 1.5 * (time.monotonic_ns() - set_at_ns) / NS_PER_S
        for snapshot, sign in ((of_stepped, 1), (of_other, -1)):
            # A packet to a clock that is ahead seems to be under way for so much longer.
            for statistics, ahead_ms in (
                (snapshot.statistics, sign * step_s * NS_PER_S / NS_PER_MS),
                (snapshot.outbound, -sign * step_s * NS_PER_S / NS_PER_MS),
            ):
                delay = statistics["delay"]
                assert isinstance(delay, DelayStatistics)
                assert ahead_ms - 1 < delay.mean_ms < ahead_ms + 1
                assert delay.variance_ms2 < 1, "nothing of the time before is in it"
                assert 20 < delay.count < most
            round_trip, loss = snapshot.statistics["rtt"], snapshot.statistics["loss"]
            assert isinstance(round_trip, RoundTripStatistics) and isinstance(loss, LossStatistics)
            assert 0 < round_trip.mean_ms < 1
            assert loss.lost == 0
        of_sender = of_stepped if stepping == "sender" else of_other
        kept, begun = of_sender.statistics["rtt"], of_sender.statistics["delay"]
        assert isinstance(kept, RoundTripStatistics) and isinstance(begun, DelayStatistics)
        assert kept.count > begun.count + 50

    with caplog.at_level(logging.WARNING, logger="prober.udp"):
        asyncio.run(measure())
    (warning,) = caplog.messages
    told = re.fullmatch(r"this host's clock was set by (\S+) s: one-way delays begin anew", warning)
    assert told is not None
    assert float(told.group(1)) == pytest.approx(step_s, abs=0.001)


def test_a_port_in_use_is_told_in_one_line() -> None:
    async def start_twice() -> None:
        first, second = udp_prober("127.0.0.1", port=18_620), udp_prober("127.0.0.1", port=18_620)
        first.open()
        try:
            with pytest.raises(HostError, match=r"127\.0\.0\.1 port 18620: the port is in use"):
                await second.start()
        finally:
            await first.close()

    asyncio.run(start_twice())


def test_an_address_of_another_machine_is_told_in_one_line() -> None:
    with pytest.raises(HostError, match="not one of this machine"):
        StampedSocket("203.0.113.1", 0, now_ns=time.time_ns)


def test_any_udp_sender_is_answered_and_rubbish_is_counted_and_not_answered() -> None:
    async def talk() -> None:
        point = udp_prober("127.0.0.1", port=18_621)
        await point.start()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind(("127.0.0.2", 0))
            sender.setblocking(False)
            sent_ns = time.time_ns()
            packet = SenderPacket(5, ntp_from_unix_ns(sent_ns), ErrorEstimate.from_int(0x8F84))
            for data in (b"rubbish", packet.to_bytes()[:12] + bytes(32), packet.to_bytes()):
                sender.sendto(data, ("127.0.0.1", 18_621))
            async with asyncio.timeout(5):
                reply = ReflectorPacket.from_bytes(await asyncio.get_running_loop().sock_recv(sender, 2048))
        assert (reply.sequence, reply.sender_sequence, reply.sender_ttl) == (0, 5, 64)
        assert point.counters() == {
            "probe-too-short": 1,
            "error-multiplier-zero": 1,
        }
        await point.close()
        await point.close()

    asyncio.run(talk())


def test_a_stamp_is_matched_to_its_datagram_after_failed_sends() -> None:
    stamped: StampedSocket[str] = StampedSocket("127.0.0.1", 0, now_ns=time.time_ns)
    try:
        for turn in range(3):
            assert stamped.send(b"x", "127.0.0.1", stamped.port, f"first {turn}")
            assert not stamped.send(b"x", "255.255.255.255", 9, "no broadcast")
            before_ns = time.time_ns()
            assert stamped.send(b"x", "127.0.0.1", stamped.port, f"second {turn}")
            departures = dict(stamped.stamps())
            assert before_ns <= departures[f"second {turn}"] <= time.time_ns()
            assert set(departures) <= {f"first {turn}", f"second {turn}"}
    finally:
        stamped.close()


@pytest.mark.netns
def test_replies_that_wait_are_read_when_somebody_wants_that(namespaces: Namespaces) -> None:
    left, right = linked(namespaces)
    a, b = (udp_prober(side.addresses[0], rate_per_s=10) for side in (left, right))

    async def measure() -> None:
        async with running([(left, a), (right, b)]):
            a.want(b.prober.address)
            segment = a.prober.segment(b.prober.address)
            assert segment is not None
            came = 0
            async with asyncio.timeout(10):
                while not came:
                    await asyncio.sleep(0.01)
                    before = segment.events[Event.RECEIVED]
                    a.take_replies()
                    came = segment.events[Event.RECEIVED] - before

    asyncio.run(measure())


@pytest.mark.netns
def test_replies_are_read_as_they_come_where_the_kernel_takes_no_times(
    namespaces: Namespaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right = linked(namespaces)
    a, b = (udp_prober(side.addresses[0]) for side in (left, right))
    waited_ns: list[int] = []
    taken = a.prober.reply_received

    def note_wait(datagram: Datagram) -> None:
        reply = ReflectorPacket.from_bytes(datagram.data)
        at_ns = datagram.received_at_ns
        waited_ns.append(at_ns - reply.error.unix_ns(reply.timestamp, at_ns))
        taken(datagram)

    monkeypatch.setattr(a.prober, "reply_received", note_wait)

    async def measure() -> None:
        async with running([(left, a), (right, b)]):
            monkeypatch.setattr(stamped_socket, "_stamped", None)
            monkeypatch.setattr(stamped_socket, "_stamp_ns", lambda _: None)
            a.want(b.prober.address)
            await asyncio.sleep(2)
            assert a.counters()["receive-stamp-missing"] > 50

    asyncio.run(measure())
    late = sum(wait_ns > 10 * NS_PER_MS for wait_ns in waited_ns)
    assert late < len(waited_ns) / 4
