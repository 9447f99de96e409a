"""Hears from the kernel when its routes change (rtnetlink(7)), on an asyncio loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from schemas.errors import HostError

# linux/rtnetlink.h: one bit each for the groups RTNLGRP_LINK and RTNLGRP_IPV4_ROUTE.
_LINKS = 1
_IPV4_ROUTES = 0x40
_READ_BYTES = 65_536
SETTLE_S = 0.2
"""A routing daemon changes many routes one after the other: the call comes with the first, and again when no more
have come for so long, but no later than `LATEST_S` after the first."""
LATEST_S = 1.0


class RouteWatch:
    """Calls when IPv4 routes or interfaces have changed.

    Args:
        on_change: called with the first change of a burst, and at its end.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._latest_at_s = 0.0

    def start(self) -> None:
        """Listen, in the network namespace of the calling thread, on the running loop.

        Raises:
            HostError: the kernel gives no such socket.
        """
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            self._socket.bind((0, _LINKS | _IPV4_ROUTES))
        except OSError as error:
            raise HostError(f"no word of changed routes: {error.strerror}") from error
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def close(self) -> None:
        """Stop; may be called twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _read(self) -> None:
        assert self._socket is not None  # it is what became readable
        with contextlib.suppress(OSError):  # none left; or some were lost for want of room, which is a change too
            while self._socket.recv(_READ_BYTES):
                pass
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._latest_at_s = loop.time() + LATEST_S
            self._on_change()
        else:
            self._timer.cancel()
        self._timer = loop.call_at(min(loop.time() + SETTLE_S, self._latest_at_s), self._settled)

    def _settled(self) -> None:
        self._timer = None
        self._on_change()
