"""Put a request on the network, one UDP datagram, with router alert or plain; hear of hosts that refuse it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import struct
from collections.abc import Callable

from schemas.errors import HostError
from schemas.message import Carrier

logger = logging.getLogger(__name__)

ROUTER_ALERT = bytes((148, 4, 0, 0))
"""RFC 2113: copied, number 20, length 4, value 0 = every router shall examine the packet."""

# linux/in.h and linux/errqueue.h; Python 3.11 does not name them.
_IP_RETOPTS = 7
_IP_MTU_DISCOVER = 10
_IP_PMTUDISC_DO = 2
_IP_RECVERR = 11
_SO_EE_ORIGIN_ICMP = 2
_EXTENDED_ERROR = struct.Struct("@IBBBBII")  # errno, origin, type, code, padding, info, data
_ICMP_UNREACHABLE = 3
_ICMP_PORT_UNREACHABLE = 3
_ICMP_FRAGMENTATION_NEEDED = 4

Unreachable = Callable[[str, str], None]
"""Called with the destination and what its ICMP error says, in words."""


class RequestSender:
    """The socket by which requests leave.

    Args:
        address: this point's address, the source of every request.
        port: the measurement port, on both ends.
        on_unreachable: see `Unreachable`; only for errors that the destination itself or its last router sent.

    Raises:
        HostError: the port is in use or the address is not one of this host.
    """

    def __init__(self, address: str, port: int, on_unreachable: Unreachable) -> None:
        self._port = port
        self._on_unreachable = on_unreachable
        self._socket = socket.socket(
            socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            # Never fragmented: a later fragment has no UDP header, and points could not tell it from others.
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            self._socket.bind((address, port))
        except OSError as error:
            self._socket.close()
            raise HostError(
                f"udp {address}:{port}: {error.strerror}, expected a free port on an own address"
            ) from error
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._drain)

    def send(self, payload: bytes, destination: str, carrier: Carrier = Carrier.ROUTER_ALERT) -> None:
        """Send one request.

        Args:
            payload: the encoded message.
            destination: where to.
            carrier: with router alert, or as a plain datagram.

        Raises:
            HostError: this host has no way to the destination.
        """
        options = [(socket.IPPROTO_IP, _IP_RETOPTS, ROUTER_ALERT)] if carrier is Carrier.ROUTER_ALERT else []
        for attempt in range(2):
            try:
                self._socket.sendmsg([payload], options, 0, (destination, self._port))
            except OSError as error:
                # An ICMP error about an earlier datagram may be reported here (ip(7), IP_RECVERR): once more. That
                # datagram may have grown on its way, and met a link that it did not fit.
                if attempt == 0 and error.errno in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.EMSGSIZE):
                    self._drain()
                    continue
                raise HostError(f"destination {destination}: {error.strerror}, expected a route to it") from error
            return

    def close(self) -> None:
        """Release the port."""
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                _, ancillary, _, name = self._socket.recvmsg(0, 512, socket.MSG_ERRQUEUE)
                for _, kind, data in ancillary:
                    if kind == _IP_RECVERR:
                        self._report_error(name, data)
        # Requests for this host reach the socket only while no interceptor takes them: nothing to do for us.
        with contextlib.suppress(OSError):
            while True:
                self._socket.recv(1)

    def _report_error(self, name: tuple[str, int], data: bytes) -> None:
        number, origin, kind, code, _, information, _ = _EXTENDED_ERROR.unpack_from(data)
        if origin != _SO_EE_ORIGIN_ICMP or kind != _ICMP_UNREACHABLE:
            return
        logger.debug("destination %s answered ICMP type %d code %d", name[0], kind, code)
        if code == _ICMP_PORT_UNREACHABLE:
            self._on_unreachable(name[0], "no measurement point listens there")
        elif code == _ICMP_FRAGMENTATION_NEEDED:
            # It grew on its way. Points split what does not fit the paths that they know: a later copy may arrive.
            logger.info("a request to %s did not fit a link of %d octets on its way", name[0], information)
        else:
            self._on_unreachable(name[0], os.strerror(number).lower())
