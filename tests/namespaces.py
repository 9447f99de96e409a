"""Network namespaces for tests: small networks of veth links that vanish at the end of the test."""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
import secrets
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

CLONE_NEWNET = 0x40000000
SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM = 0x17
COMMAND_TIMEOUT_S = 20
CARRIER_TIMEOUT_S = 5

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Namespace:
    """One named network namespace."""

    name: str
    interfaces: list[str] = field(default_factory=list)
    """Names of its ends of links, in the order in which they were made."""
    addresses: list[str] = field(default_factory=list)
    """Their IPv4 addresses, in the same order."""

    def run(self, *command: str, stdin: str = "") -> str:
        """Standard output of a command inside; CalledProcessError with its complaint if it fails."""
        return _run(("ip", "netns", "exec", self.name, *command), stdin)

    def popen(self, *command: str) -> subprocess.Popen[bytes]:
        """A command that runs on inside, its outputs piped; whoever starts it ends it."""
        return subprocess.Popen(
            ("ip", "netns", "exec", self.name, *command), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )


class Namespaces:
    """Makes namespaces with names of its own, and links between them."""

    def __init__(self) -> None:
        self._prefix = f"t{os.getpid()}{secrets.token_hex(2)}"
        self._made: list[Namespace] = []
        self._links = 0

    def make(self, label: str) -> Namespace:
        """A namespace in which only the loopback is up, and which forwards IPv4."""
        namespace = Namespace(f"{self._prefix}-{label}")
        _run(("ip", "netns", "add", namespace.name))
        self._made.append(namespace)
        namespace.run("sh", "-c", "ip link set lo up && echo 1 > /proc/sys/net/ipv4/ip_forward")
        return namespace

    def link(self, left: Namespace, right: Namespace) -> None:
        """A veth pair 10.9.N.1/24 - 10.9.N.2/24; checksums are computed before packets reach it."""
        number, self._links = self._links, self._links + 1
        ends = ((left, f"l{number}", f"10.9.{number}.1"), (right, f"r{number}", f"10.9.{number}.2"))
        _run(
            f"ip -n {left.name} link add l{number} type veth peer name r{number} netns {right.name}".split(),
        )
        for namespace, interface, address in ends:
            _run(f"ip -n {namespace.name} address add {address}/24 dev {interface}".split())
            _run(f"ip -n {namespace.name} link set {interface} up".split())
            namespace.interfaces.append(interface)
            namespace.addresses.append(address)
        for namespace, interface, _ in ends:
            _await_carrier(namespace, interface)
            with in_namespace(namespace.name):
                disable_transmit_checksum_offload(interface)

    def chain(self, *labels: str) -> tuple[Namespace, ...]:
        """Namespaces linked in a row, with static routes from each to all networks of the row."""
        row = tuple(self.make(label) for label in labels)
        first = self._links
        for left, right in zip(row, row[1:], strict=False):
            self.link(left, right)
        for position, namespace in enumerate(row):
            for network in range(len(row) - 1):
                if network > position:
                    gateway = f"10.9.{first + position}.2"
                elif network < position - 1:
                    gateway = f"10.9.{first + position - 1}.1"
                else:
                    continue
                _run(f"ip -n {namespace.name} route add 10.9.{first + network}.0/24 via {gateway}".split())
        return row

    def remove(self) -> None:
        """Delete every namespace that was made."""
        while self._made:
            _run(("ip", "netns", "delete", self._made.pop().name))


def _await_carrier(namespace: Namespace, interface: str) -> None:
    """The kernel activates a link in the background; until then it drops what is sent."""
    deadline_s = time.monotonic() + CARRIER_TIMEOUT_S
    while "state UP" not in _run(f"ip -n {namespace.name} -o link show {interface}".split()):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{interface} of {namespace.name} has no carrier")
        time.sleep(0.005)


def _run(command: Sequence[str], stdin: str = "") -> str:
    finished = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
    )
    if finished.returncode != 0:
        raise subprocess.CalledProcessError(finished.returncode, command, finished.stdout, finished.stderr)
    return finished.stdout


@contextmanager
def in_namespace(name: str) -> Iterator[None]:
    """The calling thread is in the namespace; sockets made and programs started inside stay in it."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(os.open(Path("/run/netns", name), os.O_RDONLY | os.O_CLOEXEC))
        try:
            yield
        finally:
            _enter(os.dup(here))
    finally:
        os.close(here)


def _enter(descriptor: int) -> None:
    try:
        if _libc.setns(descriptor, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns failed")
    finally:
        os.close(descriptor)


def disable_transmit_checksum_offload(interface: str) -> None:
    """Have the kernel finish checksums before the link, as on a wire, so that a capture shows right ones."""
    value = array.array("B", struct.pack("=II", ETHTOOL_STXCSUM, 0))
    request = struct.pack("16sP", interface.encode(), value.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCETHTOOL, request)
