from __future__ import annotations

import asyncio
import ctypes
import random
import resource
import time
from collections import Counter
from typing import Any

import pytest

from mp import clock
from prober.clock_state import ClockState
from prober.prober import Prober
from prober.stamp.datagram import Datagram
from prober.stamp.stamped_socket import StampedSocket
from prober.udp import UdpProber
from receiver.composition import compose
from schemas.message import SegmentRecord, SegmentState
from schemas.result import Flag
from tests.namespaces import Namespaces, in_namespace
from tests.receiver.paths import delay

CLOCK = ClockState(synchronized=True, error_ms=0.01)
STA_UNSYNC = 0x40


@pytest.fixture
def wakeups(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a socket was looked at, and how often something was there."""
    seen: Counter[str] = Counter()
    receive = StampedSocket.receive

    def counted(self: StampedSocket[Any]) -> Datagram | None:
        datagram = receive(self)
        seen["looks"] += 1
        seen["datagrams"] += datagram is not None
        return datagram

    monkeypatch.setattr(StampedSocket, "receive", counted)
    return seen


# Transmit stamps wait on the error queue, for which epoll calls the reader again and again until it is empty.
@pytest.mark.netns
def test_transmit_stamps_do_not_spin_the_loop(namespaces: Namespaces, wakeups: Counter[str]) -> None:
    left, right = namespaces.chain("left", "right")

    async def measure() -> None:
        points = []
        for side in (left, right):
            prober = Prober(side.addresses[0], random_source=random.Random(1), clock=CLOCK, rate_per_s=100)
            points.append(UdpProber(prober, now_ns=time.time_ns, monotonic_ns=time.monotonic_ns))
            with in_namespace(side.name):
                points[-1].open()
        try:
            for point in points:
                await point.start()
            points[0].want(points[1].prober.address)
            wakeups.clear()
            await asyncio.sleep(1.5)
        finally:
            for point in points:
                await point.close()

    used = resource.getrusage(resource.RUSAGE_SELF)
    asyncio.run(measure())
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert wakeups["datagrams"] > 150
    assert wakeups["looks"] < 3 * wakeups["datagrams"]
    assert after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime < 1.0  # spinning takes all of 1.5 s


def test_transmit_stamps_that_nobody_awaits_do_not_spin_the_loop(wakeups: Counter[str]) -> None:
    async def wait() -> StampedSocket[str]:
        stamped: StampedSocket[str] = StampedSocket("127.0.0.1", 0, now_ns=time.time_ns)
        sink: StampedSocket[str] = StampedSocket("127.0.0.1", 0, now_ns=time.time_ns)
        loop = asyncio.get_running_loop()

        def take() -> None:
            if stamped.receive() is None:
                stamped.stamps(to_the_end=True)

        for number in range(20):
            assert stamped.send(b"x", "127.0.0.1", sink.port, f"{number}")
        stamped._awaited.clear()
        loop.add_reader(stamped, take)
        try:
            await asyncio.sleep(0.3)
        finally:
            loop.remove_reader(stamped)
            stamped.close()
            sink.close()
        return stamped

    troubles = asyncio.run(wait()).troubles
    assert troubles == {"transmit-stamp-unknown": 20}
    assert 1 <= wakeups["looks"] <= 3


class Kernel:
    """adjtimex of a kernel in a given state."""

    def __init__(self, *, status: int, maxerror_us: int, answer: int = 0) -> None:
        self._status, self._maxerror_us, self._answer = status, maxerror_us, answer

    def adjtimex(self, timex: Any) -> int:
        timex._obj.status, timex._obj.maxerror = self._status, self._maxerror_us
        return self._answer


def state_with(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> ClockState:
    monkeypatch.setattr(ctypes, "CDLL", lambda *arguments, **options: kernel)
    return clock.read_clock(None)


# chrony leaves the flag set unless it is told `rtcsync`; then only the operator can vouch for the clock.
def test_an_unsynchronized_clock_is_reported_as_such_however_small_its_error_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = state_with(Kernel(status=STA_UNSYNC, maxerror_us=50, answer=5), monkeypatch)
    assert (state.synchronized, state.error_ms) == (False, 16_000.0)
    assert clock.read_clock(0.05) == ClockState(synchronized=True, error_ms=0.05)


# systemd-timesyncd sets the error to 0 at each of its corrections.
def test_no_clock_is_better_than_the_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    for maxerror_us, expected_ms in ((0, 0.1), (99, 0.1), (2_500, 2.5), (10**9, 16_000.0)):
        state = state_with(Kernel(status=0, maxerror_us=maxerror_us), monkeypatch)
        assert (state.synchronized, state.error_ms) == (True, expected_ms)


def test_a_kernel_that_does_not_answer_is_no_synchronized_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not state_with(Kernel(status=0, maxerror_us=50, answer=-1), monkeypatch).synchronized


def test_this_kernels_word_is_the_state_of_the_clock() -> None:
    timex = clock._Timex()
    ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    assert clock.read_clock(None).synchronized is not bool(timex.status & STA_UNSYNC)


def test_an_unsynchronized_point_says_so_in_its_packets_and_on_the_path() -> None:
    prober = Prober(
        "10.0.0.1", random_source=random.Random(1), clock=ClockState(synchronized=False, error_ms=16_000)
    )
    assert not prober.own_error().synchronized
    assert prober.own_error().error_ms >= 16_000
    record = SegmentRecord(
        upstream="10.0.0.1",
        current="10.0.0.2",
        state=SegmentState.MEASURED,
        recorded_at_ms=0,
        metrics={"delay": delay(5.0, synchronized=False)},
    )
    composed = compose(("delay",), (record,), waited_ms=0, max_age_ms=60_000).composed["delay"]
    assert Flag.UNSYNCHRONIZED in composed.flags
