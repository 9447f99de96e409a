"""What the kernels of a lab's nodes forward by at this moment."""

from __future__ import annotations

import json
import subprocess
import sys
from ipaddress import IPv4Address
from pathlib import Path

from lab.addressing import Addressing
from lab.namespaces import inside

_HOST_MASK = "FFFFFFFF"


def present_path(addressing: Addressing, source: str, destination: str) -> tuple[str, ...]:
    """Follow the present route hop by hop, asking each node's kernel.

    Returns:
        The nodes from the source on; the last one is the destination, or the node where the route breaks off
        (no route, or back at a node that was passed before).
    """
    address = addressing.identities[destination]
    path = [source]
    while path[-1] != destination:
        following = _next_node(addressing, path[-1], address)
        if following is None or following in path:
            break
        path.append(following)
    return tuple(path)


def _next_node(addressing: Addressing, node: str, address: str) -> str | None:
    interface = inside(addressing.namespace(node), lambda: output_interface(address))
    for link in addressing.links_of(node):
        if link.end_of(node).interface == interface:
            return link.far_end_of(node).node
    return None


def output_interface(address: str) -> str | None:
    """The interface by which the calling thread's namespace sends to an address; None without a route."""
    # `ip` asks with RTM_GETROUTE, so the kernel itself decides, with all its rules and link states.
    done = subprocess.run(["ip", "-j", "route", "get", address], capture_output=True, text=True)
    if done.returncode != 0:
        return None
    answer = json.loads(done.stdout)[0]
    return str(answer["dev"]) if "dev" in answer else None


def host_routes() -> dict[str, str]:
    """The /32 routes of the calling thread's namespace: address -> interface."""
    # /proc/net belongs to the process; the thread that has entered a namespace has its own.
    lines = Path("/proc/thread-self/net/route").read_text().splitlines()[1:]
    routes = {}
    for line in lines:
        interface, destination, _, _, _, _, _, mask, *_ = line.split()
        if mask == _HOST_MASK:
            routes[_address(destination)] = interface
    return routes


def _address(hexadecimal: str) -> str:
    """An address as /proc/net/route writes it: the four octets as one number of the machine's byte order."""
    return str(IPv4Address(int(hexadecimal, 16).to_bytes(4, sys.byteorder)))
