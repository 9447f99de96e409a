"""What `inpath mp status --json` says of a running point."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from mp import clock
from mp.archive import Archive
from mp.greeter import Greeter
from mp.host import HostState
from mp.http.link import HttpLink
from mp.knowledge.sharing import Knowledge
from mp.measurements import Measurements
from mp.packet_links import PacketLinks
from mp.reporter import Reporter
from mp.segments import Segments
from mp.settings import PointSettings
from mp.verification import Verification
from prober.segment import SegmentSnapshot
from schemas.metrics import Registry, Statistics, headline, sample_count


def status_document(
    *,
    point: PointSettings,
    uptime_s: float,
    host: HostState,
    registry: Registry,
    segments: Segments,
    greeter: Greeter,
    link: PacketLinks,
    http: HttpLink,
    measurements: Measurements,
    reporter: Reporter,
    archive: Archive,
    verification: Verification,
    knowledge: Knowledge,
) -> dict[str, Any]:
    """The point's state: who it is, its neighbors, its counters."""
    now_ns = clock.now_ns()
    store = archive.state
    check = verification.last
    return {
        "point": {"name": point.name, "address": point.address, "area": point.area},
        "version": version("inpath"),
        "pid": os.getpid(),
        "uptime_s": uptime_s,
        "clock": asdict(segments.clock_state()),
        "host": {"addresses": list(host.addresses), "smallest_mtu_bytes": host.smallest_mtu_bytes},
        "neighbors": [_neighbor(snapshot, registry, now_ns) for snapshot in segments.udp.snapshots()],
        "discovery": greeter.discovery.neighbors(),
        **segments.counters(),
        "packet_process": {
            "pid": link.pid,
            "pids": list(link.pids),
            "rules": link.rules,
            "restarts": link.restarts,
            "counters": dict(link.counters),
        },
        "http": {"pid": http.pid, "restarts": http.restarts},
        "knowledge": knowledge.status(),
        "requests": {"pending": measurements.pending, **measurements.counters},
        "reports": dict(reporter.counters),
        "store": None if store is None else asdict(store),
        "verification": None if check is None else check.to_json(),
    }


def _neighbor(snapshot: SegmentSnapshot, registry: Registry, now_ns: int) -> dict[str, Any]:
    newest_ns = snapshot.newest_sample_at_ns
    return {
        "address": snapshot.peer,
        "role": str(snapshot.role),
        "state": str(snapshot.state),
        "newest_sample_age_s": None if newest_ns is None else max(0, now_ns - newest_ns) / 1e9,
        "hops": snapshot.hops,
        "last_60_s": _metrics(snapshot.statistics, registry),
        "last_10_s": _metrics(snapshot.recent, registry),
        "toward_it_last_60_s": _metrics(snapshot.outbound, registry),
        "counters": dict(snapshot.counters),
    }


def _metrics(statistics: Mapping[str, Statistics], registry: Registry) -> dict[str, Any]:
    return {
        name: {
            "value": headline(values),
            "unit": registry[name].unit,
            "count": sample_count(values),
            **asdict(values),
        }
        for name, values in statistics.items()
    }
