"""The links of a lab behind one small protocol: netem where the kernel has it, else a process in user space."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Protocol

from lab import namespaces
from lab.addressing import Addressing
from lab.impairment import Impairment
from lab.processes import all_processes, arguments, start_process
from lab.topology import Topology
from lab.user_link import Endpoint, UserLinks
from schemas.errors import HostError, LabError, UsageError

SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM = 0x17
"""linux/sockios.h and linux/ethtool.h."""

NETEM_QUEUE_PACKETS = 20_000
"""What netem may hold: 1 s of 20,000 packets/s. Its default of 1000 would drop what is only on its way."""

TBF_BURST_BYTES = 15_140
"""Ten full Ethernet frames: enough for TBF to keep a rate of 100 Mbit/s at a timer of 1 kHz. A frame longer than
this would never pass; the longest MTU makes 9014."""

TBF_LATENCY_MS = 50
"""What a limited rate queues before it drops, as the user-space link does."""


class LinkKind(StrEnum):
    """What carries the packets between the nodes."""

    NETEM = "netem"
    USER_SPACE = "user-space"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLink:
    """A link ready to be made."""

    link_id: str
    a: Endpoint
    b: Endpoint
    a_to_b: Impairment
    b_to_a: Impairment
    mtu_octets: int


class LinkDriver(Protocol):
    """Makes links and changes what they do to packets."""

    def add(self, links: Sequence[PlannedLink]) -> None:
        """Make the interfaces, in namespaces that exist; the caller gives addresses and brings them up."""

    def set(self, link: PlannedLink) -> None:
        """Apply a link's impairments and MTU anew."""


def planned_links(topology: Topology, addressing: Addressing) -> list[PlannedLink]:
    """All links of a topology, ready to be made."""
    return [planned_link(topology, addressing, index) for index in range(len(topology.links))]


def planned_link(topology: Topology, addressing: Addressing, index: int) -> PlannedLink:
    """One link of a topology, ready to be made."""
    link, plan = topology.links[index], addressing.links[index]
    a, b = (Endpoint(addressing.namespace(e.node), e.interface, e.mac) for e in (plan.a, plan.b))
    return PlannedLink(
        link_id=f"{link.a}--{link.b}",
        a=a,
        b=b,
        a_to_b=link.a_to_b,
        b_to_a=link.b_to_a,
        mtu_octets=link.mtu_octets,
    )


def detect_link_kind(scratch_namespace: str) -> LinkKind:
    """Try netem for real, in a namespace made for it and removed again.

    Raises:
        HostError: this process may not make namespaces.
    """
    namespaces.create([scratch_namespace])
    try:
        namespaces.inside(
            scratch_namespace,
            lambda: namespaces.run_batch("tc", ["qdisc add dev lo root netem delay 1ms"]),
        )
    except HostError:
        return LinkKind.USER_SPACE
    finally:
        namespaces.remove([scratch_namespace])
    return LinkKind.NETEM


def link_driver(kind: LinkKind, control: Path) -> LinkDriver:
    """The driver of a lab that is up.

    Args:
        kind: what carries its packets.
        control: the control socket of its user-space links.
    """
    return NetemLinks() if kind is LinkKind.NETEM else UserSpaceLinks(control)


class UserSpaceLinks:
    """TAP pairs served by one process for the whole lab."""

    def __init__(self, control: Path) -> None:
        self._control = control

    @staticmethod
    def start(control: Path, log: Path) -> None:
        """Start the process, and return when it answers.

        Raises:
            LabError: it does not answer; the error carries the last line of its log.
        """
        start_process(user_link_command(control), log, os.environ | {"PYTHONPATH": _import_path()})
        try:
            UserLinks(control).close()
        except LabError:
            raise LabError(f"the user-space links do not start: {last_line(log)}") from None

    def add(self, links: Sequence[PlannedLink]) -> None:
        """Make the TAP pairs."""
        with closing(UserLinks(self._control)) as process:
            for link in links:
                process.add(link.link_id, link.a, link.b, link.a_to_b, link.b_to_a)
                process.set_mtu(link.link_id, link.mtu_octets)

    def set(self, link: PlannedLink) -> None:
        """Apply a link's impairments and MTU anew."""
        with closing(UserLinks(self._control)) as process:
            process.set_mtu(link.link_id, link.mtu_octets)
            process.set(link.link_id, link.a_to_b, link.b_to_a)


