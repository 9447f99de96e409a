"""Timestamps and Error Estimate of STAMP packets.

Inside the program a time is an integer: nanoseconds since the Unix epoch, UTC. On the wire it is 64 bits:

    Z = 0  NTP (RFC 8877 section 4.2.1):    seconds since 1900, UTC (32) | fraction in 2**-32 s (32)
    Z = 1  PTPv2 (RFC 8877 section 4.3):    seconds since 1970, TAI (32) | nanoseconds (32)

Both wrap; the era is the one nearest to a time that the caller knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from prober.stamp.fault import ProbeFault
from schemas.errors import ProbeError

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
UNIX_EPOCH_IN_NTP_S = 2_208_988_800
"""Seconds from 1900-01-01 to 1970-01-01 (RFC 8877 section 4.2.1)."""
TAI_MINUS_UTC_S = 37
"""Since 2017; PTP time does not know leap seconds."""
_MAX_SCALE = 63
_MAX_MULTIPLIER = 255


def ntp_from_unix_ns(unix_ns: int) -> int:
    """Encode a time as 64-bit NTP; the fraction is rounded down."""
    seconds, nanoseconds = divmod(unix_ns, NS_PER_S)
    return (seconds + UNIX_EPOCH_IN_NTP_S & 0xFFFFFFFF) << 32 | (nanoseconds << 32) // NS_PER_S


def unix_ns_from_ntp(timestamp: int, near_ns: int) -> int:
    """Decode 64-bit NTP in the era nearest to `near_ns`; the fraction is rounded, which undoes the encoding."""
    seconds = (timestamp >> 32) - UNIX_EPOCH_IN_NTP_S
    nanoseconds = ((timestamp & 0xFFFFFFFF) * NS_PER_S + (1 << 31)) >> 32
    eras = (near_ns // NS_PER_S - seconds + (1 << 31)) >> 32
    return (seconds + (eras << 32)) * NS_PER_S + nanoseconds


def unix_ns_from_ptp(timestamp: int, near_ns: int) -> int:
    """Decode a truncated PTPv2 timestamp in the era nearest to `near_ns`."""
    seconds = (timestamp >> 32) - TAI_MINUS_UTC_S
    eras = (near_ns // NS_PER_S - seconds + (1 << 31)) >> 32
    return (seconds + (eras << 32)) * NS_PER_S + (timestamp & 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class ErrorEstimate:
    """How far a packet's own timestamps may be from UTC (RFC 4656 section 4.1.2, RFC 8186 section 2.3).

    |S|Z|   Scale (6)   |  Multiplier (8) |      error = multiplier * 2**(scale - 32) s
    """

    synchronized: bool
    ptp: bool
    scale: int
    multiplier: int

    @classmethod
    def of(cls, error_ns: int, *, synchronized: bool) -> ErrorEstimate:
        """The smallest estimate that is not below `error_ns`, for NTP timestamps."""
        units = max(1, -(-(error_ns << 32) // NS_PER_S))
        scale = max(0, units.bit_length() - 8)
        multiplier = -(-units >> scale)
        if multiplier > _MAX_MULTIPLIER:
            scale += 1
            multiplier = -(-units >> scale)
        if scale > _MAX_SCALE:
            scale, multiplier = _MAX_SCALE, _MAX_MULTIPLIER
        return cls(synchronized=synchronized, ptp=False, scale=scale, multiplier=multiplier)

    @classmethod
    def from_int(cls, value: int) -> ErrorEstimate:
        """Decode 16 bits.

        Raises:
            ProbeError: the multiplier is 0, so the packet counts as corrupt (RFC 4656 section 4.1.2).
        """
        return _estimate(value)

    def to_int(self) -> int:
        """The 16 bits as they stand in a packet."""
        return self.synchronized << 15 | self.ptp << 14 | self.scale << 8 | self.multiplier

    @property
    def error_ms(self) -> float:
        """The bound that the estimate states."""
        return float(self.multiplier * 2.0 ** (self.scale - 32) * 1000)

    def unix_ns(self, timestamp: int, near_ns: int) -> int:
        """Decode a timestamp that this estimate belongs to: its Z bit says which format it has."""
        return (unix_ns_from_ptp if self.ptp else unix_ns_from_ntp)(timestamp, near_ns)


@lru_cache(maxsize=1024)  # it stands in every packet, and changes seldom
def _estimate(value: int) -> ErrorEstimate:
    if not value & 0xFF:
        raise ProbeError(ProbeFault.MULTIPLIER_ZERO)
    return ErrorEstimate(bool(value & 0x8000), bool(value & 0x4000), value >> 8 & 0x3F, value & 0xFF)
