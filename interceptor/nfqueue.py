"""The kernel's packet queue (NFQUEUE): the only importer of the netfilterqueue library.

What the library leaves open is closed here: the receive buffer beyond `net.core.rmem_max`, fail-open, exceptions
that would end its loop with a packet lost, and the kernel's own counters.

A packet of more than `LONGEST_PACKET_BYTES` is shown by its beginning, which `decode_packet` refuses, and goes
on unchanged.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from netfilterqueue import NetfilterQueue, Packet

from interceptor.packet_queue import LONGEST_PACKET_BYTES, HandlerGuard, PacketHandler, Shortcut, no_shortcut
from schemas.errors import HostError, UsageError

logger = logging.getLogger(__name__)

QUEUE_LENGTH = 8192
"""Packets that may wait; enough for a stall of 80 ms at 100,000 packets/s."""

SOCKET_BUFFER_BYTES = 16 * 1024 * 1024
"""Holds 8192 packets of 1500 octets with the kernel's overhead; the default buffer holds only 256."""

# linux/netlink.h, linux/netfilter/nfnetlink.h and nfnetlink_queue.h, which Python does not know.
NETLINK_NETFILTER = 12
NLMSG_ERROR = 2
NLM_F_REQUEST = 1
NFNL_SUBSYS_QUEUE = 3
NFQNL_MSG_PACKET = 0
NFQNL_MSG_CONFIG = 2
NFQNL_MSG_VERDICT_BATCH = 3
NFQA_VERDICT_HDR = 2
NF_ACCEPT = 1
NFQA_CFG_QUEUE_MAXLEN = 3
NFQA_CFG_MASK = 4
NFQA_CFG_FLAGS = 5
NFQA_CFG_F_FAIL_OPEN = 1
SO_RCVBUFFORCE = 33

# Of the calling thread, since a thread may have entered another network namespace than its process.
QUEUE_STATISTICS = "/proc/thread-self/net/netfilter/nfnetlink_queue"

_MESSAGE_HEADER = struct.Struct("=IHHII")
_NETFILTER_HEADER = struct.Struct("!BBH")
_ATTRIBUTE = struct.Struct("=HH4s")
_VERDICT = struct.Struct("=HH8s")
_PACKET_BEGINNING = struct.Struct("=4xH18x4s")
"""Of a packet's message: its kind, and the packet's id, which the kernel puts first (NFQA_PACKET_HDR)."""
VERDICTS_AT_ONCE = 256
"""By one message to the kernel, which carries so many packets on before it returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCounters:
    """How a queue fares; all but `waiting` count from the moment it was bound.

    Packets that passed unprocessed since the queue was full are not counted by the kernel: they are the
    difference between the packets that met the firewall rule and `queued`.
    """

    waiting: int
    """Packets that have no verdict yet."""
    queued: int
    """Packets that the kernel gave a place in the queue (modulo 2**32)."""
    queue_dropped: int
    """Packets dropped since the queue was full; stays 0 while it fails open."""
    user_dropped: int
    """Packets dropped since the socket's buffer was full; stays 0 while the queue fails open."""
    handled: int
    """Packets that were shown to the handler, or replaced by its shortcut."""
    failed: int
    """Packets that went on unchanged because the handler failed."""


class KernelPacket:
    """One packet of a `KernelQueue`; it satisfies `QueuedPacket`."""

    __slots__ = ("_packet", "decided", "payload")

    def __init__(self, packet: Packet, payload: bytes) -> None:
        self._packet = packet
        self.payload = payload
        self.decided = False

    @property
    def arrived_at_ns(self) -> int | None:
        """When the kernel received it, nanoseconds since the Unix epoch, exact to a microsecond.

        None unless some socket of the machine has asked for time stamps. In the first 50 ms after that the
        kernel may give the time of reading instead.
        """
        timestamp_s = self._packet.get_timestamp()
        return round(timestamp_s * 1_000_000) * 1_000 if timestamp_s else None

    def accept(self) -> None:
        """Let the packet go on as it came."""
        self._packet.accept()
        self.decided = True

    def accept_with(self, packet: bytes) -> None:
        """Let another packet go on in its place."""
        if self.decided:
            raise RuntimeError("verdict already given for this packet")
        self._packet.set_payload(packet)
        self._packet.accept()
        self.decided = True

    def drop(self) -> None:
        """End the packet here."""
        self._packet.drop()
        self.decided = True


