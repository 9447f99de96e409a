"""System calls that a process refuses itself for good, by a filter in the kernel (seccomp(2)).

A list of what is refused, not of what is allowed: Python, its libraries and the tools of the firewall change which
calls they use; what a measurement point never does is known. A refused call fails with EPERM, as for anybody who
may not. Programs that are started have the same filter.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.errors import HostError

logger = logging.getLogger(__name__)

# linux/prctl.h, linux/seccomp.h and linux/filter.h
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_RET_ALLOW = 0x7FFF0000
_RET_ERRNO = 0x00050000
_LOAD_WORD = 0x20
_JUMP_IF_EQUAL = 0x15
_JUMP_IF_AT_LEAST = 0x35
_RETURN = 0x06
_CALL_OFFSET = 0
_ARCHITECTURE_OFFSET = 4
_X32_CALLS = 0x40000000
"""From here on x86_64 takes the calls of another ABI, under other numbers."""
_INSTRUCTION = struct.Struct("=HBBI")

# By name: the number on x86_64 (arch/x86/entry/syscalls/syscall_64.tbl) and on aarch64 (asm-generic/unistd.h);
# None where there is no such call.
_NUMBERS: Mapping[str, tuple[int | None, int | None]] = {
    "accept": (43, 202),
    "accept4": (288, 242),
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "connect": (42, 203),
    "create_module": (174, None),
    "delete_module": (176, 106),
    "execve": (59, 221),
    "execveat": (322, 281),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "listen": (50, 201),
    "lookup_dcookie": (212, 18),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}

NEW_CONNECTIONS = frozenset(("accept", "accept4", "connect", "listen"))
"""What decodes packets of strangers speaks to the service and to the kernel alone, over sockets that it has."""
OTHER_PROGRAMS = frozenset(("execve", "execveat"))
"""What answers strangers itself starts none."""
NEVER_NEEDED = frozenset(_NUMBERS) - NEW_CONNECTIONS - OTHER_PROGRAMS
"""Other processes' memory, kernel modules, other kernels, mounts, namespaces, keyrings, tracing."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """One processor's way to call the kernel."""

    audit: int
    """Its number in linux/audit.h."""
    column: int
    """Of `_NUMBERS`."""
    has_other_abi: bool
    """Calls from `_X32_CALLS` on are those of another ABI."""


ARCHITECTURES: Mapping[str, Architecture] = {
    "x86_64": Architecture(0xC000003E, 0, has_other_abi=True),
    "aarch64": Architecture(0xC00000B7, 1, has_other_abi=False),
}
"""By machine name (uname(2))."""


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def call_numbers(names: Iterable[str], architecture: Architecture) -> tuple[int, ...]:
    """The numbers of the calls that the architecture has, in order."""
    numbers = (_NUMBERS[name][architecture.column] for name in names)
    return tuple(sorted(number for number in numbers if number is not None))


def filter_program(names: Iterable[str], architecture: Architecture) -> bytes:
    """The filter in the kernel's classic BPF: refuse these calls and all of any other ABI, allow the rest."""
    numbers = call_numbers(names, architecture)
    tests = [(_JUMP_IF_EQUAL, number) for number in numbers]
    if architecture.has_other_abi:
        tests.insert(0, (_JUMP_IF_AT_LEAST, _X32_CALLS))
    refusal = len(tests) + 4
    lines = [(_LOAD_WORD, 0, 0, _ARCHITECTURE_OFFSET), (_JUMP_IF_EQUAL, 0, refusal - 2, architecture.audit)]
    lines.append((_LOAD_WORD, 0, 0, _CALL_OFFSET))
    lines += [(code, refusal - position - 1, 0, value) for position, (code, value) in enumerate(tests, start=3)]
    lines += [(_RETURN, 0, 0, _RET_ALLOW), (_RETURN, 0, 0, _RET_ERRNO | errno.EPERM)]
    return b"".join(_INSTRUCTION.pack(*line) for line in lines)


def refuse(names: Iterable[str]) -> None:
    """Refuse these calls in this thread, and in all that it starts, for good; needs no new privileges before.

    On a processor of which the numbers are not known nothing is refused, and the log says so.

    Raises:
        HostError: the kernel does not take the filter.
    """
    machine = os.uname().machine
    architecture = ARCHITECTURES.get(machine)
    if architecture is None or struct.calcsize("P") != 8:
        logger.warning("system calls are not filtered on %s", machine)
        return
    program = filter_program(names, architecture)
    prepared = _Program(len(program) // _INSTRUCTION.size, program)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(prepared), 0, 0):
        number = ctypes.get_errno()
        if number != errno.EINVAL:
            raise HostError(f"system calls: the kernel refuses to filter them: {os.strerror(number)}")
        logger.warning("system calls are not filtered: this kernel has no seccomp")
