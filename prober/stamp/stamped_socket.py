"""A UDP socket whose datagrams carry the kernel's times (SO_TIMESTAMPING of Linux, software stamps).

A receive stamp comes with its datagram. A transmit stamp comes back on the error queue with a counter (OPT_ID)
that the kernel advances with every datagram. It is taken when the datagram enters the egress queue of the
interface (SCHED), not when it leaves the queue: a router's own egress queue is part of the segment, as every
forwarded packet waits in it too.

The system calls of every packet are made by `_stamped.c`, where it was built; what it gives is what the functions
of the same names here give, which take several times as long.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

from prober.stamp.datagram import Datagram
from prober.stamp.packet import SENT_TTL
from prober.timestamp import NS_PER_MS, NS_PER_S
from schemas.errors import HostError

try:
    from prober.stamp import _stamped
except ImportError:  # no compiler when it was installed: slower, and nothing else
    if not TYPE_CHECKING:
        _stamped = None

# Constants of Linux that Python 3.11 does not name.
_SO_TIMESTAMPING = 37
_IP_TOS = 1
_IP_TTL = 2
_IP_PKTINFO = 8
_IP_RECVERR = 11
_IP_RECVTTL = 12
_IP_RECVTOS = 13
_MSG_ERRQUEUE = 0x2000
_ORIGIN_TIMESTAMPING = 4
_TX_SCHED, _RX_SOFTWARE, _SOFTWARE, _OPT_ID, _OPT_TSONLY = 256, 8, 16, 128, 2048
_STAMPING = _TX_SCHED | _RX_SOFTWARE | _SOFTWARE | _OPT_ID | _OPT_TSONLY
_TIMESPEC = struct.Struct("@qq")
_EXTENDED_ERROR = struct.Struct("@IBBBBII")
_INT = struct.Struct("@i")
_PACKET_INFO = struct.Struct("@I4s4s")
"""Interface, local address, destination in the header; to send from an address it stands in the second."""
_ANCILLARY_BYTES = 256
_MAX_DATAGRAM_BYTES = 2048
ANY_ADDRESS = "0.0.0.0"
_OLDEST_STAMP_NS = 10 * NS_PER_S
_EARLIEST_STAMP_NS = NS_PER_MS
"""How far a receive stamp may lie after the reading: the clock is slewed."""
_MAX_AWAITED = 1024
_MAX_WAITING = 1024
"""More than the default receive buffer holds."""

_T = TypeVar("_T")
_Control = list[tuple[int, int, bytes]]
_Received = tuple[bytes, str, int, int | None, int | None, int, str | None]
"""UDP payload, source address and port, TTL, time in ns, the octet of DSCP and ECN, local address."""


class Trouble(StrEnum):
    """What a socket counts."""

    RECEIVE_STAMP_MISSING = "receive-stamp-missing"
    RECEIVE_STAMP_ABSURD = "receive-stamp-absurd"
    TRANSMIT_STAMP_ABSURD = "transmit-stamp-absurd"
    TRANSMIT_STAMP_UNKNOWN = "transmit-stamp-unknown"
    SEND_FAILED = "send-failed"
    TTL_MISSING = "ttl-missing"


class StampedSocket(Generic[_T]):
    """Sends datagrams with a tag each, and tells later for each tag when its datagram left.

    Args:
        address: local IPv4 address; 0.0.0.0 for all of them.
        port: local port, 0 for any.
        now_ns: wall clock (CLOCK_REALTIME, which the kernel's stamps use too).

    Raises:
        HostError: the port is in use, or the address is not one of this machine.
    """

    def __init__(self, address: str, port: int, *, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._next_key = 0
        self._awaited: dict[int, tuple[_T, int]] = {}
        self._departed: list[tuple[_T, int]] = []
        self.troubles: Counter[Trouble] = Counter()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, SENT_TTL)
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_RECVTOS, 1)
            if address == ANY_ADDRESS:
                self._socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _STAMPING)
            self._socket.bind((address, port))
        except OSError as error:
            self._socket.close()
            raise HostError(f"no probes on {address} port {port}: {_reason(error)}") from error
        self._fd = self._socket.fileno()

    @property
    def port(self) -> int:
        """The local port."""
        return int(self._socket.getsockname()[1])

    def fileno(self) -> int:
        """For the event loop. It is readable, too, while the error queue holds anything."""
        return self._socket.fileno()

    def close(self) -> None:
        """Give the port back."""
        self._fd = -1
        self._socket.close()

    def send(
        self, data: bytes, address: str, port: int, tag: _T, *, tos: int = 0, local_address: str | None = None
    ) -> bool:
        """Send; False when the kernel refuses (no route, filtered), which is a lost packet to the caller.

        Args:
            data: UDP payload.
            address: whereto.
            port: whereto.
            tag: what `stamps` gives back.
            tos: the octet of DSCP and ECN.
            local_address: which of our addresses it comes from; None for the kernel's choice.
        """
        ancillary: _Control = []
        if tos:
            ancillary.append((socket.IPPROTO_IP, _IP_TOS, _INT.pack(tos)))
        if local_address:
            info = _PACKET_INFO.pack(0, socket.inet_aton(local_address), bytes(4))
            ancillary.append((socket.IPPROTO_IP, _IP_PKTINFO, info))
        written_at_ns = self._now_ns()
        if _stamped is None or ancillary:
            sent = _send(self._socket, data, address, port, ancillary)
        else:
            sent = _stamped.send(self._fd, data, address, port)
        if not sent:
            self.troubles[Trouble.SEND_FAILED] += 1
            self._restart_keys()
            return False
        self._awaited[self._next_key] = (tag, written_at_ns)
        self._next_key = (self._next_key + 1) & 0xFFFFFFFF
        if len(self._awaited) > _MAX_AWAITED:
            del self._awaited[next(iter(self._awaited))]
        return True

    def receive(self) -> Datagram | None:
        """The next datagram; None when there is none."""
        received = _receive(self._socket) if _stamped is None else _stamped.receive(self._fd)
        if received is None:
            return None
        data, address, port, ttl, stamp_ns, tos, local_address = received
        if ttl is None:
            self.troubles[Trouble.TTL_MISSING] += 1
            ttl = SENT_TTL  # RFC 5357 section 4.2
        received_at_ns, user_stamped = self._checked(stamp_ns)
        return Datagram(data, address, port, ttl, received_at_ns, user_stamped, tos, local_address)

    def stamps(self, *, to_the_end: bool = False) -> list[tuple[_T, int]]:
        """Take departures from the error queue: (tag, time at which the datagram left).

        Args:
            to_the_end: read on when no departure is awaited any more: when the loop says that the socket is
                readable and no datagram is there, it is this queue that must be emptied.
        """
        departed, self._departed = self._departed, []
        while self._awaited or to_the_end:
            told = _departure(self._socket) if _stamped is None else _stamped.departure(self._fd)
            if told is None:
                break
            left = self._departed_at(*told)
            if left:
                departed.append(left)
        return departed

    def discard(self) -> None:
        """Drop what waits to be read: it may have come before the stamping began (see `UdpProber.start`)."""
        for _ in range(_MAX_WAITING):
            if self.receive() is None:
                return

    def _checked(self, stamp_ns: int | None) -> tuple[int, bool]:
        now_ns = self._now_ns()
        if stamp_ns is None:
            self.troubles[Trouble.RECEIVE_STAMP_MISSING] += 1
            return now_ns, True
        if not -_EARLIEST_STAMP_NS <= now_ns - stamp_ns <= _OLDEST_STAMP_NS:
            self.troubles[Trouble.RECEIVE_STAMP_ABSURD] += 1
            return now_ns, True
        return stamp_ns, False

    def _departed_at(self, key: int | None, stamp_ns: int | None) -> tuple[_T, int] | None:
        awaited = self._awaited.pop(key, None) if key is not None else None
        if awaited is None or stamp_ns is None:
            self.troubles[Trouble.TRANSMIT_STAMP_UNKNOWN] += 1
            return None
        tag, written_at_ns = awaited
        if not 0 <= stamp_ns - written_at_ns <= _OLDEST_STAMP_NS:
            self.troubles[Trouble.TRANSMIT_STAMP_ABSURD] += 1
            return None
        return tag, stamp_ns

    def _restart_keys(self) -> None:
        """Set the kernel's counter to 0: some failed sends advance it and some do not."""
        self._departed = self.stamps(to_the_end=True)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _STAMPING & ~_OPT_ID)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _STAMPING)
        self._awaited.clear()
        self._next_key = 0