class KernelQueue:
    """One bound queue; a context manager, whose end decides on all waiting packets before it unbinds.

    Bind it before the firewall rule is installed and remove the rule before the end, since the kernel drops
    what waits in a queue that is unbound. CAP_NET_ADMIN is needed as long as it lives.

    Args:
        number: of the queue, 0 to 65535, within the network namespace of the calling thread.
        handler: gives each packet its verdict before it returns. The packet goes on unchanged if it fails.
        length: packets that may wait; the excess goes on unprocessed.
        socket_buffer_bytes: room for the waiting packets.
        monotonic_ns: the clock that limits log lines about a failing handler.
        shortcut: is asked before the handler.

    Raises:
        UsageError: the number is none of a queue.
        HostError: the queue is in use, or the process may not bind it.
    """

    def __init__(
        self,
        number: int,
        handler: PacketHandler,
        *,
        length: int = QUEUE_LENGTH,
        socket_buffer_bytes: int = SOCKET_BUFFER_BYTES,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        shortcut: Shortcut = no_shortcut,
    ) -> None:
        if not 0 <= number <= 0xFFFF:
            raise UsageError("queue_number", number, "0 to 65535")
        self.number = number
        self._length = length
        self._guard = HandlerGuard(handler, monotonic_ns)
        self._shortcut = shortcut
        self._replaced = 0
        self._statistics = _open_statistics()
        try:
            self._queue: NetfilterQueue | None = self._bind(length, socket_buffer_bytes)
        except BaseException:
            os.close(self._statistics)
            raise

    def _bind(self, length: int, socket_buffer_bytes: int) -> NetfilterQueue:
        try:
            queue = NetfilterQueue()
        except OSError as error:
            raise HostError(
                f"packet queue {self.number}: the kernel refuses ({error}); "
                "run with CAP_NET_ADMIN and the kernel module nfnetlink_queue"
            ) from error
        with self._netlink(queue) as netlink:
            _enlarge_receive_buffer(netlink, socket_buffer_bytes)
            # The library sets the buffer again and warns if it gets another size than this.
            buffer_bytes = netlink.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
            try:
                queue.bind(self.number, self._take, length, range=LONGEST_PACKET_BYTES, sock_len=buffer_bytes)
            except OSError as error:
                raise HostError(self._why_not_bound()) from error
            _fail_open(netlink, self.number)
        return queue

    @staticmethod
    def _netlink(queue: NetfilterQueue) -> socket.socket:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER, fileno=os.dup(queue.get_fd()))

    def _why_not_bound(self) -> str:
        if _statistics_of(self.number, _read_statistics(self._statistics)) is not None:
            return f"packet queue {self.number} is in use; stop its owner or configure another number"
        return f"packet queue {self.number}: the kernel refuses to bind it; run with CAP_NET_ADMIN"

    def _take(self, packet: Packet) -> None:
        payload = packet.get_payload()
        try:
            replacement = self._shortcut(payload)
        except Exception as error:  # noqa: BLE001 -- the handler sees the packet then
            self._guard.count_failure(f"raised {error!r} on its shortcut")
            replacement = None
        if replacement is None:
            self._guard.show(KernelPacket(packet, payload))
        else:
            packet.set_payload(replacement)
            packet.accept()
            self._replaced += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Decide on what waits, then give the queue back to the kernel; more than once does no harm."""
        if self._queue is None:
            return
        try:
            self.process_pending()
        finally:
            self._queue.unbind()
            self._queue = None  # the library closes its socket when the last reference goes
            os.close(self._statistics)

    def fileno(self) -> int:
        """The descriptor that becomes readable when packets wait."""
        return self._bound().get_fd()

    def process_pending(self) -> None:
        """Show packets to the handler until none waits; never blocks.

        It returns only when it caught up, so the firewall rule must limit the rate to what the handler can do.
        """
        self._bound().run(block=False)

    def pass_waiting(self) -> int:
        """Let all packets that wait go on as they came, unseen; also from within the handler, after its verdict.

        It takes a tenth of the time of showing them: whoever has fallen behind catches up by it.

        Returns:
            How many they were.
        """
        passed = 0
        with self._netlink(self._bound()) as netlink:
            while newest := _read_unseen(netlink):
                count, identifier = newest
                netlink.send(accept_request(self.number, identifier))
                passed += count
        return passed

    def pause(self) -> None:
        """Let packets go on as they come, unseen and at once, until `resume`; those that wait go on waiting."""
        self._hold(0)

    def resume(self) -> None:
        """Take packets again, as many as may wait."""
        self._hold(self._length)

    def _hold(self, length: int) -> None:
        with self._netlink(self._bound()) as netlink:
            netlink.send(length_request(self.number, length))

    def counters(self) -> QueueCounters:
        """The kernel's counters and our own, as of now."""
        self._bound()
        fields = _statistics_of(self.number, _read_statistics(self._statistics))
        if fields is None:
            raise HostError(f"packet queue {self.number} is no longer listed by the kernel; bind it again")
        return QueueCounters(
            waiting=fields[2],
            queued=fields[7],
            queue_dropped=fields[5],
            user_dropped=fields[6],
            handled=self._guard.handled + self._replaced,
            failed=self._guard.failed,
        )

    def _bound(self) -> NetfilterQueue:
        if self._queue is None:
            raise ValueError(f"packet queue {self.number} is closed")
        return self._queue


