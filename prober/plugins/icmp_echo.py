"""The plug-in `icmp-rtt`: round-trip time by ICMP echo, as `ping` measures it (RFC 2681, RFC 792).

What it adds to `rtt`: it needs nothing at the far end but its kernel, and takes the way of ICMP.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from prober.plugins.echo_series import ECHO_REPLY, EchoSeries
from prober.plugins.plugin import Sample
from prober.timestamp import NS_PER_S
from schemas.errors import HostError, NoAnswerError, ProbeError
from schemas.metrics import Composition, Metric, ScalarStatistics

ECHOES: Final = 5
GAP_S: Final = 0.2
"""The shortest that `ping` allows everybody."""
LAST_REPLY_S: Final = 2.0
"""How long replies are waited for after the last request."""
LEAST_REPLIES: Final = 2
"""One alone tells nothing of the spread."""
COOKIE_BYTES: Final = 16

# Constants of Linux that Python 3.11 does not name.
_SOL_RAW = 255
_ICMP_FILTER = 1
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@qq")
_FILTER = struct.Struct("@I")
_ANCILLARY_BYTES = 64
_MAX_PACKET_BYTES = 2048

ICMP_RTT: Final = Metric(
    name="icmp-rtt",
    unit="ms",
    statistics=ScalarStatistics,
    composition=Composition.SUM,
    source="RFC 2681 by RFC 792 echo",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IcmpEcho:
    """Sends a few echo requests, and gives the mean round-trip time of those that are answered."""

    now_ns: Callable[[], int]
    """Wall clock (CLOCK_REALTIME), which the kernel's receive times use too."""
    metric: Metric = ICMP_RTT
    interval_s: float = 30.0
    timeout_s: float = 5.0

    async def measure(self, own: str, peer: str) -> Sample:
        """Milliseconds, with Student's t interval.

        Raises:
            HostError: no raw socket (CAP_NET_RAW), or `own` is no address of this machine.
            NoAnswerError: fewer than LEAST_REPLIES replies.
        """
        series = EchoSeries(identifier=secrets.randbits(16), cookie=secrets.token_bytes(COOKIE_BYTES))
        with _open_socket(own, peer) as opened:
            await self._exchange(opened, series)
        round_trips_ms = series.round_trips_ms()
        if len(round_trips_ms) < LEAST_REPLIES:
            got = f"{len(round_trips_ms)} replies to {series.sent} echo requests"
            raise NoAnswerError(f"{peer}: got {got}, expected at least {LEAST_REPLIES}")
        return Sample.mean_of(round_trips_ms, least=0.0)

    async def _exchange(self, opened: socket.socket, series: EchoSeries) -> None:
        loop = asyncio.get_running_loop()
        answered = asyncio.Event()
        loop.add_reader(opened, self._receive, opened, series, answered)
        try:
            for number in range(ECHOES):
                await asyncio.sleep(GAP_S if number else 0)
                answered.clear()
                request = series.request()
                series.leaves(self.now_ns())
                with suppress(OSError):  # no way there, or an ICMP error to an earlier one: a lost request
                    opened.send(request)
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_REPLY_S):
                    await answered.wait()
        finally:
            loop.remove_reader(opened)

    def _receive(self, opened: socket.socket, series: EchoSeries, answered: asyncio.Event) -> None:
        try:
            packet, ancillary, _, _ = opened.recvmsg(_MAX_PACKET_BYTES, _ANCILLARY_BYTES)
        except OSError:  # an ICMP error to a request
            return
        with suppress(ProbeError):  # a reply to somebody else of this host
            series.reply(packet, _received_at_ns(ancillary) or self.now_ns())
        if series.is_answered:
            answered.set()


def _open_socket(own: str, peer: str) -> socket.socket:
    """A raw socket that gets only echo replies from `peer` to `own`."""
    try:
        opened = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    except OSError as error:
        raise HostError(f"raw socket: {error.strerror}, expected CAP_NET_RAW") from error
    try:
        opened.setblocking(False)
        opened.setsockopt(_SOL_RAW, _ICMP_FILTER, _FILTER.pack(0xFFFFFFFF & ~(1 << ECHO_REPLY)))
        opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        opened.bind((own, 0))
        opened.connect((peer, 0))
    except OSError as error:
        opened.close()
        raise HostError(f"ICMP echo from {own} to {peer}: {error.strerror}") from error
    return opened


def _received_at_ns(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack_from(value)
            return int(seconds * NS_PER_S + nanoseconds)
    return None


PLUGIN: Final = IcmpEcho(now_ns=time.time_ns)
"""What the entry point `icmp-rtt` loads."""
