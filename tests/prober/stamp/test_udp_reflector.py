"""When probes are answered at once, and when together."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prober.clock_state import ClockState
from prober.stamp.datagram import Datagram
from prober.stamp.fault import ProbeFault
from prober.stamp.packet import SenderPacket
from prober.stamp.reflector import Reflector, Reply
from prober.stamp.udp_reflector import MAX_AT_ONCE, REST_S, SERIES, WARM_UP_S, LoneReflector, UdpReflector
from prober.timestamp import ErrorEstimate, ntp_from_unix_ns

CLOCK = ClockState(synchronized=True, error_ms=0.01)
ERROR = ErrorEstimate.of(1_000_000, synchronized=True)
LONGEST_REST_S = 1.5 * REST_S
SLACK_S = 1.0
"""The process may have to wait for a processor."""


class Noted(LoneReflector):
    """Notes how many probes each turn of the loop brings, and takes them for neighbors' usual ones, or not."""

    def __init__(self) -> None:
        self.are_usual = True
        faults: Counter[ProbeFault] = Counter()
        super().__init__(Reflector(lambda _: None, faults=faults), CLOCK, faults)
        self.turns: list[int] = []
        """How many probes each turn of the loop took."""
        self._turn_is_new = True

    def probe_received(self, datagram: Datagram, now_ns: int) -> Reply | None:
        if self._turn_is_new:
            self.turns.append(0)
            self._turn_is_new = False
            asyncio.get_running_loop().call_soon(self._turn_ends)
        self.turns[-1] += 1
        reply = super().probe_received(datagram, now_ns)
        return reply and reply._replace(is_usual=self.are_usual)

    def _turn_ends(self) -> None:
        self._turn_is_new = True


class Peer:
    """Sends probes to a reflector."""

    def __init__(self, reflector: UdpReflector, noted: Noted, source: socket.socket) -> None:
        self.reflector, self.noted, self._source = reflector, noted, source
        self._number = 0
        self.is_closed = False

    def send(self, count: int) -> None:
        for _ in range(count):
            packet = SenderPacket(self._number, ntp_from_unix_ns(time.time_ns()), ERROR)
            self._source.sendto(packet.to_bytes(), ("127.0.0.1", self.reflector.port))
            self._number += 1

    def send_garbage(self) -> None:
        self._source.sendto(b"?", ("127.0.0.1", self.reflector.port))

    async def all_answered(self) -> None:
        async with asyncio.timeout(SLACK_S + LONGEST_REST_S):
            while self.reflector.replies < self._number:
                await asyncio.sleep(0.001)

    async def make_busy(self) -> None:
        while self._number < SERIES:
            self.send(min(32, SERIES - self._number))
            await self.all_answered()
        self.noted.turns.clear()


@asynccontextmanager
async def running() -> AsyncIterator[Peer]:
    noted = Noted()
    reflector = UdpReflector(noted, "127.0.0.1", 0, now_ns=time.time_ns)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
        source.bind(("127.0.0.1", 0))
        await asyncio.sleep(WARM_UP_S)
        reflector.start()
        peer = Peer(reflector, noted, source)
        try:
            yield peer
        finally:
            if not peer.is_closed:
                reflector.close()


def test_each_wake_up_takes_one_datagram_before_probes_have_come_fast_for_long() -> None:
    async def main() -> None:
        async with running() as peer:
            peer.send(SERIES - 1)
            await peer.all_answered()
            assert peer.noted.turns == [1] * (SERIES - 1)

    asyncio.run(main())


def test_probes_that_go_on_coming_fast_are_answered_together_and_none_is_left() -> None:
    async def main() -> None:
        async with running() as peer:
            await peer.make_busy()
            await asyncio.sleep(LONGEST_REST_S + 0.05)  # it is over, and the next one wakes the reflector
            peer.send(10)
            await peer.all_answered()
            assert peer.noted.turns == [1, 9]
            peer.noted.turns.clear()
            peer.send(3 * MAX_AT_ONCE)
            await peer.all_answered()
            assert sum(peer.noted.turns) == 3 * MAX_AT_ONCE
            assert max(peer.noted.turns) == MAX_AT_ONCE

    asyncio.run(main())


def test_a_datagram_that_is_no_probe_ends_the_waiting_at_once() -> None:
    async def main() -> None:
        async with running() as peer:
            await peer.make_busy()
            await asyncio.sleep(LONGEST_REST_S + 0.05)
            peer.send(1)
            peer.send_garbage()
            peer.send(20)
            await peer.all_answered()
            assert peer.noted.turns == [1, 1] + [1] * 20

    asyncio.run(main())


def test_probes_of_another_sender_never_wait_and_end_the_waiting_of_all() -> None:
    async def main() -> None:
        async with running() as peer:
            peer.noted.are_usual = False
            await peer.make_busy()
            peer.send(20)
            await peer.all_answered()
            assert peer.noted.turns == [1] * 20
            peer.noted.are_usual = True
            peer.send(SERIES)
            await peer.all_answered()
            await asyncio.sleep(LONGEST_REST_S + 0.05)
            peer.noted.are_usual = False
            peer.noted.turns.clear()
            peer.send(20)
            await peer.all_answered()
            assert peer.noted.turns == [1] * 20

    asyncio.run(main())


def test_seldom_probes_never_wait_however_many_they_are() -> None:
    async def main() -> None:
        async with running() as peer:
            for _ in range(SERIES // 32):
                peer.send(32)
                await peer.all_answered()
                await asyncio.sleep(0.3)
            peer.noted.turns.clear()
            peer.send(20)
            await peer.all_answered()
            assert peer.noted.turns == [1] * 20

    asyncio.run(main())


def test_it_can_be_closed_while_probes_wait() -> None:
    async def main() -> None:
        async with running() as peer:
            await peer.make_busy()
            peer.send(3)
            answered = peer.reflector.replies
            peer.reflector.close()
            peer.is_closed = True
            await asyncio.sleep(2 * LONGEST_REST_S)
            assert peer.reflector.replies == answered

    asyncio.run(main())
