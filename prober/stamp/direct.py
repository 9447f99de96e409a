"""A measurement beside the overlay: one STAMP session to any reflector, with a socket and a segment of its own.

Its SSID keeps it out of the segment that the same two hosts may have as neighbors.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping

from prober.clock_state import ClockState
from prober.segment import Role, Segment
from prober.stamp.fault import ProbeFault
from prober.stamp.packet import STAMP_PORT
from prober.stamp.poisson_schedule import LONGEST_GAP_NS
from prober.stamp.probe_format import MAX_SSID, ProbeFormat
from prober.stamp.session import DEFAULT_RATE_PER_S, Probe, SenderSession
from prober.stamp.stamped_socket import ANY_ADDRESS, StampedSocket, Trouble
from prober.stamp.udp_reflector import WARM_UP_S
from prober.timestamp import NS_PER_S
from schemas.errors import ProbeError, UsageError

HIGHEST_RATE_PER_S = 100.0
"""As between neighbors: what the windows can hold."""


def random_ssid(random_source: random.Random) -> int:
    """A session identifier, which is never 0."""
    return random_source.randint(1, MAX_SSID)


class DirectSession:
    """Probes one reflector for a while.

    Args:
        peer: IPv4 address of the reflector.
        port: its port.
        clock: state of the own clock.
        now_ns: wall clock (CLOCK_REALTIME).
        random_source: draws the gaps between probes, and the SSID if none is given.
        rate_per_s: expected probes per second.
        probe_format: how probes look; its SSID should not be 0.
        address: local IPv4 address, 0.0.0.0 for the kernel's choice.

    Raises:
        UsageError: no rate that the windows can hold.
    """

    def __init__(
        self,
        peer: str,
        *,
        port: int = STAMP_PORT,
        clock: ClockState,
        now_ns: Callable[[], int],
        random_source: random.Random,
        rate_per_s: float = DEFAULT_RATE_PER_S,
        probe_format: ProbeFormat | None = None,
        address: str = ANY_ADDRESS,
    ) -> None:
        if not 0 < rate_per_s <= HIGHEST_RATE_PER_S:
            raise UsageError("rate", rate_per_s, f"more than 0, at most {HIGHEST_RATE_PER_S:g} per second")
        self.segment = Segment(peer)
        self.segment.role = Role.SENDER
        self.clock = clock
        self.faults: Counter[ProbeFault] = Counter()
        """Replies that were no good, and whatever else came to the socket."""
        self.reply_tos: int | None = None
        """The octet of DSCP and ECN with which the newest reply arrived."""
        self._port = port
        self._now_ns = now_ns
        self._address = address
        self._socket: StampedSocket[Probe] | None = None
        self._troubles: Counter[Trouble] = Counter()
        self._answered = asyncio.Event()
        self.session = SenderSession(
            self.segment,
            random_source=random_source,
            now_ns=now_ns(),
            rate_per_s=rate_per_s,
            probe_format=probe_format or ProbeFormat(ssid=random_ssid(random_source)),
            faults=self.faults,
        )

    def open(self) -> None:
        """Take the socket, in the network namespace of the calling thread.

        Raises:
            HostError: the address is not one of this machine.
        """
        self._socket = StampedSocket(self._address, 0, now_ns=self._now_ns)
        self._troubles = self._socket.troubles

    def close(self) -> None:
        """Give the socket back; may be called twice."""
        if self._socket:
            self._socket.close()
            self._socket = None

    def counters(self) -> Mapping[str, int]:
        """Bad packets (`ProbeFault`) and troubles of the socket, by kind; only what happened."""
        counts = (*self.faults.items(), *self._troubles.items())
        return {kind.value: count for kind, count in counts if count}

    async def run(
        self,
        *,
        duration_s: float | None = None,
        count: int | None = None,
        on_progress: Callable[[], None] = lambda: None,
    ) -> Segment:
        """Measure, once: send for so long, or so many probes, or until either is reached; then close.

        Args:
            duration_s: from the first possible probe on; the windows of the segment hold the last 60 s.
            count: of probes.
            on_progress: called after each probe.

        Raises:
            HostError: as `open`, if the socket was not opened before.
            UsageError: there is no end.
        """
        if duration_s is None and count is None:
            raise UsageError("duration", None, "a duration or a count")
        if self._socket is None:
            self.open()
        opened = self._socket
        assert opened is not None  # `open` raises or sets it
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(WARM_UP_S)
            opened.discard()
            loop.add_reader(opened, self._take_reply, opened)
            self.session.restart_schedule(self._now_ns())
            await self._send_all(opened, duration_s, count, on_progress)
            await self._wait_for_last_answers()
            self._note_departures(opened)
            self.session.finish()
        finally:
            loop.remove_reader(opened)
            self.close()
        return self.segment

    async def _send_all(
        self,
        opened: StampedSocket[Probe],
        duration_s: float | None,
        count: int | None,
        on_progress: Callable[[], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        end_s = float("inf") if duration_s is None else loop.time() + duration_s
        left = float("inf") if count is None else count
        while left > 0:
            if self.session.next_send_at_ns() - self._now_ns() > LONGEST_GAP_NS:  # the clock was set back
                self.session.restart_schedule(self._now_ns())
            wait_s = (self.session.next_send_at_ns() - self._now_ns()) / NS_PER_S
            if loop.time() + wait_s > end_s:
                return
            if wait_s > 0:
                await asyncio.sleep(wait_s)
                continue
            probe = self.session.probe(self._now_ns(), self.clock)
            opened.send(probe.data, probe.peer, self._port, probe, tos=probe.tos)
            self._note_departures(opened)
            left -= 1
            on_progress()

    async def _wait_for_last_answers(self) -> None:
        """For as long as a packet may take before it counts as lost."""
        try:
            async with asyncio.timeout(self.segment.loss_threshold_ns / NS_PER_S):
                while not self.session.all_answered:
                    self._answered.clear()
                    await self._answered.wait()
        except TimeoutError:
            return

    def _note_departures(self, opened: StampedSocket[Probe], *, to_the_end: bool = False) -> None:
        for probe, at_ns in opened.stamps(to_the_end=to_the_end):
            self.session.transmitted(probe.sequence, at_ns)

    def _take_reply(self, opened: StampedSocket[Probe]) -> None:
        datagram = opened.receive()
        if datagram is None:
            self._note_departures(opened, to_the_end=True)
            return
        self._note_departures(opened)
        try:
            if (datagram.address, datagram.port) != (self.segment.peer, self._port):
                raise ProbeError(ProbeFault.STRANGER)
            self.session.reply(datagram)
        except ProbeError as error:
            self.faults[ProbeFault(str(error))] += 1
            return
        self.reply_tos = datagram.tos
        self._answered.set()
