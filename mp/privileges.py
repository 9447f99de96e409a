"""Which capabilities each process keeps, and how the others are given away for good (capabilities(7)).

All processes of a point begin with what the operator started it with. The service process keeps the capabilities
for sockets and for what it starts itself; the packet process those of queue and rule; the HTTP process none. None
can get back what it gave away: no new privileges, no bounding set, and a filter of system calls (`mp.seccomp`).

Capabilities belong to threads: call these functions before the first one is started, so that all inherit the
result.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

from mp import seccomp
from schemas.errors import ConfigurationError, HostError

if TYPE_CHECKING:
    from mp.settings import Configuration

# linux/prctl.h and linux/capability.h
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_HIGHEST_CAPABILITY = 63
REAL_TIME_PRIORITY_LIMIT = 1
"""Packets, and streams that measure bandwidth, have the lowest of these: the limit spares CAP_SYS_NICE."""
FIRST_FREE_PORT = 1024
"""Below it, binding takes CAP_NET_BIND_SERVICE."""

_libc = ctypes.CDLL(None, use_errno=True)


class Capability(IntEnum):
    """Bits of linux/capability.h."""

    CHOWN = 0
    KILL = 5
    SETGID = 6
    SETUID = 7
    SETPCAP = 8
    NET_BIND_SERVICE = 10
    NET_ADMIN = 12
    NET_RAW = 13
    SYS_NICE = 23

    @property
    def full_name(self) -> str:
        """As setcap(8) and systemd write it."""
        return f"CAP_{self.name}"


NETWORK = frozenset((Capability.NET_ADMIN, Capability.NET_RAW))
"""The first for queue and rules, the second for router alert, raw sockets and the tools of the firewall."""
OTHER_USER = frozenset((Capability.SETUID, Capability.SETGID, Capability.KILL))
"""To make the HTTP process another user's than root, and to end it if it hangs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPrivileges:
    """What the kernel says that a thread may do: capabilities as bits."""

    effective: int
    permitted: int
    inheritable: int
    bounding: int
    ambient: int
    no_new_privileges: bool
    is_filtered: bool
    """A filter of system calls holds."""

    @classmethod
    def of(cls, process: int | str = "thread-self") -> HeldPrivileges:
        """Read /proc."""
        lines = Path("/proc", str(process), "status").read_text().splitlines()
        fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        return cls(
            effective=int(fields["CapEff"], 16),
            permitted=int(fields["CapPrm"], 16),
            inheritable=int(fields["CapInh"], 16),
            bounding=int(fields["CapBnd"], 16),
            ambient=int(fields["CapAmb"], 16),
            no_new_privileges=fields["NoNewPrivs"] == "1",
            is_filtered=fields["Seccomp"] == "2",
        )

    def has(self, capability: Capability) -> bool:
        """Whether the capability can be used now."""
        return bool(self.effective >> capability & 1)


def require_capabilities(ports: frozenset[int]) -> None:
    """Check what interception and ports need.

    Raises:
        HostError: names the missing capabilities.
    """
    held = HeldPrivileges.of()
    missing = [one.full_name for one in sorted(NETWORK | _for_ports(ports)) if not held.has(one)]
    if missing:
        raise HostError(f"capabilities: {', '.join(missing)} missing, expected them (run as root or grant them)")


def drop_to(kept: frozenset[Capability], *, user: pwd.struct_passwd | None = None, heirs: bool = False) -> None:
    """Keep these capabilities and no way to others; programs that are started may keep them too.

    Args:
        kept: of those that the process has.
        user: whom the process becomes, which costs it all capabilities; None: it stays who it is.
        heirs: programs that are started have them too, also when they are not root's.

    Raises:
        HostError: the process does not have them, or something else is left.
    """
    held = HeldPrivileges.of()
    _set_capabilities(kept, permitted=held.permitted)  # nothing becomes inheritable without a bounding set
    if held.has(Capability.SETPCAP):
        for number in range(_HIGHEST_CAPABILITY + 1):
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)  # refuses those that this kernel does not know
    if user is not None:
        _become(user)
    _set_capabilities(kept, permitted=_bits(kept))
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if heirs:
        pass_on(kept)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _require_only(kept)


def pass_on(kept: frozenset[Capability]) -> None:
    """Have programs that are started from now on keep these capabilities; root's do so anyway.

    Raises:
        HostError: the process does not have them.
    """
    if os.geteuid() == 0:
        return
    for one in kept:
        if _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, one, 0, 0):
            raise HostError(f"{one.full_name}: {os.strerror(ctypes.get_errno())}, expected to pass it on")


