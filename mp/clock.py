"""The only reader of clocks in the daemon, and of how far the system clock can be trusted."""

from __future__ import annotations

import ctypes
import time

from prober.clock_state import ClockState

FLOOR_ERROR_MS = 0.1
"""systemd-timesyncd sets the kernel's bound to 0 at each adjustment; no clock of a network host is that good."""

MAX_ERROR_MS = 16_000.0
"""What the kernel says when it does not know (NTP_PHASE_LIMIT)."""

_STA_UNSYNC = 0x40


class _Timex(ctypes.Structure):
    """struct timex of linux/timex.h up to the fields that are read; padded to more than its 208 octets."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def now_ns() -> int:
    """Nanoseconds since the Unix epoch, on this host's system clock (CLOCK_REALTIME)."""
    return time.time_ns()


def now_ms() -> int:
    """Milliseconds since the Unix epoch, on this host's system clock."""
    return time.time_ns() // 1_000_000


def monotonic_ns() -> int:
    """Nanoseconds on a clock that never steps."""
    return time.monotonic_ns()


def monotonic_ms() -> int:
    """Milliseconds on a clock that never steps."""
    return time.monotonic_ns() // 1_000_000


def read_clock(assumed_error_ms: float | None) -> ClockState:
    """The synchronization state: what the operator vouches for, else what the kernel says (adjtimex)."""
    if assumed_error_ms is not None:
        return ClockState(synchronized=True, error_ms=assumed_error_ms)
    timex = _Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    if state < 0 or timex.status & _STA_UNSYNC:
        return ClockState(synchronized=False, error_ms=MAX_ERROR_MS)
    return ClockState(synchronized=True, error_ms=min(MAX_ERROR_MS, max(FLOOR_ERROR_MS, timex.maxerror / 1000)))
