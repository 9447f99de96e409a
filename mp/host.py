"""What the daemon must know of the host: its addresses and its smallest MTU."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from dataclasses import dataclass

from interceptor.packet import maximum_payload
from interceptor.packet_queue import LONGEST_PACKET_BYTES

# linux/sockios.h and linux/if.h, which Python does not name. Unlike /sys, ioctl always shows the caller's own
# network namespace.
_SIOCGIFCONF = 0x8912
_SIOCGIFMTU = 0x8921
_SIOCGIFFLAGS = 0x8913
_IFF_UP = 0x1
_IFF_LOOPBACK = 0x8
_INTERFACE_REQUEST_BYTES = 40
_ADDRESS_OFFSET = 20
_MAX_ADDRESSES = 4096

_ETHERNET_MTU_BYTES = 1500


@dataclass(frozen=True, slots=True)
class HostState:
    """The part of the host's network configuration that messages depend on."""

    addresses: tuple[str, ...]
    """All IPv4 addresses, sorted."""
    smallest_mtu_bytes: int
    """Over the interfaces that are up, loopback aside."""

    @property
    def room(self) -> int:
        """The UDP payload, in octets, that fits every interface and the packet queue beside the router alert."""
        return maximum_payload(min(self.smallest_mtu_bytes, LONGEST_PACKET_BYTES))


def read_host_state() -> HostState:
    """Ask the kernel."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        mtus = [_mtu(control, name) for _, name in socket.if_nameindex()]
        known = [mtu for mtu in mtus if mtu is not None]
        return HostState(_addresses(control), min(known, default=_ETHERNET_MTU_BYTES))


def _addresses(control: socket.socket) -> tuple[str, ...]:
    buffer = array.array("B", bytes(_MAX_ADDRESSES * _INTERFACE_REQUEST_BYTES))
    pointer, length = buffer.buffer_info()
    answer = fcntl.ioctl(control, _SIOCGIFCONF, struct.pack("iP", length, pointer))
    used = struct.unpack("iP", answer)[0]
    found = {
        socket.inet_ntoa(buffer[start + _ADDRESS_OFFSET : start + _ADDRESS_OFFSET + 4].tobytes())
        for start in range(0, used, _INTERFACE_REQUEST_BYTES)
    }
    return tuple(sorted(found))


def _mtu(control: socket.socket, name: str) -> int | None:
    """The interface's MTU; None for loopback, for an interface that is down, and for one that has just gone."""
    request = struct.pack("16s24x", name.encode())
    try:
        flags = struct.unpack_from("H", fcntl.ioctl(control, _SIOCGIFFLAGS, request), 16)[0]
        if flags & _IFF_LOOPBACK or not flags & _IFF_UP:
            return None
        return int(struct.unpack_from("i", fcntl.ioctl(control, _SIOCGIFMTU, request), 16)[0])
    except OSError:
        return None
