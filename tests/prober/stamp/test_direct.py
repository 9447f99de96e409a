from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import pytest

from prober.clock_state import ClockState
from prober.prober import Prober
from prober.segment import Segment
from prober.stamp.authentication import StampKey, sole_key
from prober.stamp.direct import DirectSession
from prober.stamp.fault import ProbeFault
from prober.stamp.probe_format import ProbeFormat
from prober.stamp.reflector import Reflector
from prober.stamp.session_tally import ReflectorKind
from prober.stamp.udp_reflector import LoneReflector, UdpReflector
from prober.udp import UdpProber
from schemas.errors import HostError, UsageError
from schemas.metrics import DelayStatistics
from tests.namespaces import Namespace, Namespaces, in_namespace

CLOCK = ClockState(synchronized=True, error_ms=0.01)
KEY = StampKey(bytes(range(32)))


def direct_session(peer: str, **options: object) -> DirectSession:
    form = ProbeFormat(ssid=99, **options)  # type: ignore[arg-type]
    return DirectSession(
        peer, clock=CLOCK, now_ns=time.time_ns, random_source=random.Random(1), rate_per_s=100, probe_format=form
    )


def measure(
    left: Namespace, right: Namespace, *, probes: int = 100, stateless: bool = False, **options: object
) -> DirectSession:
    """A session from left to a reflector of ours on all addresses of right."""

    async def run() -> DirectSession:
        faults: Counter[ProbeFault] = Counter()
        key = options.get("key")
        assert key is None or isinstance(key, StampKey)
        reflector = Reflector(lambda address: None, key_of=sole_key(key), stateless=stateless, faults=faults)
        direct = direct_session(right.addresses[0], **options)
        with in_namespace(left.name):
            direct.open()
        with in_namespace(right.name):
            opened = UdpReflector(LoneReflector(reflector, CLOCK, faults), "0.0.0.0", 862, now_ns=time.time_ns)
        opened.start()
        try:
            await direct.run(count=probes)
        finally:
            opened.close()
        assert not +faults
        return direct

    return asyncio.run(run())


def drop(namespace: Namespace, match: str) -> None:
    """Drop datagrams that come in."""
    namespace.run(*f"iptables -A INPUT -p udp {match} -j DROP".split())


def each(number: int) -> str:
    return f"-m statistic --mode nth --every {number} --packet {number - 1}"


def delays_ms(segment: Segment) -> tuple[float, float]:
    now_ns = time.time_ns()
    there = segment.outbound_statistics(["delay"], now_ns=now_ns, clock=CLOCK)["delay"]
    back = segment.statistics(["delay"], now_ns=now_ns, clock=CLOCK)["delay"]
    assert isinstance(there, DelayStatistics) and isinstance(back, DelayStatistics)
    return there.mean_ms, back.mean_ms


@pytest.mark.netns
@pytest.mark.parametrize("key", [None, KEY], ids=["unauthenticated", "authenticated"])
def test_losses_and_marks_of_both_directions_are_told_apart_in_both_modes(
    namespaces: Namespaces, key: StampKey | None
) -> None:
    left, right = namespaces.chain("left", "right")
    drop(right, f"--dport 862 {each(5)}")
    drop(left, f"--sport 862 {each(4)}")
    direct = measure(left, right, key=key, dscp=46)
    session = direct.session
    assert session.is_extended
    assert (session.tally.sent, session.tally.answered) == (100, 60)
    assert session.tally.reflector is ReflectorKind.STATEFUL
    assert session.tally.lost_there == pytest.approx(20, abs=1)
    assert session.tally.lost_back == pytest.approx(20, abs=1)
    assert session.replies.marking and (session.replies.marking.arrived_dscp, session.replies.marking.refused) == (
        46,
        False,
    )
    assert direct.reply_tos == 46 << 2
    assert all(0 < delay_ms < 1 for delay_ms in delays_ms(direct.segment))
    assert not +direct.faults


