"""What is it worth that points share what they measured, and what does it cost?

    python -m benchmarks.knowledge [--json] [--requests 100] [--refresh 5]

Five points in a row, 10 ms apart: a and b in the north, c, d and e in the south; b and c are at the border. a asks
for the path to e, in turns of some requests that must be walked (`--max-age 0`) and of some that accept data of 30
s, which b answers. On the link between c and d, in the far area, all packets are counted by what they are for. The
last lines tell what sharing puts on that link all the time, beside what the probes put there.

The exit code is 0 when the requests that accept older data put no packet on that link and were answered sooner, 1
when not, 2 for a wrong option. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from lab.build import bring_up
from lab.namespaces import inside
from lab.network import Lab
from lab.points import point_files, start_points
from lab.state import STATE_DIRECTORY_VARIABLE
from lab.teardown import take_down
from lab.topology import Topology, topology_from_json
from prober.knowledge.datagram import KNOWLEDGE_PORT
from prober.stamp.packet import STAMP_PORT
from requestor.client import Client
from requestor.query import PathQuery
from schemas.errors import InpathError, NoAnswerError
from schemas.message import MEASUREMENT_PORT
from schemas.result import PathResult, ResultStatus

AREAS = {"a": "north", "b": "north", "c": "south", "d": "south", "e": "south"}
BORDERS = {"b": "c", "c": "b"}
LINK_DELAY_MS = 10
METRICS = ("delay", "loss", "jitter", "rtt")
MAX_AGE_S = 30.0
TURN = 10
"""Requests of one kind in a row; the kinds take turns, so that both meet the same machine."""
READY_S = 60.0
IDLE_S = 20.0
_ETH_P_ALL = 3
_ETHERNET_BYTES = 14
_PURPOSES = {MEASUREMENT_PORT: "requests", KNOWLEDGE_PORT: "sharing", STAMP_PORT: "probes"}


class LinkCount:
    """Packets and octets that pass one interface, by purpose, from when it is made until it is closed.

    Args:
        namespace, interface: where.
        asker: whose requests and reports they are; other packets of that kind are hellos.
    """

    def __init__(self, namespace: str, interface: str, asker: str) -> None:
        self.packets: Counter[str] = Counter()
        self.octets: Counter[str] = Counter()
        self._socket = inside(
            namespace, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        )
        self._socket.bind((interface, _ETH_P_ALL))
        self._socket.settimeout(0.2)
        self._asker = socket.inet_aton(asker)
        self._is_open = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._is_open = False
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while self._is_open:
            try:
                frame = self._socket.recv(2048)
            except TimeoutError:
                continue
            purpose = _purpose(frame[_ETHERNET_BYTES:], self._asker)
            self.packets[purpose] += 1
            self.octets[purpose] += len(frame) - _ETHERNET_BYTES


def _purpose(packet: bytes, asker: bytes) -> str:
    """By the ports of UDP and TCP, and by who asks."""
    if len(packet) < 24 or packet[0] >> 4 != 4 or packet[9] not in (socket.IPPROTO_UDP, socket.IPPROTO_TCP):
        return "other"
    at = (packet[0] & 15) * 4
    ports = (int.from_bytes(packet[at : at + 2]), int.from_bytes(packet[at + 2 : at + 4]))
    purpose = next((_PURPOSES[port] for port in ports if port in _PURPOSES), "other")
    is_hello = purpose == "requests" and asker not in (packet[12:16], packet[16:20])
    return "hellos" if is_hello else purpose


@contextmanager
def running_lab(refresh_s: float) -> Iterator[Lab]:
    """The five points, started; nothing of them stays."""
    names = list(AREAS)
    topology: Topology = topology_from_json(
        {
            "name": f"k{os.getpid()}{secrets.token_hex(2)}",
            "nodes": {name: {"point": True, "area": area} for name, area in AREAS.items()},
            "links": [{"a": a, "b": b, "delay_ms": LINK_DELAY_MS} for a, b in zip(names, names[1:], strict=False)],
        }
    )
    directory = Path(tempfile.mkdtemp(prefix="kn", dir="/tmp"))
    directory.chmod(0o755)  # the points' processes give up root
    os.environ[STATE_DIRECTORY_VARIABLE] = str(directory)
    try:
        lab = bring_up(topology, start_points=False)
        for name in names:
            file = lab.directory.configuration(name)
            borders = [lab.addressing.identities[BORDERS[name]]] if name in BORDERS else []
            table = f"[knowledge]\nrefresh_s = {refresh_s}\nborders = {json.dumps(borders)}\n"
            file.write_text(f"{file.read_text()}\n{table}")
        start_points(lab.directory, lab.addressing, names, lambda: None)
        yield lab
    finally:
        take_down(topology.name)
        shutil.rmtree(directory)


def ask(lab: Lab, *, max_age_s: float) -> PathResult:
    """One request from a to e."""
    query = PathQuery(
        source=lab.addressing.identities["a"],
        destination=lab.addressing.identities["e"],
        metrics=METRICS,
        timeout_s=5.0,
        max_age_s=max_age_s,
    )
    with Client(point_files(lab.directory, "a").control) as client:
        return client.path(query)


def await_knowledge(lab: Lab) -> float:
    """Ask until b answers for the south; seconds that it took from the start.

    Raises:
        NoAnswerError: it never does.
    """
    began_s = time.monotonic()
    border = lab.addressing.identities["b"]
    while time.monotonic() - began_s < READY_S:
        result = ask(lab, max_age_s=MAX_AGE_S)
        told = [segment.told_by for segment in result.segments]
        if result.status is ResultStatus.COMPLETE and told == [None, border, border, border]:
            return time.monotonic() - began_s
        time.sleep(0.5)
    raise NoAnswerError("the border point never answered for the far area")


def measure(lab: Lab, requests: int, refresh_s: float) -> dict[str, Any]:
    """Both kinds of request in turns, then a while without any."""
    ready_s = await_knowledge(lab)
    plan = next(one for one in lab.addressing.links_of("d") if one.far_end_of("d").node == "c")
    count = LinkCount(lab.addressing.namespace("d"), plan.end_of("d").interface, lab.addressing.identities["a"])
    kinds = {"walked": 0.0, "known": MAX_AGE_S}
    elapsed_ms: dict[str, list[float]] = {kind: [] for kind in kinds}
    packets: Counter[str] = Counter()
    complete: Counter[str] = Counter()
    try:
        for _ in range(-(-requests // TURN)):
            for kind, max_age_s in kinds.items():
                before = count.packets["requests"]
                for _ in range(min(TURN, requests - len(elapsed_ms[kind]))):
                    result = ask(lab, max_age_s=max_age_s)
                    elapsed_ms[kind].append(result.elapsed_ms or 0.0)
                    complete[kind] += result.status is ResultStatus.COMPLETE
                time.sleep(0.3)  # what the connections of the reports still say
                packets[kind] += count.packets["requests"] - before
        octets = Counter(count.octets)
        print(f"without requests, {IDLE_S:g} s", file=sys.stderr, flush=True)
        time.sleep(IDLE_S)
        idle = count.octets - octets
    finally:
        count.close()
    return {
        "requests": requests,
        "ready_s": ready_s,
        "refresh_s": refresh_s,
        "kinds": {
            kind: {
                "complete": complete[kind],
                "median_ms": median(elapsed_ms[kind]),
                "p99_ms": sorted(elapsed_ms[kind])[max(0, round(0.99 * requests) - 1)],
                "far_link_packets": packets[kind],
            }
            for kind in kinds
        },
        "far_link_octets_per_s": {purpose: idle[purpose] / IDLE_S for purpose in ("sharing", "probes", "hellos")},
    }


def table(outcome: dict[str, Any]) -> str:
    """The outcome for people."""
    lines = ["kind    complete  median ms    p99 ms  packets of requests on the far link"]
    for kind, row in outcome["kinds"].items():
        lines.append(
            f"{kind:6}  {row['complete']:8}  {row['median_ms']:9.1f}  {row['p99_ms']:8.1f}"
            f"  {row['far_link_packets']:10}"
        )
    rates = outcome["far_link_octets_per_s"]
    lines.append(f"the border point could answer {outcome['ready_s']:.1f} s after the start")
    lines.append(f"without requests the far link carries, both ways, at a refresh of {outcome['refresh_s']:g} s:")
    lines.append("  " + ", ".join(f"{purpose} {rate:.0f} octets/s" for purpose, rate in rates.items()))
    return "\n".join(lines)


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="Requests with and without the knowledge of other points.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--requests", type=int, default=100, help="of each kind [100]")
    parser.add_argument("--refresh", type=float, default=5.0, help="knowledge.refresh_s of all points [5]")
    options = parser.parse_args()
    if not 1 <= options.requests <= 10_000 or not 1 <= options.refresh <= 30:
        parser.error("--requests must lie between 1 and 10000, --refresh between 1 and 30")
    try:
        with running_lab(options.refresh) as lab:
            outcome = measure(lab, options.requests, options.refresh)
    except InpathError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(outcome, indent=2) if options.json else table(outcome))
    walked, known = (outcome["kinds"][kind] for kind in ("walked", "known"))
    return 0 if known["far_link_packets"] == 0 and known["median_ms"] < walked["median_ms"] else 1


if __name__ == "__main__":
    sys.exit(main())
