"""A datagram as it comes to a STAMP port."""

from __future__ import annotations

from typing import NamedTuple


class Datagram(NamedTuple):
    """What came, and when."""

    data: bytes
    """UDP payload."""
    address: str
    """Where it came from."""
    port: int
    ttl: int
    """Of its IP header."""
    received_at_ns: int
    """T2 of a probe, T4 of a reply."""
    user_stamped: bool = False
    """The kernel gave no usable time, so `received_at_ns` is when the process read it."""
    tos: int = 0
    """The octet of DSCP and ECN in the IP header."""
    local_address: str | None = None
    """Which of our addresses it was sent to, if the socket has all of them."""