class NetemLinks:
    """veth pairs with netem, and TBF below it for a limited rate, at both ends.

    A link that is down loses every packet but keeps its carrier: OSPF notices by its dead interval.
    """

    def add(self, links: Sequence[PlannedLink]) -> None:
        """Make the veth pairs with their queueing disciplines."""
        namespaces.run_batch("ip", [veth_command(link) for link in links])
        for end, impairment in (e for link in links for e in _sending_ends(link)):
            namespaces.inside(end.namespace, partial(finish_checksums, end.interface))
            _apply(end, impairment)

    def set(self, link: PlannedLink) -> None:
        """Set both ends' MTU, and replace their queueing disciplines."""
        for end, impairment in _sending_ends(link):
            mtu = f"link set {end.interface} mtu {link.mtu_octets}"
            namespaces.inside(end.namespace, partial(namespaces.run_batch, "ip", [mtu]))
            _apply(end, impairment)


def _sending_ends(link: PlannedLink) -> tuple[tuple[Endpoint, Impairment], ...]:
    return (link.a, link.a_to_b), (link.b, link.b_to_a)


def _apply(end: Endpoint, impairment: Impairment) -> None:
    commands = netem_commands(end.interface, impairment)
    namespaces.inside(end.namespace, partial(namespaces.run_batch, "tc", commands))


def veth_command(link: PlannedLink) -> str:
    """The `ip` command that makes both ends in their namespaces."""
    a, b, mtu = link.a, link.b, f"mtu {link.mtu_octets}"
    return (
        f"link add {a.interface} netns {a.namespace}{_mac(a)} {mtu} type veth "
        f"peer name {b.interface} netns {b.namespace}{_mac(b)} {mtu}"
    )


def _mac(end: Endpoint) -> str:
    return "" if end.mac is None else f" address {end.mac}"


def netem_commands(interface: str, impairment: Impairment) -> list[str]:
    """The `tc` commands that make an interface's sending direction what the impairment says.

    Raises:
        UsageError: it asks for what netem cannot do.
    """
    if impairment.drops_options:
        raise UsageError("drops_options", True, "false: only links in user space can do that")
    netem = f"qdisc replace dev {interface} root handle 1: netem limit {NETEM_QUEUE_PACKETS}"
    if impairment.delay_ms:
        netem += f" delay {impairment.delay_ms * 1000:.3f}us"
    if impairment.jitter_ms:
        netem += f" {impairment.jitter_ms * 1000:.3f}us"
    loss_ratio = impairment.loss_ratio if impairment.up else 1.0
    if loss_ratio:
        netem += f" loss {loss_ratio * 100:.6g}%"
    if impairment.rate_mbit is None:
        return [netem]
    rate = f"rate {impairment.rate_mbit * 1000:.3f}kbit burst {TBF_BURST_BYTES} latency {TBF_LATENCY_MS}ms"
    return [netem, f"qdisc replace dev {interface} parent 1: handle 2: tbf {rate}"]


def finish_checksums(interface: str) -> None:
    """Let the kernel finish checksums before a veth sends, so that a capture at any hop shows right ones.

    Raises:
        HostError: the interface refuses.
    """
    command = ctypes.create_string_buffer(struct.pack("=II", ETHTOOL_STXCSUM, 0))
    # struct ifreq: 16 octets of name, then a union of 24 that holds a pointer here.
    request = struct.pack("16sP16x", interface.encode(), ctypes.addressof(command))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        try:
            fcntl.ioctl(door, SIOCETHTOOL, request)
        except OSError as error:
            raise HostError(f"cannot turn off checksum offload of {interface}: {error.strerror}") from None


def user_link_command(control: Path) -> list[str]:
    """The command line of the process that serves the user-space links."""
    return [sys.executable, "-m", "lab.user_link", "--control", str(control)]


def user_link_processes(control: Path) -> set[int]:
    """The ids of the processes that serve this control socket, found by their command line."""
    wanted = user_link_command(control)[1:]
    return {pid for pid in all_processes() if arguments(pid)[1:] == wanted}


def _import_path() -> str:
    """PYTHONPATH for a Python process that is to import this package, wherever this one found it."""
    here = str(Path(__file__).resolve().parent.parent)
    return os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))


def last_line(log: Path) -> str:
    """The last line of a log that is not empty."""
    try:
        lines = log.read_text(errors="replace").split("\n")
    except FileNotFoundError:
        lines = []
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")
