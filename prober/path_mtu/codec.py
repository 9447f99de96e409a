"""STAMP packets of the search for the path MTU: a base packet and one Extra Padding TLV (RFC 8972 section 4.1)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from prober.stamp.authentication import NO_KEY, KeyOf
from prober.stamp.packet import ReflectorPacket, SenderPacket, base_bytes
from prober.stamp.tlv import padding_tlv
from prober.timestamp import ErrorEstimate, ntp_from_unix_ns

MTU_SSID: Final = 0x4D54
"""Keeps these sessions apart from those between neighbors, which have none."""
_NOISE: Final = random.Random(1).randbytes(256)
"""No secret: it only keeps a link from compressing the padding."""


class StampMtuCodec:
    """Writes and reads them; see `prober.path_mtu.driver.MtuCodec`.

    Args:
        now_ns: wall clock (CLOCK_REALTIME), for the timestamp that every probe carries.
        error: the estimate of that clock's error.
        key_of: tells the key of the authenticated mode toward an address, if it is used.
    """

    def __init__(
        self, *, now_ns: Callable[[], int], error: Callable[[], ErrorEstimate], key_of: KeyOf = NO_KEY
    ) -> None:
        self._now_ns = now_ns
        self._error = error
        self._key_of = key_of

    def write(self, address: str, sequence: int, size_octets: int) -> bytes:
        """A probe of `size_octets` of UDP payload: 116 or more in authenticated mode, else 48 or more."""
        key = self._key_of(address)
        padding = padding_tlv(size_octets - base_bytes(key), _NOISE)
        timestamp = ntp_from_unix_ns(self._now_ns())
        return SenderPacket(sequence, timestamp, self._error(), MTU_SSID, padding).to_bytes(key)

    def read(self, address: str, data: bytes) -> int | None:
        """The number of the probe that is answered; None for the reply of another session.

        Raises:
            ProbeError: no reply, or one that fails authentication.
        """
        reply = ReflectorPacket.from_bytes(data, self._key_of(address))
        return reply.sender_sequence if reply.ssid == MTU_SSID else None
