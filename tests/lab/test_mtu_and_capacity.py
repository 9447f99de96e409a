from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from prober.clock_state import ClockState
from prober.interfaces.load import ConfiguredCapacity
from prober.interfaces.monitor import InterfaceMonitor
from prober.interfaces.netlink import Netlink
from prober.path_mtu.codec import StampMtuCodec
from prober.path_mtu.driver import MtuProber
from prober.path_mtu.search import MtuTimes
from prober.stamp.authentication import StampKey, sole_key
from prober.stamp.reflector import Reflector
from prober.stamp.udp_reflector import LoneReflector, UdpReflector
from prober.timestamp import NS_PER_MS, ErrorEstimate
from schemas.metrics import ScalarStatistics
from tests.namespaces import Namespace, Namespaces, in_namespace

PORT = 862
CLOCK = ClockState(synchronized=True, error_ms=0.01)
ERROR = ErrorEstimate.of(60_000, synchronized=True)
QUICK = MtuTimes(least_timeout_ns=100 * NS_PER_MS, confirm_ns=300 * NS_PER_MS, raise_ns=600 * NS_PER_MS)
INTERVAL_S = 0.25


class Given:
    """What the drivers gave."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], ScalarStatistics] = {}

    def __call__(self, peer: str, metric: str, value: ScalarStatistics) -> None:
        self.values[peer, metric] = value

    def withdraw(self, peer: str, metric: str) -> None:
        del self.values[peer, metric]

    async def until(self, peer: str, metric: str, octets: float | None = None, *, within_s: float = 12) -> float:
        """Wait for a value, or for just this one."""
        async with asyncio.timeout(within_s):
            while (value := self.values.get((peer, metric))) is None or octets not in (None, value.value):
                await asyncio.sleep(0.02)
        return value.value


def monitor(namespace: Namespace, give: Given, **capacity: float) -> InterfaceMonitor:
    """Watches in the namespace; capacities in Mbit/s by interface."""
    watching = InterfaceMonitor(
        namespace.addresses[0],
        configured={
            name: ConfiguredCapacity(ingress_mbit_s=mbit_s, egress_mbit_s=mbit_s)
            for name, mbit_s in capacity.items()
        },
        give=give,
        withdraw=give.withdraw,
        now_ms=lambda: time.time_ns() // NS_PER_MS,
        monotonic_ns=time.monotonic_ns,
        interval_s=INTERVAL_S,
    )
    with in_namespace(namespace.name):
        watching.open()
    return watching


@asynccontextmanager
async def reflecting(namespace: Namespace, key: StampKey | None = None) -> AsyncIterator[None]:
    with in_namespace(namespace.name):
        lone = LoneReflector(Reflector(lambda _: None, key_of=sole_key(key)), CLOCK, Counter())
        reflector = UdpReflector(lone, namespace.addresses[0], PORT, now_ns=time.time_ns)
    reflector.start()
    try:
        yield
    finally:
        reflector.close()


@asynccontextmanager
async def searching(
    source: Namespace,
    peer: Namespace,
    *,
    key: StampKey | None = None,
    limit_of: Callable[[str], int | None] | None = None,
) -> AsyncIterator[tuple[Given, MtuProber]]:
    """A search from one namespace toward the reflector in another."""
    give = Given()
    interfaces = monitor(source, give)
    prober = MtuProber(
        source.addresses[0],
        codec=StampMtuCodec(now_ns=time.time_ns, error=lambda: ERROR, key_of=sole_key(key)),
        limit_of=limit_of or interfaces.mtu_toward,
        give=give,
        withdraw=give.withdraw,
        now_ms=lambda: time.time_ns() // NS_PER_MS,
        monotonic_ns=time.monotonic_ns,
        random_source=random.SystemRandom(),
        port=PORT,
        seen=interfaces.seen,
        times=QUICK,
    )
    with in_namespace(source.name):
        prober.open()
    try:
        async with reflecting(peer, key):
            interfaces.follow(peer.addresses[:1])
            prober.follow(peer.addresses[:1])
            await interfaces.start()
            await prober.start()
            yield give, prober
    finally:
        await prober.close()
        await prober.close()
        await interfaces.close()
        await interfaces.close()


def row(namespaces: Namespaces, middle_mtu: int) -> tuple[Namespace, ...]:
    """A - r1 - r2 - B with a middle link of this MTU."""
    a, r1, r2, b = namespaces.chain("a", "r1", "r2", "b")
    set_middle(r1, r2, middle_mtu)
    return a, r1, r2, b


def set_middle(r1: Namespace, r2: Namespace, mtu: int) -> None:
    for router, interface in ((r1, r1.interfaces[1]), (r2, r2.interfaces[0])):
        router.run("ip", "link", "set", interface, "mtu", str(mtu))


def found_between(a: Namespace, b: Namespace, *, key: StampKey | None = None) -> float:
    async def find() -> float:
        async with searching(a, b, key=key) as (give, _):
            return await give.until(b.addresses[0], "mtu")

    return asyncio.run(find())


@pytest.mark.netns
@pytest.mark.parametrize("mtu", [1280, 1400, 1500])
def test_the_narrowest_link_is_found_to_the_octet(namespaces: Namespaces, mtu: int) -> None:
    a, _, _, b = row(namespaces, mtu)
    assert found_between(a, b) == mtu


@pytest.mark.netns
def test_a_black_hole_and_a_key_change_nothing(namespaces: Namespaces) -> None:
    a, r1, r2, b = row(namespaces, 1399)
    for router in (r1, r2):
        router.run("iptables", "-A", "OUTPUT", "-p", "icmp", "-j", "DROP")
    assert found_between(a, b, key=StampKey(bytes(range(32)))) == 1399


@pytest.mark.netns
def test_loss_of_5_percent_each_way_changes_nothing(namespaces: Namespaces) -> None:
    a, r1, _, b = row(namespaces, 1400)
    matching = f"-m statistic --mode random --probability {0.05}"
    r1.run("iptables", "-A", "FORWARD", *matching.split(), "-j", "DROP")
    assert found_between(a, b) == 1400


@pytest.mark.netns
def test_a_reply_that_comes_in_fragments_does_not_fit(namespaces: Namespaces) -> None:
    a, _, r2, b = row(namespaces, 1500)
    r2.run(*f"ip route change 10.9.0.0/24 via {r2.addresses[0][:-1]}1 mtu lock 1420".split())
    assert found_between(a, b) == 1420


@pytest.mark.netns
def test_changes_of_the_path_and_of_the_own_interface_are_noticed(namespaces: Namespaces) -> None:
    a, r1, r2, b = row(namespaces, 1500)
    peer = b.addresses[0]

    async def watch() -> None:
        async with searching(a, b) as (give, prober):
            assert await give.until(peer, "mtu") == 1500
            set_middle(r1, r2, 1300)
            await give.until(peer, "mtu", 1300)
            set_middle(r1, r2, 1500)
            await give.until(peer, "mtu", 1500)
            a.run("ip", "link", "set", a.interfaces[0], "mtu", "1450")
            await give.until(peer, "mtu", 1450)
            value = give.values[peer, "mtu"]
            assert (value.low, value.high) == (1450, 1450)
            assert abs(value.measured_at_ms - time.time_ns() // NS_PER_MS) < 5_000
            assert prober.sent_octets < 200_000

    asyncio.run(watch())


@pytest.mark.netns
def test_a_size_that_the_own_kernel_refuses_costs_no_waiting(namespaces: Namespaces) -> None:
    a, b = namespaces.chain("a", "b")
    a.run("ip", "link", "set", a.interfaces[0], "mtu", "1400")

    async def watch() -> None:
        async with searching(a, b, limit_of=lambda _: 1500) as (give, prober):
            assert await give.until(b.addresses[0], "mtu") == 1400
            assert prober.sent_probes <= 12

    asyncio.run(watch())


@pytest.mark.netns
def test_a_larger_interface_than_the_reflectors_answer_is_an_upper_bound(namespaces: Namespaces) -> None:
    a, b = namespaces.chain("a", "b")
    for side in (a, b):
        side.run("ip", "link", "set", side.interfaces[0], "mtu", "9000")

    async def watch() -> None:
        async with searching(a, b) as (give, _):
            await give.until(b.addresses[0], "mtu")
            value = give.values[b.addresses[0], "mtu"]
            assert (value.low, value.value, value.high) == (1500, 1500, 9000)

    asyncio.run(watch())


async def send_at(rate_per_s: int, octets: int, seconds: float, send: Callable[[bytes], object]) -> None:
    """Datagrams by an absolute schedule."""
    start_s, sent = time.monotonic(), 0
    while (elapsed_s := time.monotonic() - start_s) < seconds:
        for _ in range(round(elapsed_s * rate_per_s) - sent):
            send(bytes(octets))
            sent += 1
        await asyncio.sleep(0.004)


@pytest.mark.netns
def test_the_utilization_of_both_ends_agrees_with_known_traffic(namespaces: Namespaces) -> None:
    a, b = namespaces.chain("a", "b")
    (address_a, interface_a), (address_b, interface_b) = ((one.addresses[0], one.interfaces[0]) for one in (a, b))
    given_a, given_b = Given(), Given()
    at_a = monitor(a, given_a, **{interface_a: 10.0})
    at_b = monitor(b, given_b, **{interface_b: 8.0})
    with in_namespace(a.name):
        index = socket.if_nametoindex(interface_a)
    with in_namespace(b.name):
        sending = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sending.connect((address_a, 9))

    def send(data: bytes) -> None:
        try:
            sending.send(data)
        except ConnectionRefusedError:  # of an earlier datagram, by ICMP
            sending.send(data)

    async def watch() -> None:
        at_a.follow([address_b])
        at_b.follow([address_a])
        at_a.seen(address_b, index)
        await at_a.start()
        await at_b.start()
        await send_at(250, 1000, 8 * INTERVAL_S, send)
        own, upstream = at_a.report(address_b).ingress, at_b.report(address_a).egress
        assert own.capacity_mbit_s == 10
        assert upstream.capacity_mbit_s == 8
        assert own.utilization is not None and upstream.utilization is not None
        assert own.utilization.mean == pytest.approx(250 * 1028 * 8 / 10e6, rel=0.03)
        assert upstream.utilization.mean == pytest.approx(250 * 1028 * 8 / 8e6, rel=0.03)
        alone = given_a.values[address_b, "capacity"]
        at_a.take_report(address_b, at_b.report(address_a))
        at_a.sample()
        both = given_a.values[address_b, "capacity"]
        assert (alone.value, both.value) == (10, 8)
        used = given_a.values[address_b, "utilization"]
        assert used.value == pytest.approx(250 * 1028 * 8 / 8e6, rel=0.03)
        assert used.low <= used.value <= used.high
        await asyncio.sleep(4 * INTERVAL_S)
        assert given_a.values[address_b, "capacity"].value == 10  # the neighbor tells nothing any more
        a.run("ip", "link", "delete", interface_a)
        at_a.sample()
        assert given_a.values == {}
        await at_a.close()
        await at_b.close()

    try:
        asyncio.run(watch())
    finally:
        sending.close()


@pytest.mark.netns
def test_a_virtual_links_claim_of_a_speed_is_not_believed(namespaces: Namespaces) -> None:
    a, b = namespaces.chain("a", "b")

    async def watch() -> None:
        async with searching(a, b) as (give, _):
            await give.until(b.addresses[0], "mtu")
            await asyncio.sleep(3 * INTERVAL_S)
            assert set(give.values) == {(b.addresses[0], "mtu")}

    asyncio.run(watch())
    with in_namespace(a.name):
        kernel = Netlink()
        index = socket.if_nametoindex(a.interfaces[0])
    assert kernel.claimed_speed_mbit_s(a.interfaces[0]) == 10_000
    reading = kernel.interface(index)
    assert reading is not None
    assert (reading.name, reading.index, reading.speed_mbit_s) == (a.interfaces[0], index, None)
    assert kernel.interface(index + 100) is None
    kernel.close()


@pytest.mark.netns
def test_the_routing_table_says_by_which_interface_packets_leave(namespaces: Namespaces) -> None:
    a, r1, b = namespaces.chain("a", "r1", "b")
    r1.run("ip", "link", "set", r1.interfaces[1], "mtu", "1300")
    give = Given()
    at_r1 = monitor(r1, give)
    near, far, nowhere = a.addresses[0], b.addresses[0], "203.0.113.1"
    at_r1.follow([near, far, nowhere])
    assert [at_r1.mtu_toward(peer) for peer in (near, far, nowhere, "10.9.9.9")] == [1500, 1300, None, None]
    r1.run("ip", "link", "set", r1.interfaces[1], "mtu", "1290")
    at_r1.sample()
    assert at_r1.mtu_toward(far) == 1290
    r1.run("ip", "link", "delete", r1.interfaces[1])
    at_r1.sample()
    at_r1.follow([near, far])
    assert (at_r1.mtu_toward(near), at_r1.mtu_toward(far)) == (1500, None)
    assert give.values == {}
    asyncio.run(at_r1.close())