def _enlarge_receive_buffer(netlink: socket.socket, wanted_bytes: int) -> None:
    try:
        netlink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, wanted_bytes)
    except PermissionError:  # in a container: the capability of the machine's first namespace is missing
        netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted_bytes)
    # The kernel reports twice the size that was asked for (socket(7)).
    got_bytes = netlink.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    if got_bytes < wanted_bytes:
        logger.warning("packet queue: socket buffer is %d octets, wanted %d", got_bytes, wanted_bytes)


def fail_open_request(number: int) -> bytes:
    """The netlink message that lets packets pass queue `number` when it is full (nfnetlink_queue.h)."""
    flag = NFQA_CFG_F_FAIL_OPEN.to_bytes(4)
    return _configuration(number, (NFQA_CFG_MASK, flag), (NFQA_CFG_FLAGS, flag))


def length_request(number: int, length: int) -> bytes:
    """The netlink message that says how many packets may wait in queue `number`."""
    return _configuration(number, (NFQA_CFG_QUEUE_MAXLEN, length.to_bytes(4)))


def _configuration(number: int, *attributes: tuple[int, bytes]) -> bytes:
    body = _NETFILTER_HEADER.pack(socket.AF_UNSPEC, 0, number) + b"".join(
        _ATTRIBUTE.pack(_ATTRIBUTE.size, kind, value) for kind, value in attributes
    )
    kind = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_CONFIG
    return _MESSAGE_HEADER.pack(_MESSAGE_HEADER.size + len(body), kind, NLM_F_REQUEST, 0, 0) + body


def accept_request(number: int, newest: bytes) -> bytes:
    """The netlink message that lets all packets of queue `number` go on up to the one whose id is `newest`."""
    body = _NETFILTER_HEADER.pack(socket.AF_UNSPEC, 0, number) + _VERDICT.pack(
        _VERDICT.size, NFQA_VERDICT_HDR, NF_ACCEPT.to_bytes(4) + newest
    )
    kind = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_VERDICT_BATCH
    return _MESSAGE_HEADER.pack(_MESSAGE_HEADER.size + len(body), kind, NLM_F_REQUEST, 0, 0) + body


def _read_unseen(netlink: socket.socket) -> tuple[int, bytes] | None:
    """Take packets out of the socket: how many, and the id of the newest; None when there is none."""
    beginning = bytearray(_PACKET_BEGINNING.size)
    count, newest = 0, b""
    while count < VERDICTS_AT_ONCE:
        try:
            netlink.recv_into(beginning, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            break
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # that one tells only that others have passed since it was full
                raise
            continue
        kind, identifier = _PACKET_BEGINNING.unpack(beginning)
        if kind == NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET:
            count, newest = count + 1, identifier
    return (count, newest) if count else None


def _fail_open(netlink: socket.socket, number: int) -> None:
    """Set the flag that the library does not know.

    The kernel takes it only from the socket that is bound, and answers before `send` returns, yet only if it
    refuses. With no rule installed there is no packet in front of that answer.
    """
    netlink.send(fail_open_request(number))
    try:
        answer = netlink.recv(_MESSAGE_HEADER.size + 4, socket.MSG_DONTWAIT | socket.MSG_PEEK)
    except BlockingIOError:
        return
    if struct.unpack_from("=4xH", answer)[0] == NLMSG_ERROR:
        reason = os.strerror(-struct.unpack_from("=i", answer, _MESSAGE_HEADER.size)[0])
        raise HostError(f"packet queue {number}: cannot fail open ({reason}); Linux 3.6 or later is needed")


def _open_statistics() -> int:
    """A descriptor that goes on telling of this namespace after privileges are dropped."""
    try:
        return os.open(QUEUE_STATISTICS, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(
            f"{QUEUE_STATISTICS}: {error.strerror}; run as root, with the kernel module nfnetlink_queue"
        ) from error


def _read_statistics(descriptor: int) -> str:
    text = b""
    while chunk := os.pread(descriptor, 65536, len(text)):
        text += chunk
    return text.decode("ascii")


def _statistics_of(number: int, text: str) -> list[int] | None:
    """One line of the kernel's list: number, port id, waiting, copy mode, copy range, queue dropped,
    user dropped, last id, 1."""
    for line in text.splitlines():
        fields = [int(field) for field in line.split()]
        if fields[0] == number:
            return fields
    return None
