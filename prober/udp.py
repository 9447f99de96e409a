"""Drives a `Prober` on an asyncio loop: two UDP sockets and one timer.

Probes are answered by `UdpReflector`. Replies wait in their socket until some can be taken together, since their
times are the kernel's: to wake the process costs as much as to take a reply in, and code that runs again and again
is three times as fast as code that runs once. Either way a flood leaves the loop to others in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping

from prober.clock_steps.detector import ClockStepDetector
from prober.prober import Prober
from prober.segment import SegmentSnapshot
from prober.stamp.datagram import Datagram
from prober.stamp.packet import STAMP_PORT
from prober.stamp.session import Probe
from prober.stamp.stamped_socket import StampedSocket, Trouble
from prober.stamp.udp_reflector import WARM_UP_S, UdpReflector
from prober.timestamp import NS_PER_S
from schemas.errors import ProbeError

logger = logging.getLogger(__name__)

LONGEST_SLEEP_S = 1.0
"""Planned times are wall-clock times; a step of that clock must not put the prober to sleep."""
MAX_UNREAD = 64
"""So many probes may be sent before their replies are read: a quarter of what the socket's buffer holds."""
MAX_BATCH = 128


class UdpProber:
    """A running prober.

    Args:
        prober: the segments; its address is the local address of all packets.
        port: port on which this point reflects, and on which its peers do.
        now_ns: wall clock (CLOCK_REALTIME).
        monotonic_ns: a clock that never steps (CLOCK_MONOTONIC), beside which steps of the wall clock are seen.
    """

    def __init__(
        self,
        prober: Prober,
        *,
        port: int = STAMP_PORT,
        now_ns: Callable[[], int],
        monotonic_ns: Callable[[], int],
    ) -> None:
        self.prober = prober
        self._port = port
        self._now_ns = now_ns
        self._monotonic_ns = monotonic_ns
        self._steps = ClockStepDetector()
        self._reflecting: UdpReflector | None = None
        self._sending: StampedSocket[Probe] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._read_at_ns = 0
        """When replies were last read, on the clock that never steps."""
        self._unread = 0
        """Probes sent since."""
        self._reads_at_once = False
        """The kernel takes no receive times, so the process must."""

    def open(self) -> None:
        """Take the sockets, in the network namespace of the calling thread.

        Raises:
            HostError: the port is in use, or the address is not one of this machine.
        """
        address = self.prober.address
        self._reflecting = UdpReflector(self.prober, address, self._port, now_ns=self._now_ns)
        try:
            self._sending = StampedSocket(address, 0, now_ns=self._now_ns)
        except BaseException:
            self._reflecting.close()
            self._reflecting = None
            raise

    async def start(self) -> None:
        """Open the sockets if `open` did not, wait until stamps are reliable, and run until `close`.

        Raises:
            HostError: as `open`.
        """
        if self._reflecting is None or self._sending is None:
            self.open()
        await asyncio.sleep(WARM_UP_S)
        reflecting, sending = self._reflecting, self._sending
        if reflecting is None or sending is None:
            return  # closed meanwhile
        sending.discard()
        reflecting.start()
        self._wake()

    async def close(self) -> None:
        """Stop at once and give the ports back; may be called twice."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._reflecting:
            self._reflecting.close()
        if self._sending:
            asyncio.get_running_loop().remove_reader(self._sending)
            self._sending.close()
        self._reflecting = self._sending = None

    def want(self, peer: str, *, configured: bool = False) -> None:
        """Ask for a segment; see `Prober.want`."""
        self.prober.want(peer, self._now_ns(), configured=configured)
        if self._timer:
            self._arm()

    def meet(self, peer: str) -> None:
        """Learn of a neighbor; see `Prober.meet`."""
        self.prober.meet(peer, self._now_ns())
        if self._timer:
            self._arm()

    def take_replies(self) -> None:
        """Take in at once those that would wait: for whoever is about to change how replies are read."""
        if self._sending and self._timer:
            self._look_for_step()
            self._take_replies(self._sending)

    def snapshots(self) -> tuple[SegmentSnapshot, ...]:
        """What is known of every neighbor."""
        return self.prober.segments(self._now_ns())

    def counters(self) -> Mapping[str, int]:
        """Troubles of both sockets and bad packets (`ProbeFault`), by kind; only what happened."""
        total = Counter({kind.value: count for kind, count in self.prober.faults.items()})
        if self._reflecting:
            total.update(self._reflecting.troubles)
        if self._sending:
            total.update({kind.value: count for kind, count in self._sending.troubles.items()})
        return +total

    def _wake(self) -> None:
        sending = self._sending
        if sending is None:
            return
        self._look_for_step()  # before anything is learned: what the step crosses must be known as such
        monotonic_ns = self._monotonic_ns()
        if self._unread >= MAX_UNREAD or monotonic_ns - self._read_at_ns >= self.prober.reply_wait_ns:
            self._read_at_ns, self._unread = monotonic_ns, 0
            self._take_replies(sending)
        for probe in self.prober.due(self._now_ns()):
            sending.send(probe.data, probe.peer, self._port, probe, tos=probe.tos)
            self._unread += 1
        self._note_departures(sending)
        self._set_timer()

    def _look_for_step(self) -> None:
        before_ns = self._monotonic_ns()
        now_ns = self._now_ns()
        after_ns = self._monotonic_ns()
        step_ns = self._steps.observe(now_ns, after_ns, read_took_ns=after_ns - before_ns)
        if step_ns is not None:
            logger.warning("this host's clock was set by %+.6f s: one-way delays begin anew", step_ns / NS_PER_S)
            self.prober.clock_stepped(now_ns, step_ns=step_ns)

    def _arm(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._set_timer()

    def _set_timer(self) -> None:
        wakeup_ns = self.prober.next_wakeup_ns()
        sleep_s = LONGEST_SLEEP_S if wakeup_ns is None else (wakeup_ns - self._now_ns()) / NS_PER_S
        longest_s = self.prober.reply_wait_ns / NS_PER_S if self._unread else LONGEST_SLEEP_S
        self._timer = asyncio.get_running_loop().call_later(min(max(0.0, sleep_s), longest_s), self._wake)

    def _note_departures(self, sending: StampedSocket[Probe], *, to_the_end: bool = False) -> None:
        for probe, at_ns in sending.stamps(to_the_end=to_the_end):
            self.prober.probe_transmitted(probe.peer, probe.sequence, at_ns)

    def _take_replies(self, sending: StampedSocket[Probe]) -> None:
        for _ in range(MAX_BATCH):
            datagram = sending.receive()
            if datagram is None:
                self._note_departures(sending, to_the_end=True)
                break
            self._take_reply(datagram)
        if sending.troubles[Trouble.RECEIVE_STAMP_MISSING] and not self._reads_at_once:
            self._reads_at_once = True
            asyncio.get_running_loop().add_reader(sending, self._take_replies, sending)

    def _take_reply(self, datagram: Datagram) -> None:
        with contextlib.suppress(ProbeError):  # the prober has counted it
            self.prober.reply_received(datagram)
