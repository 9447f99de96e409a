"""The frames that an interface sends, in a ring of a packet socket (packet(7), `TPACKET_V2`).

The kernel stamps each one in the sender's context, and writes it into a slot that this process reads without a
system call.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import socket
import struct
from collections.abc import Iterator

# linux/sockios.h
SIOCSIFMTU = 0x8922

# linux/if_packet.h, linux/if_ether.h
SOL_PACKET = 263
PACKET_RX_RING = 5
PACKET_STATISTICS = 6
PACKET_VERSION = 10
TPACKET_V2 = 1
TP_STATUS_USER = 1
ETH_P_ALL = 0x0003
ETHERNET_HEADER_BYTES = 14
FRAME_HEADER = struct.Struct("=IIIHHII")
"""`struct tpacket2_hdr`: status, length, captured length, offsets of Ethernet and IP, seconds, nanoseconds."""
FRAME_STATUS = struct.Struct("=I")
STATISTICS = struct.Struct("=II")
"""`struct tpacket_stats`: frames seen, frames dropped since the ring was full; reading resets both."""

SO_ATTACH_FILTER = 26
OUTGOING_ONLY = struct.pack(
    "=" + "HBBI" * 4,
    *(0x20, 0, 0, 0xFFFFF004),  # load the packet type (SKF_AD_OFF + SKF_AD_PKTTYPE)
    *(0x15, 0, 1, 4),  # is it PACKET_OUTGOING?
    *(0x06, 0, 0, 0x40000),  # then take the whole of it,
    *(0x06, 0, 0, 0),  # else nothing: what we write to the TAP passes here too
)
"""The socket filter, in the classic BPF of linux/filter.h."""

LEAST_SLOT_BYTES = 2048
"""For an MTU of up to 1968; an MTU of 9000 needs the eightfold."""
SLOTS = 128
"""6 ms at 20,000 packets/s, for 256 KiB per end: 260 ends are 65 MiB."""

SLOT_HEADER_BYTES = 66
"""Where the kernel puts the Ethernet header in a slot."""


class FrameRing:
    """A ring for one interface, in the network namespace of the calling thread.

    Args:
        interface: its name.
        mtu_octets: frames of this MTU fit; longer ones are dropped.

    Raises:
        OSError: no such interface, or no memory.
    """

    def __init__(self, interface: str, mtu_octets: int) -> None:
        self._interface = interface
        self._slot_bytes = slot_bytes(mtu_octets)
        self._socket = _open_socket(interface, self._slot_bytes)
        try:
            self._memory = mmap.mmap(self._socket.fileno(), SLOTS * self._slot_bytes)
        except OSError:
            self._socket.close()
            raise
        self._slot = 0
        self._missed = 0
        self.taken = 0
        """Frames that came out of the ring; whoever counts may set it back."""
        self.was_full = False
        """The last reading took as many frames as there are slots: others may have found none."""

    @property
    def max_frame_bytes(self) -> int:
        """Longer frames do not fit."""
        return self._slot_bytes - SLOT_HEADER_BYTES

    def fits(self, mtu_octets: int) -> bool:
        """Whether all frames of an interface with this MTU fit."""
        return mtu_octets + ETHERNET_HEADER_BYTES <= self.max_frame_bytes

    def set_mtu(self, octets: int) -> None:
        """Change the interface's MTU.

        Raises:
            OSError: the interface is gone, or refuses.
        """
        request = struct.pack("=16si20x", self._interface.encode(), octets)
        fcntl.ioctl(self._socket.fileno(), SIOCSIFMTU, request)

    def read(self, offset_ns: int) -> Iterator[tuple[bytes, int]]:
        """All frames that the namespace has sent, each with the time of sending in ns, less `offset_ns`.

        The kernel stamps in CLOCK_REALTIME; the offset leads to the clock that the caller wants.
        """
        memory, slot, size = self._memory, self._slot, self._slot_bytes
        self.was_full = False
        for _ in range(SLOTS):
            at = slot * size
            status, length, captured, mac, _, seconds, nanoseconds = FRAME_HEADER.unpack_from(memory, at)
            if not status & TP_STATUS_USER:
                break
            frame = memory[at + mac : at + mac + captured]
            FRAME_STATUS.pack_into(memory, at, 0)
            slot = self._slot = (slot + 1) % SLOTS
            self.taken += 1
            if captured < length:
                self._missed += 1
                continue
            yield frame, seconds * 1_000_000_000 + nanoseconds - offset_ns
        else:
            self.was_full = True

    def take_missed(self) -> int:
        """Frames that were too long, or found the ring full, since the last call."""
        _, dropped = STATISTICS.unpack(self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, STATISTICS.size))
        missed, self._missed = self._missed + int(dropped), 0
        return missed

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
        self._socket.close()


def slot_bytes(mtu_octets: int) -> int:
    """The size of a slot for frames of this MTU: a power of two, so that slots and pages fill each other."""
    size = LEAST_SLOT_BYTES
    while size < SLOT_HEADER_BYTES + ETHERNET_HEADER_BYTES + mtu_octets:
        size *= 2
    return size


def _open_socket(interface: str, size: int) -> socket.socket:
    # Protocol 0 keeps the socket silent until it is bound, so that it never sees another interface.
    ring_socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        _attach_filter(ring_socket, OUTGOING_ONLY)
        ring_socket.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
        block_bytes = max(mmap.PAGESIZE, size)
        request = struct.pack("=IIII", block_bytes, SLOTS * size // block_bytes, size, SLOTS)
        ring_socket.setsockopt(SOL_PACKET, PACKET_RX_RING, request)
        ring_socket.bind((interface, ETH_P_ALL))
    except OSError:
        ring_socket.close()
        raise
    return ring_socket


def _attach_filter(door: socket.socket, program: bytes) -> None:
    code = ctypes.create_string_buffer(program, len(program))
    filter_program = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    door.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filter_program)
