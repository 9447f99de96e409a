"""What `inpath mp status --json` says of a running point."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from mp import clock
from prober.segment import SegmentSnapshot
from schemas.metrics import METRICS, Statistics, headline, sample_count

if TYPE_CHECKING:
    from mp.daemon import Daemon


def status_document(daemon: Daemon) -> dict[str, Any]:
    """The point's state: who it is, its neighbors, its counters."""
    now_ns = clock.now_ns()
    clock_state = daemon.clock_state()
    store = daemon.archive.state
    return {
        "point": {"name": daemon.point.name, "address": daemon.point.address, "area": daemon.point.area},
        "version": version("inpath"),
        "pid": os.getpid(),
        "uptime_s": (clock.monotonic_ms() - daemon.started_ms) / 1000,
        "clock": {"synchronized": clock_state.synchronized, "error_ms": clock_state.error_ms},
        "host": {"addresses": list(daemon.host.addresses), "smallest_mtu_bytes": daemon.host.smallest_mtu_bytes},
        "neighbors": [_neighbor(snapshot, now_ns) for snapshot in daemon.udp_prober.snapshots()],
        "probes": dict(daemon.udp_prober.counters()),
        "packet_process": {
            "pid": daemon.link.pid,
            "rules": daemon.link.rules,
            "restarts": daemon.link.restarts,
            "counters": dict(daemon.link.counters),
        },
        "requests": {"pending": daemon.measurements.pending, **daemon.measurements.counters},
        "reports": dict(daemon.reporter.counters),
        "store": None if store is None else asdict(store),
    }


def _neighbor(snapshot: SegmentSnapshot, now_ns: int) -> dict[str, Any]:
    newest_ns = snapshot.newest_sample_at_ns
    return {
        "address": snapshot.peer,
        "role": str(snapshot.role),
        "state": str(snapshot.state),
        "newest_sample_age_s": None if newest_ns is None else max(0, now_ns - newest_ns) / 1e9,
        "hops": snapshot.hops,
        "last_60_s": _metrics(snapshot.statistics),
        "last_10_s": _metrics(snapshot.recent),
        "toward_it_last_60_s": _metrics(snapshot.outbound),
        "counters": dict(snapshot.counters),
    }


def _metrics(statistics: Mapping[str, Statistics]) -> dict[str, Any]:
    return {
        name: {
            "value": headline(values),
            "unit": METRICS[name].unit,
            "count": sample_count(values),
            **asdict(values),
        }
        for name, values in statistics.items()
    }
