"""Answers probes on a UDP port, on an asyncio loop.

One datagram is taken per wake-up, so that a flood leaves the loop to others in between, until many neighbors probe
this point and nobody else sends anything: then probes wait for REST_S and are answered together, since to wake
the process costs as much as to answer some. What happens between T2 and T3 is part of no delay of a point, and
both times are the kernel's. Other senders may take the whole time until the reply, and get theirs at once.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

from prober.clock_state import ClockState
from prober.stamp.datagram import Datagram
from prober.stamp.fault import ProbeFault
from prober.stamp.reflected_session import Source
from prober.stamp.reflector import Reflector, Reply
from prober.stamp.stamped_socket import StampedSocket
from schemas.errors import ProbeError

WARM_UP_S = 0.1
"""Receive stamping begins up to 50 ms after it is asked for; until then a packet gets the time of its reading."""

SERIES = 128
BUSY_RATE_PER_S = 150.0
"""So many usual probes of neighbors in a row, at this rate or a higher one, let the next ones wait."""
REST_S = 0.03
"""How long they wait on average. It is drawn anew each time, so that no raster goes into the times of the replies.
The socket's buffer holds what comes meanwhile from all neighbors that a point may have, three times over."""
MAX_AT_ONCE = 32


class Answering(Protocol):
    """Who says what is answered; see `Prober`, which does, or `LoneReflector`."""

    def probe_received(self, datagram: Datagram, now_ns: int) -> Reply | None:
        """Answer a probe; a ProbeError when there is no answer to it."""

    def reply_transmitted(self, source: Source, number: int, at_ns: int) -> None:
        """The kernel tells when a reply left."""


class LoneReflector:
    """A reflector that belongs to no measurement point.

    Args:
        reflector: what answers.
        clock: state of the own clock; assign `clock` when it changes.
        faults: the counter that the reflector was given, in which its refusals are counted too.
    """

    def __init__(self, reflector: Reflector, clock: ClockState, faults: Counter[ProbeFault]) -> None:
        self.reflector = reflector
        self.clock = clock
        self.faults = faults

    def probe_received(self, datagram: Datagram, now_ns: int) -> Reply | None:
        """Answer a probe; see `Reflector.probe_received`.

        Raises:
            ProbeError: nothing must be answered.
        """
        try:
            return self.reflector.probe_received(datagram, now_ns=now_ns, clock=self.clock)
        except ProbeError as error:
            self.faults[ProbeFault(str(error))] += 1
            raise

    def reply_transmitted(self, source: Source, number: int, at_ns: int) -> None:
        """The kernel tells when a reply left."""
        self.reflector.transmitted(source, number, at_ns)


class UdpReflector:
    """A port on which probes are answered.

    Args:
        answering: what is answered.
        address: local IPv4 address, 0.0.0.0 for all of them.
        port: local port.
        now_ns: wall clock (CLOCK_REALTIME).

    Raises:
        HostError: the port is in use, or the address is not one of this machine.
    """

    def __init__(self, answering: Answering, address: str, port: int, *, now_ns: Callable[[], int]) -> None:
        self._answering = answering
        self._now_ns = now_ns
        self._socket: StampedSocket[Reply] = StampedSocket(address, port, now_ns=now_ns)
        self._own_port = self._socket.port
        self._faults: Counter[ProbeFault] = Counter()
        self._series = 0
        """Usual probes in a row."""
        self._series_began_s = 0.0
        self._may_rest = False
        self._resting: asyncio.Handle | None = None
        self.replies = 0
        """Sent so far."""

    @property
    def troubles(self) -> Mapping[str, int]:
        """What happened to the socket, by kind."""
        return {kind.value: count for kind, count in (*self._socket.troubles.items(), *self._faults.items())}

    @property
    def port(self) -> int:
        """The local port."""
        return self._own_port

    def start(self) -> None:
        """Answer from now on; WARM_UP_S after the start of the object its times are reliable."""
        self._socket.discard()
        self._begin_series(may_rest=False)
        asyncio.get_running_loop().add_reader(self._socket, self._readable)

    def close(self) -> None:
        """Stop at once and give the port back."""
        if self._resting:
            self._resting.cancel()
            self._resting = None
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _readable(self) -> None:
        self._take_next()
        if self._may_rest:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket)
            self._rest(loop)

    def _rest(self, loop: asyncio.AbstractEventLoop) -> None:
        self._resting = loop.call_later(REST_S * (0.5 + random.random()), self._take_waiting)

    def _take_waiting(self) -> None:
        """Answer what came meanwhile, and rest again, or be woken by the next datagram when that is over."""
        taken = 0
        while self._may_rest and taken < MAX_AT_ONCE and self._take_next():
            taken += 1
        loop = asyncio.get_running_loop()
        if self._may_rest and taken == MAX_AT_ONCE:
            self._resting = loop.call_soon(self._take_waiting)
        elif self._may_rest and taken:
            self._rest(loop)
        else:
            self._resting = None
            loop.add_reader(self._socket, self._readable)

    def _take_next(self) -> bool:
        """Take a datagram, if there is one."""
        datagram = self._socket.receive()
        if datagram is None:
            self._note_departures(to_the_end=True)
            return False
        if datagram.port == self._own_port:
            # A reply is a valid probe too (RFC 8762 section 4.6), and its source is easily forged.
            self._faults[ProbeFault.FROM_REFLECTOR] += 1
            self._begin_series(may_rest=False)
            return True
        if not self._answer(datagram):
            self._begin_series(may_rest=False)
            return True
        self._series += 1
        if self._series == SERIES:
            elapsed_s = asyncio.get_running_loop().time() - self._series_began_s
            self._begin_series(may_rest=elapsed_s < SERIES / BUSY_RATE_PER_S)
        return True

    def _begin_series(self, *, may_rest: bool) -> None:
        self._series, self._may_rest = 0, may_rest
        self._series_began_s = asyncio.get_running_loop().time()

    def _answer(self, datagram: Datagram) -> bool:
        """Answer what must be answered; whether it was a usual probe."""
        try:
            reply = self._answering.probe_received(datagram, self._now_ns())
        except ProbeError:  # counted where it was raised
            return False
        if reply:
            self.replies += self._socket.send(
                reply.data,
                datagram.address,
                datagram.port,
                reply,
                tos=reply.tos,
                local_address=datagram.local_address,
            )
            # The stamp is there already, and the next reply may be to the same sender and must tell it.
            self._note_departures()
        return reply is not None and reply.is_usual

    def _note_departures(self, *, to_the_end: bool = False) -> None:
        for reply, at_ns in self._socket.stamps(to_the_end=to_the_end):
            self._answering.reply_transmitted(reply.source, reply.number, at_ns)
