"""A path of 64 points on the real kernel path: is every answer whole, and no datagram ever cut?

    python -m benchmarks.long_path [--points 64] [--asks 5] [--json]

A row of points, each a namespace with its own daemon, a millisecond between two. The first asks for the last,
for the usual metrics and for all of them, on links of 1500 and of 576 octets; a capture on every link sees each
datagram. It takes five minutes, most of them until each point has measured the available bandwidth of its
segment, which is done on demand alone.

Printed are the links, the slices of the question, the parts in which the records came, datagrams and the longest
of them, fragments, and the time to the answer (median and longest), beside what the links alone take both ways.

So many points on one machine share its cores: they probe and share less often, and the times say as much of the
machine as of the overlay.

The exit code is 0 when each answer was complete and no datagram was cut, 1 when not, 2 for a wrong option. Needs
root.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.scale import settings
from requestor.query import DEFAULT_METRICS
from schemas.errors import InpathError
from schemas.metrics import METRICS
from schemas.result import ResultStatus
from tests.overlay.long_chain import (
    ASK_TIMEOUT_S,
    LINK_DELAY_MS,
    Walk,
    await_mtu,
    chain_of,
    names_in,
    set_mtu,
    walk,
)
from tests.overlay.network import Network, eventually, network, start
from tests.overlay.point_configuration import configure

MTUS_BYTES = (1500, 576)
QUESTIONS = {"usual": DEFAULT_METRICS, "all": tuple(METRICS)}
PROBES_PER_S = 0.5
RATE_MBIT = 20.0
BANDWIDTH = {"enabled": True, "max_rate_mbit_s": 2 * RATE_MBIT}
"""On demand alone. Narrow links, so that what all points measure at once finds room on one machine."""
SHARED_EVERY_S = 180.0
READY_S = 300.0
MOST_POINTS = 100


@contextmanager
def chain(points: int) -> Iterator[Network]:
    """The row, all its points up and every segment measured."""
    with network(chain_of(points, rate_mbit=RATE_MBIT)) as net:
        names = names_in(net)
        for name in names:
            configure(net, name, {**settings(PROBES_PER_S, SHARED_EVERY_S), "bandwidth": BANDWIDTH})
        began_s = time.monotonic()
        start(net)
        _say(f"{points} points are up after {time.monotonic() - began_s:.0f} s")
        net.await_answer(names[0], names[-1], names, within_s=READY_S)
        _say(f"every segment is measured after {time.monotonic() - began_s:.0f} s")
        await_all_metrics(net)
        _say(f"what is measured on demand alone, too, after {time.monotonic() - began_s:.0f} s")
        yield net


def await_all_metrics(net: Network) -> None:
    """Ask for them, so that they are measured, until all are told."""
    names = names_in(net)

    def is_whole() -> bool:
        result = net.ask(names[0], names[-1], timeout_s=ASK_TIMEOUT_S, metrics=tuple(METRICS))
        return result.status is ResultStatus.COMPLETE

    eventually(is_whole, "all metrics of all segments", within_s=READY_S)


def measure(points: int, asks: int) -> list[dict[str, Any]]:
    """One row for each MTU and question."""
    rows = []
    with chain(points) as net:
        path = [net.address(name) for name in names_in(net)]
        for mtu_bytes in MTUS_BYTES:
            set_mtu(net, mtu_bytes)
            await_mtu(net, mtu_bytes)
            for question, metrics in QUESTIONS.items():
                walks = []
                for _ in range(asks):
                    with tempfile.TemporaryDirectory() as directory:
                        walks.append(walk(net, metrics, Path(directory)))
                rows.append(row(mtu_bytes, question, walks, path))
                _say(f"asked {asks} times for the {question} metrics over {mtu_bytes} octets")
    return rows


def row(mtu_bytes: int, question: str, walks: Sequence[Walk], path: Sequence[str]) -> dict[str, Any]:
    """What several walks of one kind have shown."""
    return {
        "mtu_bytes": mtu_bytes,
        "metrics": question,
        "asked": len(walks),
        "complete": sum(not one.faults(path, mtu_bytes) for one in walks),
        "faults": sorted({fault for one in walks for fault in one.faults(path, mtu_bytes)}),
        "links": min(one.links for one in walks),
        "slices": max(one.slices for one in walks),
        "parts": max(one.parts for one in walks),
        "datagrams": median(one.datagrams for one in walks),
        "largest_bytes": max(one.largest_bytes for one in walks),
        "fragments": sum(one.fragments for one in walks),
        "median_ms": median(one.elapsed_ms for one in walks),
        "longest_ms": max(one.elapsed_ms for one in walks),
        "links_alone_ms": 2 * LINK_DELAY_MS * (len(path) - 1),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows for people."""
    lines = [
        " MTU  metrics  complete  links  slices  parts  datagrams  longest  fragments  median ms  most ms  links"
    ]
    for one in rows:
        lines.append(
            f"{one['mtu_bytes']:4}  {one['metrics']:7}  {one['complete']:3}/{one['asked']:<3}   {one['links']:5}"
            f"  {one['slices']:6}  {one['parts']:5}  {one['datagrams']:9.0f}  {one['largest_bytes']:7}"
            f"  {one['fragments']:9}"
            f"  {one['median_ms']:9.0f}  {one['longest_ms']:7.0f}  {one['links_alone_ms']:8}"
        )
        lines += [f"      {fault}" for fault in one["faults"]]
    return "\n".join(lines)


def _say(text: str) -> None:
    print(f"{time.strftime('%T')} {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="A long path, on the real kernel path.")
    parser.add_argument("--points", type=int, default=64, help="in the row [64]")
    parser.add_argument("--asks", type=int, default=5, help="of each kind [5]")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    if not 2 <= options.points <= MOST_POINTS or not 1 <= options.asks <= 1000:
        parser.error(f"--points must lie between 2 and {MOST_POINTS}, --asks between 1 and 1000")
    try:
        rows = measure(options.points, options.asks)
    except InpathError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(rows, indent=2) if options.json else table(rows))
    return 0 if all(one["complete"] == one["asked"] for one in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
