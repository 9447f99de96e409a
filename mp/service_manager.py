"""What the daemon tells systemd: ready, alive, stopping (the protocol of sd_notify(3))."""

from __future__ import annotations

import logging
import os
import socket

logger = logging.getLogger(__name__)

ADDRESS_VARIABLE = "NOTIFY_SOCKET"


def notification(**states: str) -> bytes:
    """The datagram for these states: lines of KEY=value.

    Args:
        states: by key in any case; a line break in a value would begin another state and becomes a space.
    """
    return "\n".join(f"{key.upper()}={' '.join(value.splitlines())}" for key, value in states.items()).encode()


class ServiceManager:
    """Speaks to the service manager; without one, nothing happens.

    Args:
        address: of its socket: a path, or `@` and an abstract name. Empty: there is none.
    """

    def __init__(self, address: str) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    @classmethod
    def of_this_process(cls) -> ServiceManager:
        """The one that started this process, if it listens; programs started from here do not inherit it."""
        return cls(os.environ.pop(ADDRESS_VARIABLE, ""))

    def ready(self, status: str) -> None:
        """All is in place; `status` is one line for people."""
        self._tell(notification(ready="1", status=status))

    def alive(self, status: str) -> None:
        """Call more often than twice in WatchdogSec: a daemon that no longer does is ended and started again."""
        self._tell(notification(watchdog="1", status=status))

    def stopping(self) -> None:
        """The end begins."""
        self._tell(notification(stopping="1"))

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, datagram: bytes) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(datagram, self._address)
        except OSError as error:  # a busy manager hears the next one
            logger.debug("service manager %s: %s", self._address, error.strerror)
