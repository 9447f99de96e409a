"""Counts what passes an interface: packets and octets of one kind of traffic, in both directions."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Self

from lab.namespaces import inside
from schemas.message import MEASUREMENT_PORT

ETH_P_ALL = 0x0003
ETHERNET_BYTES = 14
BUFFER_BYTES = 16 << 20
SO_RCVBUFFORCE = 33
SNAP_BYTES = 96
BARE_HEADER_BYTES = 20
STAMP_PORT = 862
IRTT_PORT = 2112


class Traffic(Enum):
    """Whose packets."""

    REQUEST = "request"
    """Requests of ours, by UDP, and their reports, by TCP."""
    ICMP = "icmp"
    """Of ping and mtr: requests, replies, and errors of routers."""
    IRTT = "irtt"
    PROBE = "probe"
    """Of sessions between points (STAMP)."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Count:
    """What passed."""

    packets: int
    octets: int
    """Whole Ethernet frames, without preamble and checksum."""


class WireCounter:
    """Counts from its making; a context.

    Args:
        namespace: of the interface.
        interface: its name.
    """

    def __init__(self, namespace: str, interface: str) -> None:
        self._socket = inside(namespace, lambda: _opened(interface))
        self._counts = dict.fromkeys(Traffic, Count(0, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def taken(self, traffic: Traffic) -> Count:
        """What has passed since the last call for this traffic."""
        self._read()
        found, self._counts[traffic] = self._counts[traffic], Count(0, 0)
        return found

    def _read(self) -> None:
        while True:
            try:
                length, _, _, _ = self._socket.recvmsg_into([head := bytearray(SNAP_BYTES)], 0, socket.MSG_TRUNC)
            except BlockingIOError:
                return
            before = self._counts[kind := traffic_of(bytes(head[ETHERNET_BYTES:]))]
            self._counts[kind] = Count(before.packets + 1, before.octets + length)


def _opened(interface: str) -> socket.socket:
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    tap.bind((interface, ETH_P_ALL))
    tap.setblocking(False)
    return tap


def traffic_of(packet: bytes) -> Traffic:
    """Whose packet it is, by its first octets."""
    if len(packet) < BARE_HEADER_BYTES or packet[0] >> 4 != 4:
        return Traffic.OTHER
    start = (packet[0] & 15) * 4
    ports = {int.from_bytes(packet[at : at + 2]) for at in (start, start + 2)}
    match packet[9]:
        case 1:
            return Traffic.ICMP
        case 6 | 17 if MEASUREMENT_PORT in ports:
            return Traffic.REQUEST
        case 17 if IRTT_PORT in ports:
            return Traffic.IRTT
        case 17 if STAMP_PORT in ports:
            return Traffic.PROBE
        case _:
            return Traffic.OTHER
