from __future__ import annotations

import mmap
import os
import subprocess
import sys

from benchmarks.suite.memory import memory_bytes

MB = 1 << 20
SLEEPER = "import sys; block = bytearray(int(sys.argv[1])); print('ready', flush=True); sys.stdin.read()"


def sleeper(octets: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, str(octets)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_what_two_processes_wrote_counts_twice_and_the_files_of_both_once() -> None:
    with sleeper(0) as one, sleeper(8 * MB) as other:
        alone, grown = memory_bytes([one.pid]), memory_bytes([other.pid])
        both = memory_bytes([one.pid, other.pid])
        assert 7 * MB < grown - alone < 9 * MB
        assert grown < both < alone + grown
        one.communicate()
        other.communicate()


def test_a_process_that_has_ended_counts_nothing() -> None:
    with sleeper(0) as process:
        process.communicate()
    assert memory_bytes([process.pid]) == 0


def test_memory_without_a_file_counts_when_it_is_written() -> None:
    before = memory_bytes([os.getpid()])
    with mmap.mmap(-1, 16 * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        block.write(b"x" * 16 * MB)
        assert memory_bytes([os.getpid()]) - before > 15 * MB
