"""The socket of the bandwidth test: the kernel's time with each datagram, and streams that keep their intervals.

`StampedSocket` does not fit: it would gather a transmit stamp of every packet of every stream.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from prober.bandwidth.gate import StreamOrder
from prober.bandwidth.packet import StreamProbe, stamp_probe
from prober.timestamp import NS_PER_S
from schemas.errors import HostError

# Constants of Linux that Python 3.11 does not name.
_SO_TIMESTAMPNS = 35
_IP_MTU_DISCOVER = 10
_IP_PMTUDISC_DO = 2
_PR_SET_TIMERSLACK = 29
_TIMESPEC = struct.Struct("@qq")
_ANCILLARY_BYTES = 128
_MAX_DATAGRAM_BYTES = 2048
BUFFER_BYTES = 1 << 20
"""Holds a stream of 400 packets; the kernel gives less where net.core.rmem_max says so, and 100 always fit."""
SPIN_NS = 80_000
"""A sleeping thread of a virtual machine wakes up to so late; the rest of the time it looks at the clock."""
LEAD_NS = 1_000_000
"""From the order to the first packet."""
REAL_TIME_PRIORITY = 1
"""Above ordinary work, below everything else; the thread is busy for a few percent of an estimate's time."""
MAX_LAG_INTERVALS = 3
"""A longer pause is not made up for: a burst would say nothing of the rate and could hurt others."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Datagram:
    """What came, and when by the kernel's wall clock."""

    data: bytes
    address: str
    port: int
    received_at_ns: int


class BandwidthSocket:
    """Bound to one address and port; in the network namespace of the thread that makes it.

    Raises:
        HostError: the port is in use, or the address is not one of this machine.
    """

    def __init__(self, address: str, port: int, *, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self.unstamped = 0
        """Datagrams without a time of the kernel."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
            self._socket.bind((address, port))
        except OSError as error:
            self._socket.close()
            reason = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
            raise HostError(f"no bandwidth test on {address} port {port}: {reason}") from error

    @property
    def port(self) -> int:
        """The local port."""
        return int(self._socket.getsockname()[1])

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()

    def send(self, data: bytes | bytearray, address: str, port: int) -> bool:
        """Send; False when the kernel refuses, which is a lost packet to the caller."""
        try:
            self._socket.sendto(data, (address, port))
        except OSError:
            return False
        return True

    def receive(self) -> Datagram | None:
        """The next datagram; None when there is none."""
        try:
            data, ancillary, _, source = self._socket.recvmsg(_MAX_DATAGRAM_BYTES, _ANCILLARY_BYTES)
        except OSError:  # none there, or an ICMP error of an earlier packet
            return None
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
                seconds, nanoseconds = _TIMESPEC.unpack_from(value)
                return Datagram(data, source[0], source[1], seconds * NS_PER_S + nanoseconds)
        self.unstamped += 1
        return Datagram(data, source[0], source[1], self._now_ns())

    def send_stream(self, order: StreamOrder, is_stopped: Callable[[], bool]) -> int:
        """Send a whole stream, in a thread of its own: it sleeps and spins; the number of packets sent.

        The times in the packets are of the monotonic clock, read just before each is handed to the kernel.
        """
        _become_punctual()
        shape = order.shape
        data = bytearray(StreamProbe(order.stream, 0, 0, shape.packet_bytes).to_bytes())
        due_ns = time.monotonic_ns() + LEAD_NS
        sent = 0
        for sequence in range(shape.packets):
            now_ns = _await(due_ns)
            if is_stopped():
                break
            stamp_probe(data, sequence, now_ns)
            sent += self.send(data, order.address, order.port)
            late_ns = now_ns - due_ns
            due_ns += shape.interval_ns + (late_ns if late_ns > MAX_LAG_INTERVALS * shape.interval_ns else 0)
        return sent


def _become_punctual() -> None:
    """For the calling thread alone. Where the host refuses, a busy one spoils streams, which the receiver sees."""
    _libc.prctl(_PR_SET_TIMERSLACK, 1)  # the usual slack of 50 us is too coarse
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(REAL_TIME_PRIORITY))


def _await(at_ns: int) -> int:
    """Return when it is time; the time."""
    left_ns = at_ns - time.monotonic_ns() - SPIN_NS
    if left_ns > 0:
        time.sleep(left_ns / NS_PER_S)  # noqa: TID251 - a thread that does nothing else; a loop's timer is too coarse
    now_ns = time.monotonic_ns()
    while now_ns < at_ns:
        now_ns = time.monotonic_ns()
    return now_ns
