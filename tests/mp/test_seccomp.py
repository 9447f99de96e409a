from __future__ import annotations

import errno
import json
import logging
import os
import platform
import re
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mp import seccomp
from mp.seccomp import (
    ARCHITECTURES,
    NEVER_NEEDED,
    NEW_CONNECTIONS,
    OTHER_PROGRAMS,
    Architecture,
    call_numbers,
    filter_program,
)

ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
X86_64, AARCH64 = ARCHITECTURES["x86_64"], ARCHITECTURES["aarch64"]
I386 = 0x40000003
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
"""Of Debian's linux-libc-dev, which any C compiler brings along."""
BEGINNING = """
import ctypes, json, os
from mp import seccomp
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
def error_of(number):
    return ctypes.get_errno() if libc.syscall(number, -1, -1, -1, -1) < 0 else 0
def tell(value): print(json.dumps(value))
"""


def verdict(program: bytes, audit: int, number: int) -> int:
    """What the kernel would do: the four instructions of classic BPF that the filter uses."""
    lines = list(struct.iter_unpack("=HBBI", program))
    words = {0: number, 4: audit}
    position = accumulator = 0
    while True:
        code, if_true, if_false, value = lines[position]
        position += 1
        match code:
            case 0x20:
                accumulator = words[value]
            case 0x15:
                position += if_true if accumulator == value else if_false
            case 0x35:
                position += if_true if accumulator >= value else if_false
            case 0x06:
                return int(value)


def told(story: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", BEGINNING + story], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("architecture", [X86_64, AARCH64])
def test_the_filter_refuses_what_it_was_told_and_nothing_else(architecture: Architecture) -> None:
    refused = set(call_numbers(NEVER_NEEDED, architecture))
    program = filter_program(NEVER_NEEDED, architecture)
    verdicts = {number: verdict(program, architecture.audit, number) for number in range(600)}
    assert {number for number, one in verdicts.items() if one == REFUSE} == refused
    assert set(verdicts.values()) == {ALLOW, REFUSE}


def test_calls_by_another_door_are_refused_all() -> None:
    program = filter_program(NEVER_NEEDED, X86_64)
    assert {verdict(program, I386, number) for number in range(600)} == {REFUSE}
    assert {verdict(program, X86_64.audit, 0x40000000 + number) for number in range(600)} == {REFUSE}


@pytest.mark.parametrize("machine", HEADERS)
def test_the_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    defined = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[machine].read_text())
    numbers = {name: int(number) for name, number in defined}
    for name in NEVER_NEEDED | NEW_CONNECTIONS | OTHER_PROGRAMS:
        expected = [numbers[name]] if name in numbers else []
        assert list(call_numbers([name], ARCHITECTURES[machine])) == expected


def test_even_root_with_all_capabilities_is_refused_and_so_is_what_it_starts() -> None:
    numbers = call_numbers(NEVER_NEEDED, ARCHITECTURES[platform.machine()])
    story = f"""
before = error_of(599)
seccomp.refuse(seccomp.NEVER_NEEDED)
child = os.fork()
if child == 0:
    os._exit(error_of({numbers[0]}))
tell([[error_of(number) for number in {list(numbers)}], before, error_of(599), os.waitpid(child, 0)[1] >> 8])
"""
    assert os.geteuid() == 0
    refused, before, after, of_child = told(story)
    assert len(numbers) > 40
    assert set(refused) == {errno.EPERM}
    assert (before, after, of_child) == (errno.ENOSYS, errno.ENOSYS, errno.EPERM)


def test_what_decodes_packets_opens_no_connection_and_what_answers_http_starts_no_program() -> None:
    story = """
import socket, subprocess
def refused(attempt):
    try:
        attempt()
    except PermissionError:
        return True
    return False
seccomp.refuse(seccomp.NEW_CONNECTIONS | seccomp.OTHER_PROGRAMS)
one, other = socket.socketpair()
one.sendall(b"x")
tell([
    refused(lambda: socket.create_connection(("127.0.0.1", 9))),
    refused(lambda: socket.create_server(("127.0.0.1", 0))),
    refused(lambda: os.execv("/bin/true", ["true"])),
    other.recv(1) == b"x",
])
"""
    assert told(story) == [True] * 4


def test_an_unknown_processor_has_no_filter_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="riscv64"))
    with caplog.at_level(logging.WARNING):
        seccomp.refuse(NEVER_NEEDED)
    assert "not filtered on riscv64" in caplog.text
    assert "Seccomp:\t0" in Path("/proc/self/status").read_text()
