from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable

from mp.priority import (
    LAST_NICENESS,
    REAL_TIME_PRIORITY,
    is_in_real_time,
    put_packets_first,
    stand_back,
)
from mp.privileges import confined_packet_process

LIMIT_S = 20.0
SOON_US = 50_000
NEVER_US = 60_000_000
NOBODY = 65534


def exit_code_of(work: Callable[[], bool]) -> int | None:
    """Of a process that does the work: 0 if it says that all was well."""

    def judge() -> None:
        os._exit(0 if work() else 1)

    process = multiprocessing.get_context("fork").Process(target=judge)
    process.start()
    process.join(LIMIT_S)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode


def is_ordinary() -> bool:
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_OTHER


def spin_while(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + LIMIT_S
    while condition() and time.monotonic() < end_s:
        pass


def test_packets_come_first_and_programs_that_are_started_do_not() -> None:
    def work() -> bool:
        has_it = put_packets_first() and is_in_real_time()
        has_it &= os.sched_getparam(0).sched_priority == REAL_TIME_PRIORITY
        return has_it and exit_code_of(lambda: os.sched_getscheduler(0) == os.SCHED_OTHER) == 0

    assert exit_code_of(work) == 0


def test_a_process_that_never_pauses_goes_back_to_the_usual_priority() -> None:
    def work() -> bool:
        put_packets_first(longest_run_us=SOON_US, kill_after_us=NEVER_US)
        spin_while(is_in_real_time)
        return is_ordinary()

    assert exit_code_of(work) == 0


def test_the_packet_process_does_so_too_with_the_few_rights_that_it_keeps() -> None:
    def work() -> bool:
        put_packets_first(longest_run_us=SOON_US, kill_after_us=NEVER_US)
        with confined_packet_process():
            spin_while(is_in_real_time)
            return is_ordinary()

    assert exit_code_of(work) == 0


def test_a_process_that_went_back_may_come_first_again_for_as_long_as_before() -> None:
    def work() -> bool:
        for _ in range(2):
            put_packets_first(longest_run_us=SOON_US, kill_after_us=NEVER_US)
            began_s, was_first = time.monotonic(), is_in_real_time()
            spin_while(is_in_real_time)
            if not (was_first and is_ordinary() and time.monotonic() - began_s < 1):
                return False
        return True

    assert exit_code_of(work) == 0


def test_one_that_cannot_even_do_that_is_killed() -> None:
    def work() -> bool:
        put_packets_first(longest_run_us=SOON_US, kill_after_us=SOON_US)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGXCPU])  # as if it were stuck in a library
        spin_while(is_in_real_time)
        return True

    assert exit_code_of(work) == -signal.SIGKILL


def test_a_process_without_the_right_stays_as_it_is() -> None:
    def work() -> bool:
        resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
        os.setresuid(NOBODY, NOBODY, NOBODY)
        return not put_packets_first() and os.sched_getscheduler(0) == os.SCHED_OTHER

    assert exit_code_of(work) == 0


def test_http_and_what_it_starts_stand_back() -> None:
    def work() -> bool:
        stand_back()
        return os.getpriority(os.PRIO_PROCESS, 0) == LAST_NICENESS

    assert exit_code_of(work) == 0