def user_entry(user: str) -> pwd.struct_passwd:
    """The user that the HTTP process is to become.

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


def confine_service(configuration: Configuration) -> None:
    """For the service process, before its first thread: all that it does not need for itself or to start is gone.

    Raises:
        HostError: a capability that it needs is missing.
    """
    with contextlib.suppress(OSError, ValueError):  # takes CAP_SYS_RESOURCE, which not all containers give
        resource.setrlimit(resource.RLIMIT_RTPRIO, (REAL_TIME_PRIORITY_LIMIT, REAL_TIME_PRIORITY_LIMIT))
    kept = _lasting(configuration) | _for_ports(configured_ports(configuration))
    drop_to(kept | _if_held(Capability.CHOWN, is_needed=bool(configuration.http.group)), heirs=True)
    seccomp.refuse(seccomp.NEVER_NEEDED)


def settle_service(configuration: Configuration) -> None:
    """For the service process, when its sockets are open: what only that needed is gone too.

    Raises:
        HostError: something is left.
    """
    drop_to(_lasting(configuration), heirs=True)


@contextlib.contextmanager
def confined_packet_process() -> Iterator[None]:
    """For the packet process, once queue and rule are in place: only what handling them takes is left.

    Programs that are started have nothing, until the end of the block, when the one comes that removes the rule.

    Raises:
        HostError: a capability that it needs is missing.
    """
    drop_to(NETWORK)
    seccomp.refuse(seccomp.NEVER_NEEDED | seccomp.NEW_CONNECTIONS)
    try:
        yield
    finally:
        pass_on(NETWORK)


def confine_http_process(user: str) -> None:
    """For the HTTP process, when all is open that it needs: nothing is left, and it starts no program.

    Args:
        user: whom a process of root's becomes.

    Raises:
        ConfigurationError: no such user on this host.
        HostError: something is left.
    """
    drop_to(frozenset(), user=user_entry(user) if os.geteuid() == 0 else None)
    seccomp.refuse(seccomp.NEVER_NEEDED | seccomp.OTHER_PROGRAMS)


def configured_ports(configuration: Configuration) -> frozenset[int]:
    """All ports that the service process takes."""
    measurement, service, http, metrics = (
        configuration.measurement,
        configuration.service,
        configuration.http,
        configuration.metrics,
    )
    ports = {measurement.port, configuration.probe.port}
    if configuration.bandwidth.is_enabled:
        ports.add(configuration.bandwidth.port)
    ports |= {door.port for door in (service, http, metrics) if door.listen is not None}
    return frozenset(ports)


def _for_ports(ports: frozenset[int]) -> frozenset[Capability]:
    is_needed = any(port < FIRST_FREE_PORT for port in ports)
    return frozenset((Capability.NET_BIND_SERVICE,)) if is_needed else frozenset()


def _lasting(configuration: Configuration) -> frozenset[Capability]:
    """What the service process needs as long as it lives."""
    is_limited = resource.getrlimit(resource.RLIMIT_RTPRIO)[0] < REAL_TIME_PRIORITY_LIMIT
    makes_other_user = os.geteuid() == 0 and configuration.http.is_enabled
    return (
        NETWORK
        | (OTHER_USER if makes_other_user else frozenset())
        | _if_held(Capability.SYS_NICE, is_needed=is_limited)
    )


def _if_held(capability: Capability, *, is_needed: bool) -> frozenset[Capability]:
    return frozenset((capability,)) if is_needed and HeldPrivileges.of().has(capability) else frozenset()


def _become(user: pwd.struct_passwd) -> None:
    os.setgroups([])
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)


def _set_capabilities(inheritable: frozenset[Capability], *, permitted: int) -> None:
    """What is permitted is effective; what is inheritable, programs of root's keep without a bounding set."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (permitted, permitted, _bits(inheritable))
    words = (ctypes.c_uint32 * 6)(*(one & 0xFFFFFFFF for one in sets), *(one >> 32 for one in sets))
    if _libc.capset(header, words):
        missing = [one.full_name for one in sorted(inheritable) if not HeldPrivileges.of().permitted >> one & 1]
        raise HostError(f"capabilities: {', '.join(missing)} missing, expected them (run as root or grant them)")


def _bits(capabilities: frozenset[Capability]) -> int:
    return sum(1 << one for one in capabilities)


def _require_only(kept: frozenset[Capability]) -> None:
    held = HeldPrivileges.of()
    bits = _bits(kept)
    sets = {"effective": held.effective, "permitted": held.permitted, "inheritable": held.inheritable}
    left = [name for name, value in sets.items() if value != bits]
    if held.ambient & ~bits:
        left.append("ambient")
    if left or not held.no_new_privileges:
        wrong = ", ".join(left) or "new privileges"
        raise HostError(f"privileges: {wrong} could not be given away, expected only what is needed")
