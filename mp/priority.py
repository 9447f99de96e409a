"""Which of a point's processes comes first where the processors are busy, without starving the host."""

from __future__ import annotations

import logging
import os
import resource
import signal
from collections.abc import Sequence

from schemas.errors import HostError

logger = logging.getLogger(__name__)

REAL_TIME_PRIORITY = 1
"""The lowest: whatever else the host runs in real time comes first."""
LAST_NICENESS = 10
LONGEST_RUN_US = 2_000_000
"""In real time without a pause. The packet process looks up from its queue every 200 ms, and the firewall rule
limits what comes into it, so only a fault runs so long."""
KILL_AFTER_US = 1_000_000
"""Later, when it has not stepped back."""


def put_packets_first(*, longest_run_us: int = LONGEST_RUN_US, kill_after_us: int = KILL_AFTER_US) -> bool:
    """Let the calling process run before all ordinary ones, but not what it starts; False where the host refuses.

    An ordinary process waits for others up to some milliseconds whenever a packet wakes it, with the lowest
    niceness and the shortest time slice as well (`benchmarks/http_load.py`): only real time spares packets that.
    It takes CAP_SYS_NICE or a limit RTPRIO of 1.

    A process that does not pause is not let starve the host: it goes back to the usual priority by itself, and is
    killed if it does not (RLIMIT_RTTIME). Until then the kernel leaves a part of each core to others
    (`kernel.sched_rt_runtime_us`). Once it has paused, it may call this again.
    """
    signal.signal(signal.SIGXCPU, _step_back)
    try:
        resource.setrlimit(resource.RLIMIT_RTTIME, (longest_run_us, longest_run_us + kill_after_us))
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(REAL_TIME_PRIORITY))
    except (OSError, ValueError) as error:  # ValueError: a lower limit is set already
        logger.warning("no real-time priority (%s): on a busy host packets wait some milliseconds", error)
        return False
    return True


def run_on(processors: Sequence[int]) -> None:
    """Let the calling process run on these processors alone.

    In real time it stays on the processor where it ran last, even if packets come in on another that would have to
    wake it: on a virtual machine that makes 58 us for each packet out of 41 (`docs/performance.md`).

    Raises:
        HostError: this host has none of them, or does not lend them.
    """
    usable = sorted(os.sched_getaffinity(0))
    try:
        os.sched_setaffinity(0, processors)
    except OSError as error:
        raise HostError(
            f"measurement.processors: got {list(processors)}, expected some of {usable} ({error.strerror})"
        ) from error


def is_in_real_time() -> bool:
    """Whether the calling process has what `put_packets_first` gave it."""
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR


def _step_back(*_: object) -> None:
    # Without the flag, which it has, this takes CAP_SYS_NICE (sched_setscheduler(2)), which it has not any more.
    os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))


def stand_back() -> None:
    """Let the calling process and what it starts run when packets and probes leave something."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, LAST_NICENESS)
    except OSError as error:  # a filter of system calls may forbid even that
        logger.info("no lower priority: %s", error.strerror)
