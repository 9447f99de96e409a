"""Run a program under the filters of system calls that a unit's settings make, as systemd would.

    python3 call_filter.py UNIT PROGRAM [ARGUMENT...]

systemd itself has to be process 1 to do that; its lists of calls it shows to everybody.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

ALLOW = 0x7FFF0000
REFUSE = 0x00050000 | errno.EPERM
EQUAL, MASKED_EQUAL = 4, 7
PROT_WRITE, PROT_EXEC = 2, 4


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp of libseccomp."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("mask", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
    )


def groups() -> dict[str, set[str]]:
    """What each `@group` stands for; a group may name others."""
    shown = subprocess.run(("systemd-analyze", "syscall-filter"), capture_output=True, text=True, check=True)
    found: dict[str, set[str]] = {}
    for line in shown.stdout.splitlines():
        if line.startswith("@"):
            current = found.setdefault(line.strip(), set())
        elif re.fullmatch(r" +[@\w]\S*", line):
            current.add(line.strip())
    return found


def allowed_calls(unit: str) -> set[str]:
    """By systemd.exec(5): what is always allowed, and what the filters add and take away in their order."""
    known = groups()

    def expanded(name: str) -> set[str]:
        return set().union(*map(expanded, known[name])) if name.startswith("@") else {name}

    calls = expanded("@default")
    for words in re.findall(r"(?m)^SystemCallFilter=(.*)$", unit):
        named = set().union(*(expanded(name) for name in words.removeprefix("~").split()))
        calls = calls - named if words.startswith("~") else calls | named
    return calls | {"execve"}


def rules_of(call: str, unit: str) -> list[tuple[Comparison, ...]]:
    """When the call is allowed: one of these, each on an argument; an empty one says always."""
    families = re.search(r"(?m)^RestrictAddressFamilies=(.*)$", unit)
    if call == "socket" and families is not None:
        return [(Comparison(0, EQUAL, getattr(socket, name), 0),) for name in families[1].split()]
    if call in ("mmap", "mprotect", "pkey_mprotect") and "\nMemoryDenyWriteExecute=yes\n" in unit:
        no_program = (Comparison(2, MASKED_EQUAL, PROT_EXEC, 0),)
        read_only_program = (Comparison(2, MASKED_EQUAL, PROT_WRITE | PROT_EXEC, PROT_EXEC),)
        return [no_program, read_only_program] if call == "mmap" else [no_program]
    return [()]


def confine(unit: str) -> None:
    """Load the filter for this process and all that it becomes; new privileges must be forbidden already."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(REFUSE)))
    for call in allowed_calls(unit):
        number = library.seccomp_syscall_resolve_name(call.encode())
        for rule in rules_of(call, unit) if number >= 0 else ():  # negative: not of this architecture
            array = (Comparison * max(1, len(rule)))(*rule)
            if library.seccomp_rule_add_array(context, ALLOW, number, len(rule), array):
                raise OSError(f"no rule for {call}")
    if library.seccomp_load(context):
        raise OSError("the filter is refused")


if __name__ == "__main__":
    confine(Path(sys.argv[1]).read_text())
    os.execvp(sys.argv[2], sys.argv[2:])
