"""All benchmarks by name: those of the suite, and those that stand alone."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from benchmarks.suite import daemon_cost, latency, packet_path, path_request, probe_traffic, queue_scaling
from benchmarks.suite.benchmark import Benchmark

SUITE: Mapping[str, Benchmark] = MappingProxyType(
    {
        one.name: one
        for one in (
            Benchmark("packet-path", "processor time for each packet, and packets a second", packet_path.run),
            Benchmark("queue-scaling", "packets a second of one packet process, and of two", queue_scaling.run),
            Benchmark("latency", "what a point adds to a packet's delay", latency.run),
            Benchmark("daemon", "start, processor time and memory of a point", daemon_cost.run),
            Benchmark(
                "path-request", "from the question to the answer, beside ping, mtr and irtt", path_request.run
            ),
            Benchmark("probe-traffic", "what it costs to know all pairs, beside a full mesh", probe_traffic.run),
        )
    }
)

FULL_ONLY = frozenset({"queue-scaling", "probe-traffic"})
"""What the short form of the whole suite leaves out."""

ALONE: Mapping[str, str] = MappingProxyType(
    {
        "available-bandwidth": "how near the estimate is to what a link has left",
        "chaos": "whether points that are killed and hung at random leave every answer true",
        "composition-coverage": "how often the composed interval holds the truth",
        "flood": "what a flood of requests does to a point",
        "growth": "how many points fit into a datagram, and what a long path costs",
        "http-load": "does asking over HTTP slow the packets",
        "knowledge": "what points know of far segments, and what telling each other costs",
        "link-delay": "how exact the lab's links are",
        "long-path": "whether a path of 64 points is told whole, and no datagram is cut",
        "noise-floor": "the least delay that can be told, beside irtt and ping",
        "probe-cost": "what 20 probe sessions cost a point",
        "recovery": "how soon after a link failed a path is told again, beside OSPF",
        "scale": "a network of the Internet Topology Zoo with a point on every router",
        "store": "results a second into the database, and history out of it",
    }
)
"""Programs of their own with limits of their own (`python -m benchmarks.NAME --help`); run by name only."""