@pytest.mark.netns
@pytest.mark.parametrize("key", [None, KEY], ids=["unauthenticated", "authenticated"])
def test_of_a_stateless_reflector_the_loss_of_the_round_trip_is_told(
    namespaces: Namespaces, key: StampKey | None
) -> None:
    left, right = namespaces.chain("left", "right")
    drop(right, f"--dport 862 {each(5)}")
    direct = measure(left, right, stateless=True, key=key)
    tally = direct.session.tally
    assert (tally.sent, tally.answered, tally.lost_there, tally.lost_back) == (100, 80, None, None)
    assert tally.reflector is ReflectorKind.STATELESS
    assert all(0 < delay_ms < 5 for delay_ms in delays_ms(direct.segment))


@pytest.mark.netns
def test_a_network_that_drops_extended_probes_is_measured_with_plain_ones(namespaces: Namespaces) -> None:
    left, right = namespaces.chain("left", "right")
    drop(right, "--dport 862 -m length --length 73:65535")
    direct = measure(left, right, probes=80)
    tally = direct.session.tally
    assert not direct.session.is_extended
    assert tally.sent == tally.answered == 80 - 16
    assert (tally.lost_there, tally.lost_back) == (0, 0)
    assert all(0 < delay_ms < 5 for delay_ms in delays_ms(direct.segment))


@pytest.mark.netns
def test_a_running_point_answers_and_counts_nothing_of_it(namespaces: Namespaces) -> None:
    left, right = namespaces.chain("left", "right")

    async def run() -> None:
        prober = Prober(right.addresses[0], random_source=random.Random(2), clock=CLOCK)
        point = UdpProber(prober, now_ns=time.time_ns, monotonic_ns=time.monotonic_ns)
        direct = direct_session(right.addresses[0])
        with in_namespace(left.name):
            direct.open()
        with in_namespace(right.name):
            point.open()
        await point.start()
        try:
            await direct.run(count=20)
        finally:
            await point.close()
        assert direct.session.tally.answered == 20
        assert direct.session.is_extended
        assert prober.segments(time.time_ns()) == ()
        assert point.counters() == {}

    asyncio.run(run())


@pytest.mark.netns
def test_a_multihomed_reflector_answers_from_the_address_that_was_asked(namespaces: Namespaces) -> None:
    left, right = namespaces.chain("left", "right")
    right.run(*f"ip address add 192.0.2.1/32 dev {right.interfaces[0]}".split())
    left.run(*f"ip route add 192.0.2.1/32 via {right.addresses[0]}".split())
    right.addresses[0] = "192.0.2.1"
    direct = measure(left, right, probes=10)
    assert direct.session.tally.answered == 10


def test_a_session_ends_by_its_duration_and_tells_its_progress() -> None:
    async def run() -> None:
        direct = direct_session("127.0.0.1")
        said = []
        begun_s = time.monotonic()
        await direct.run(duration_s=0.3, on_progress=lambda: said.append(direct.session.tally.sent))
        assert 0.3 < time.monotonic() - begun_s < 3
        assert said == list(range(1, len(said) + 1))
        assert 10 < len(said) < 60
        assert direct.session.tally.answered == 0

    asyncio.run(run())


def test_a_session_without_an_end_or_with_a_rate_too_high_is_refused() -> None:
    async def run() -> None:
        with pytest.raises(UsageError, match="a duration or a count"):
            await direct_session("127.0.0.1").run()
        for rate_per_s in (0.0, -1.0, 101.0):
            with pytest.raises(UsageError, match="rate"):
                DirectSession(
                    "127.0.0.1",
                    clock=CLOCK,
                    now_ns=time.time_ns,
                    random_source=random.Random(1),
                    rate_per_s=rate_per_s,
                )
        with pytest.raises(HostError, match="not one of this machine"):
            DirectSession(
                "127.0.0.1",
                clock=CLOCK,
                now_ns=time.time_ns,
                random_source=random.Random(1),
                address="203.0.113.1",
            ).open()

    asyncio.run(run())
