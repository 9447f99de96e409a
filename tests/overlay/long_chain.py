"""A row of points whose records no single datagram holds, and a request on all its wires."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from schemas.payload import message_from_payload
from schemas.result import PathResult, ResultStatus
from tests.overlay.capture import Captures, Interface, capturing
from tests.overlay.network import Network, eventually, points_of

LINK_DELAY_MS = 1
ASK_TIMEOUT_S = 10.0


def chain_of(points: int, *, rate_mbit: float | None = None) -> dict[str, Any]:
    """The topology: p1, p2 and so on, with a millisecond between two."""
    names = names_of(points)
    link = {"delay_ms": LINK_DELAY_MS} | ({} if rate_mbit is None else {"rate_mbit": rate_mbit})
    return {
        "nodes": {name: {"point": True} for name in names},
        "links": [{"a": a, "b": b, **link} for a, b in pairwise(names)],
    }


def names_of(points: int) -> list[str]:
    return [f"p{number}" for number in range(1, points + 1)]


def set_mtu(net: Network, mtu_bytes: int) -> None:
    """Of both ends of every link."""
    for name in names_in(net):
        for plan in net.lab.addressing.links_of(name):
            interface = plan.end_of(name).interface
            assert net.run(name, "ip", "link", "set", interface, "mtu", str(mtu_bytes)).exit_code == 0


def await_mtu(net: Network, mtu_bytes: int, *, within_s: float = 30.0) -> None:
    """Return when every point knows of it."""
    for name in names_in(net):
        eventually(
            lambda name=name: net.status(name)["host"]["smallest_mtu_bytes"] == mtu_bytes,  # type: ignore[misc]
            f"{name} to know its MTU",
            within_s=within_s,
        )


def names_in(net: Network) -> list[str]:
    return [node.name for node in net.lab.topology.nodes]


def handed_over(net: Network) -> int:
    """Reports that points on the way have sent ahead, so far."""
    counters = [net.status(name)["packet_process"]["counters"] for name in names_in(net)]
    return sum(counter.get("handed_over", 0) for counter in counters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """One request from the first point to the last, as an onlooker at every link saw it."""

    result: PathResult
    elapsed_ms: float
    links: int
    """On which a datagram of the request was seen."""
    datagrams: int
    """Of the request, on all links together."""
    slices: int
    """Into which the question was cut by metric."""
    parts: int
    """The most parts that one slice came in."""
    largest_bytes: int
    """The longest datagram, with its headers."""
    fragments: int
    """First fragments of what was cut; those behind it name no port."""
    damaged: int
    """Datagrams with a wrong checksum."""

    def faults(self, expected_path: Sequence[str], mtu_bytes: int) -> list[str]:
        """All that is wrong, a line each."""
        wrong = []
        if self.result.status is not ResultStatus.COMPLETE:
            wrong.append(f"the answer is {self.result.status}")
        elif points_of(self.result) != tuple(expected_path):
            wrong.append(f"the answer is that of another path: {points_of(self.result)}")
        if self.links != len(expected_path) - 1:
            wrong.append(f"seen on {self.links} of {len(expected_path) - 1} links")
        if self.fragments or self.damaged:
            wrong.append(f"{self.fragments} cut and {self.damaged} damaged datagrams")
        if self.largest_bytes > mtu_bytes:
            wrong.append(f"a datagram of {self.largest_bytes} octets on links of {mtu_bytes}")
        return wrong


def walk(net: Network, metrics: tuple[str, ...], directory: Path) -> Walk:
    """Ask once, and look at every link meanwhile; `directory` takes the captures."""
    names = names_in(net)
    # Every second node sees every link.
    ends = [Interface(name, far) for name in names[1::2] for far in _neighbors(names, name)]
    with capturing(net, ends, "udp port 49862", directory) as captures:
        began_s = time.monotonic()
        result = net.ask(names[0], names[-1], timeout_s=ASK_TIMEOUT_S, metrics=metrics, max_age_s=0)
        elapsed_ms = (time.monotonic() - began_s) * 1000
        captures.await_packets()
    return _seen(captures, result, elapsed_ms)


def _seen(captures: Captures, result: PathResult, elapsed_ms: float) -> Walk:
    frames = captures.frames()
    whole = [
        (end, frame) for end, frame in frames if (frame["ip.flags.mf"], frame["ip.frag_offset"]) == ("0", "0")
    ]
    damaged = [
        frame for _, frame in whole if (frame["ip.checksum.status"], frame["udp.checksum.status"]) != ("1", "1")
    ]
    requests = [
        (end, frame, message_from_payload(bytes.fromhex(frame["udp.payload"])).request) for end, frame in whole
    ]
    own = [(end, frame, request) for end, frame, request in requests if request.id == result.id]
    return Walk(
        result=result,
        elapsed_ms=elapsed_ms,
        links=len({end for end, _, _ in own}),
        datagrams=len(own),
        slices=max(request.slices for _, _, request in own),
        parts=1 + max(request.part for _, _, request in own),
        largest_bytes=max(int(frame["ip.len"]) for _, frame, _ in own),
        fragments=len(frames) - len(whole),
        damaged=len(damaged),
    )


def _neighbors(names: Sequence[str], name: str) -> list[str]:
    index = names.index(name)
    return [names[near] for near in (index - 1, index + 1) if 0 <= near < len(names)]
