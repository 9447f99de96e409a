"""What a point tells its neighbor of its own interfaces: TLV 241 (experimental range of RFC 8972).

      0  Capacity of the egress toward the reader         4   IEEE 754 single, Mbit/s; 0: unknown (RFC 2215)
      4  its utilization, mean of the window              2   in 1/10000
      6  lowest interval of the window                    2   in 1/10000
      8  highest interval of the window                   2   in 1/10000
     10  intervals of the window; 0: unknown              2
     12  the same 12 octets of the ingress from the reader

A sender writes its own values. A reflector that knows the type answers with its own; one that does not copies the
sender's with the U flag, so a sender must pass over a TLV that is not `understood`: it would read itself.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Final

from prober.interfaces.load import UNKNOWN_LOAD, InterfaceLoad, Utilization
from schemas.errors import ProbeError

INTERFACE_REPORT: Final = 241
"""TLV type."""
_LOAD: Final = struct.Struct("!fHHHH")
REPORT_OCTETS: Final = 2 * _LOAD.size
UNKNOWN_REPORT: Final = bytes(REPORT_OCTETS)
"""The value that tells nothing."""
_RATIO_UNITS: Final = 10_000
_MAX_INTERVALS: Final = 0xFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceReport:
    """The writer's interfaces on the link to the reader."""

    egress: InterfaceLoad = UNKNOWN_LOAD
    """Toward the reader."""
    ingress: InterfaceLoad = UNKNOWN_LOAD
    """From the reader."""

    @classmethod
    def from_value(cls, value: bytes) -> InterfaceReport:
        """Decode the value of TLV 241.

        Raises:
            ProbeError: a wrong length, a capacity that is none, or a share above 1 or out of order.
        """
        if len(value) != REPORT_OCTETS:
            raise ProbeError("an interface report has the wrong length")
        return cls(egress=_load_from(value, 0), ingress=_load_from(value, _LOAD.size))

    def to_value(self) -> bytes:
        """The value of TLV 241."""
        return _load_to(self.egress) + _load_to(self.ingress)


def _load_from(value: bytes, start: int) -> InterfaceLoad:
    capacity, mean, least, greatest, intervals = _LOAD.unpack_from(value, start)
    if not math.isfinite(capacity) or capacity < 0:
        raise ProbeError("the capacity of an interface report is no rate")
    if not least <= mean <= greatest <= _RATIO_UNITS:
        raise ProbeError("the utilization of an interface report is no share")
    if intervals and not capacity:
        raise ProbeError("an interface report has a utilization without a capacity")
    utilization = Utilization(
        mean=mean / _RATIO_UNITS,
        least=least / _RATIO_UNITS,
        greatest=greatest / _RATIO_UNITS,
        intervals=intervals,
    )
    return InterfaceLoad(capacity_mbit_s=capacity or None, utilization=utilization if intervals else None)


def _load_to(load: InterfaceLoad) -> bytes:
    used = load.utilization
    if load.capacity_mbit_s is None or used is None:
        return _LOAD.pack(load.capacity_mbit_s or 0.0, 0, 0, 0, 0)
    shares = (round(share * _RATIO_UNITS) for share in (used.mean, used.least, used.greatest))
    return _LOAD.pack(load.capacity_mbit_s, *shares, min(used.intervals, _MAX_INTERVALS))
