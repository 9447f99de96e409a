"""Give away all privileges, for good."""

from __future__ import annotations

import ctypes
import os
import pwd
from pathlib import Path

from schemas.errors import ConfigurationError, HostError

# linux/prctl.h and linux/capability.h
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITY_WORDS = 6
"""Effective, permitted, inheritable; twice 32 bits each."""
_HIGHEST_CAPABILITY = 63


def user_entry(user: str) -> pwd.struct_passwd:
    """The user that a process is to become.

    Raises:
        ConfigurationError: there is none of that name, or it is root.
    """
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ConfigurationError("http.user", user, "a user of this host") from None
    if entry.pw_uid == 0:
        raise ConfigurationError("http.user", user, "another user than root")
    return entry


def give_up_privileges(user: str) -> None:
    """Become `user` if this process is root's, and keep no capability and no way to get one (capabilities(7)).

    Raises:
        ConfigurationError: there is no such user.
        HostError: something is left.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        entry = user_entry(user)
        for capability in range(_HIGHEST_CAPABILITY + 1):
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # refuses those that this kernel does not know
        os.setgroups([])
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    libc.capset(header, (ctypes.c_uint32 * _CAPABILITY_WORDS)())
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _require_nothing_left()


def _require_nothing_left() -> None:
    fields = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    left = [name for name in ("CapInh", "CapPrm", "CapEff", "CapAmb") if int(fields[name], 16)]
    if left or fields["NoNewPrivs"] != "1":
        raise HostError(f"http process: could not give up its privileges ({', '.join(left) or 'NoNewPrivs'})")
