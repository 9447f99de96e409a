"""Looks at a packet behind each handler before anything is timed: was the work done, and is the packet sound?"""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

from benchmarks.suite.bench_network import QUIET, SINK, BenchNetwork
from benchmarks.suite.handler import C_APPEND, INPATH, LXML, SCAPY, Handler
from benchmarks.suite.message import CAPACITY_PORT, BenchMessages, internet_checksum
from benchmarks.suite.programs import sender_command
from lab.namespaces import inside
from schemas.errors import HostError
from schemas.message import SegmentState, check_consistency
from schemas.payload import message_from_payload

ETH_P_IP = 0x0800
ETHERNET_BYTES = 14
ARRIVAL_LIMIT_S = 3.0
HEADER_BYTES = 24 + 8
APPENDED_OCTETS = 150
"""By queue_peer.c."""
SENT = 3
"""The first packet over a new link may be lost."""


def witness(network: BenchNetwork, handler: Handler, messages: BenchMessages, frames: Path) -> None:
    """Send messages through the handler, which packets meet now, and look at one at the sink.

    Raises:
        HostError: it did not arrive, arrived broken, or without what the handler adds.
    """
    interface = network.ends(SINK, QUIET)[0].interface
    with inside(network.namespace(SINK), lambda: _tap(interface)) as tap:
        subprocess.run(sender_command(network, frames, SENT, 1000, "asleep"), check=True, capture_output=True)
        packet = _awaited(tap, handler)
    _check_sums(packet, handler)
    _check_addition(packet, handler, messages)


def _tap(interface: str) -> socket.socket:
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
    tap.bind((interface, ETH_P_IP))
    tap.settimeout(ARRIVAL_LIMIT_S)
    return tap


def _awaited(tap: socket.socket, handler: Handler) -> bytes:
    while True:
        try:
            packet = tap.recv(65535)[ETHERNET_BYTES:]
        except TimeoutError:
            raise HostError(f"{handler.name}: no packet comes through") from None
        if packet[0] == 0x46 and int.from_bytes(packet[24:26]) == CAPACITY_PORT:
            return packet[: int.from_bytes(packet[2:4])]


def _check_sums(packet: bytes, handler: Handler) -> None:
    pseudo_header = packet[12:20] + bytes((0, 17)) + packet[28:30]
    if int.from_bytes(packet[28:30]) != len(packet) - 24:
        raise HostError(f"{handler.name}: the UDP length is wrong")
    if internet_checksum(packet[:24]) or internet_checksum(pseudo_header + packet[24:]):
        raise HostError(f"{handler.name}: a checksum is wrong")


def _check_addition(packet: bytes, handler: Handler, messages: BenchMessages) -> None:
    payload = packet[HEADER_BYTES:]
    if handler.name == C_APPEND:
        is_right = payload[:-APPENDED_OCTETS] in messages.payloads
    elif handler.name in (INPATH, LXML, SCAPY):
        found = message_from_payload(payload)
        check_consistency(found)
        latest = found.records[-1]
        is_right = len(found.records) == messages.kind.records + 1 and latest.state is SegmentState.MEASURED
    else:
        is_right = payload in messages.payloads
    if not is_right:
        raise HostError(f"{handler.name}: the packet does not hold what it should")