def _send(opened: socket.socket, data: bytes, address: str, port: int, ancillary: _Control) -> bool:
    """Send; False when the kernel refuses."""
    try:
        opened.sendmsg((data,), ancillary, 0, (address, port))
    except OSError:
        return False
    return True


def _receive(opened: socket.socket) -> _Received | None:
    """The next datagram; TTL and time are None when the kernel did not tell them."""
    try:
        data, ancillary, _, source = opened.recvmsg(_MAX_DATAGRAM_BYTES, _ANCILLARY_BYTES)
    except OSError:  # none there, or an ICMP error of an earlier packet: both leave nothing to read
        return None
    stamp_ns = ttl = local_address = None
    tos = 0
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPING:
            stamp_ns = _stamp_ns(value)
        elif level == socket.IPPROTO_IP and kind == _IP_TTL:
            (ttl,) = _INT.unpack_from(value)
        elif level == socket.IPPROTO_IP and kind == _IP_TOS:
            tos = value[0]
        elif level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            local_address = socket.inet_ntoa(_PACKET_INFO.unpack_from(value)[1])
    return data, source[0], source[1], ttl, stamp_ns, tos, local_address


def _departure(opened: socket.socket) -> tuple[int | None, int | None] | None:
    """Counter and time of the next entry of the error queue; None each, where it tells of no departure."""
    try:
        _, ancillary, _, _ = opened.recvmsg(0, _ANCILLARY_BYTES, _MSG_ERRQUEUE)
    except OSError:  # empty
        return None
    stamp_ns = key = None
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPING:
            stamp_ns = _stamp_ns(value)
        elif level == socket.IPPROTO_IP and kind == _IP_RECVERR:
            _, origin, _, _, _, _, data = _EXTENDED_ERROR.unpack_from(value)
            key = data if origin == _ORIGIN_TIMESTAMPING else None
    return key, stamp_ns


def _stamp_ns(value: bytes) -> int | None:
    seconds, nanoseconds = _TIMESPEC.unpack_from(value)
    return seconds * NS_PER_S + nanoseconds or None


def _reason(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "the port is in use; does another measurement point run here?"
        case errno.EADDRNOTAVAIL:
            return "the address is not one of this machine"
        case errno.EACCES:
            return "ports below 1024 need CAP_NET_BIND_SERVICE"
        case _:
            return error.strerror or str(error)
