"""The status of a point that measures everything, as `inpath mp status --json` prints it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from schemas.metrics import (
    METRICS,
    DelayStatistics,
    DistributionStatistics,
    JitterStatistics,
    LossStatistics,
    RoundTripStatistics,
    ScalarStatistics,
    Statistics,
    headline,
    sample_count,
)


def metric(statistics: Statistics, unit: str) -> dict[str, Any]:
    return {
        "value": headline(statistics),
        "unit": unit,
        "count": sample_count(statistics),
        **asdict(statistics),
    }


def scalar(value: float, low: float = 0.0, high: float = 0.0) -> ScalarStatistics:
    return ScalarStatistics(count=5, value=value, low=low, high=high, measured_at_ms=0)


MEASURED: dict[str, Statistics] = {
    "delay": DelayStatistics(
        count=590,
        mean_ms=12.5,
        minimum_ms=10.0,
        variance_ms2=1.0,
        third_moment_ms3=0.1,
        upstream_clock_error_ms=0.2,
        current_clock_error_ms=0.3,
        synchronized=True,
    ),
    "loss": LossStatistics(sent=600, lost=6, threshold_ms=1000, runs=2, longest_run=3),
    "jitter": JitterStatistics(
        count=590,
        pdv_ms=3.0,
        ipdv_ms=1.0,
        signed_ipdv_ms=0.0,
        least_ipdv_ms=-2.0,
        greatest_ipdv_ms=2.0,
        interarrival_ms=0.75,
        mean_pdv_ms=2.5,
        variance_ms2=1.0,
        third_moment_ms3=0.1,
    ),
    "rtt": RoundTripStatistics(count=590, mean_ms=25, minimum_ms=20, variance_ms2=1, third_moment_ms3=0.1),
    "distribution": DistributionStatistics(count=590, minimum_ms=10, p50_ms=12, p95_ms=14, p99_ms=15, bins="0:1"),
    "reordering": scalar(0.01),
    "duplication": scalar(0.02),
    "hops": scalar(3),
    "mtu": scalar(1500),
    "capacity": scalar(100),
    "utilization": scalar(0.25),
    "available-bandwidth": scalar(62.5, 60, 65),
}

STATUS: dict[str, Any] = {
    "point": {"name": "border-1", "address": "192.0.2.1", "area": 'nor"th\\'},
    "version": "0.1.0",
    "pid": 6,
    "uptime_s": 61.25,
    "clock": {"synchronized": True, "error_ms": 0.05},
    "host": {"addresses": ["192.0.2.1"], "smallest_mtu_bytes": 1400},
    "neighbors": [
        {
            "address": "192.0.2.2",
            "role": "sender",
            "state": "measured",
            "newest_sample_age_s": 0.125,
            "last_60_s": {
                **{name: metric(MEASURED[name], METRICS[name].unit) for name in MEASURED},
                "icmp-rtt": metric(scalar(25.0), "ms"),
            },
            "counters": {"sent": 600, "received": 594, "duplicate": 2, "reordering-extent": 9},
        },
        {
            "address": "192.0.2.3",
            "role": "asleep",
            "state": "pending",
            "newest_sample_age_s": None,
            "last_60_s": {},
            "counters": {"sent": 0, "received": 0},
        },
    ],
    "discovery": {"198.51.100.9": "192.0.2.2", "198.51.100.10": None},
    "probes": {"stranger": 4},
    "mtu": {"probes": 9, "octets": 12_000},
    "bandwidth": {"streams-sent": 3, "sent-octets": 90_000},
    "plugin icmp-rtt": {"measured": 2},
    "packet_process": {
        "pid": 7,
        "rules": "iptables",
        "restarts": 1,
        "counters": {
            "intercepted": 10,
            "forwarded": 4,
            "reported": 2,
            "handed_over": 1,
            "passed": 3,
            "missing": 1,
            "queue_waiting": 2,
            "queue_dropped": 1,
            "user_dropped": 0,
            "handler_failed": 0,
        },
    },
    "requests": {"pending": 1, "complete": 5, "copies_sent": 7},
    "reports": {"acknowledged": 2},
    "store": {"database": "away", "spool_depth": 4, "refused": 1, "last_error": "gone"},
    "verification": {"destination": "198.51.100.9", "verdict": "differs"},
}
"""Every family of the exposition has a value in it."""
