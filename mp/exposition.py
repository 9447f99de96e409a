"""What `inpath mp status --json` says, in the text formats of Prometheus and OpenMetrics.

Base units as there is custom: seconds, ratios, bytes. What is not known is left out, never made up; a counter of
something that can happen begins with 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS_TYPE
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from mp.exposition_families import FAMILIES, OF_SEGMENT, Kind

Sample = tuple[str, tuple[str, ...], float]
"""Name of the family, values of its labels, value."""

_OPENMETRICS = "application/openmetrics-text"

_SEGMENT_VALUES = {
    "delay": {"mean_ms": "delay_seconds", "minimum_ms": "delay_minimum_seconds", "count": "samples"},
    "loss": {"value": "loss_ratio"},
    "jitter": {"pdv_ms": "jitter_seconds", "interarrival_ms": "interarrival_jitter_seconds"},
    "rtt": {"mean_ms": "rtt_seconds", "minimum_ms": "rtt_minimum_seconds"},
    "reordering": {"value": "reordering_ratio"},
    "duplication": {"value": "duplication_ratio"},
    "hops": {"value": "hops"},
    "mtu": {"value": "mtu_bytes"},
    "capacity": {"value": "capacity_bytes_per_second"},
    "utilization": {"value": "utilization_ratio"},
    "available-bandwidth": {
        "value": "available_bandwidth_bytes_per_second",
        "low": "available_bandwidth_low_bytes_per_second",
        "high": "available_bandwidth_high_bytes_per_second",
    },
}
"""By metric and statistic: the family, without `inpath_segment_`."""

_PERCENTILES = {"p50_ms": "50", "p95_ms": "95", "p99_ms": "99"}
_BASE_UNITS = {"ms": ("seconds", 1e-3), "Mbit/s": ("bytes_per_second", 125_000.0), "octets": ("bytes", 1.0)}
"""By unit of the status: the base unit, and how much of it one is."""

_DECISIONS = ("forwarded", "reported", "handed_over", "relayed", "passed", "overloaded")
_APPENDED = ("forwarded", "reported", "handed_over", "relayed")
"""Each of these decisions has added a record to a message."""
_QUEUE_DROPS = {"queue_dropped": "queue_full", "user_dropped": "buffer_full"}
_STATUSES = ("complete", "partial", "failed")
_REPORT_OUTCOMES = ("acknowledged", "refused", "given_up", "dropped", "displaced")
_GREATEST_NOT_COUNT = ("reordering-extent",)
_PLUGIN = "plugin "


def exposition(status: Mapping[str, Any], *, accept: str = "") -> tuple[str, bytes]:
    """The content type and the text.

    Args:
        status: see `mp/status.py`.
        accept: the HTTP header of whoever asks; OpenMetrics is given only to who names it.
    """
    collector = _StatusCollector(samples(status))
    if _OPENMETRICS in accept:
        return OPENMETRICS_TYPE, generate_openmetrics(collector)  # type: ignore[no-untyped-call]
    return CONTENT_TYPE_PLAIN_0_0_4, generate_latest(collector)


def samples(status: Mapping[str, Any]) -> Iterator[Sample]:
    """All values, in the order of the document."""
    yield from _point(status)
    for neighbor in status["neighbors"]:
        yield from _segment(status["point"]["address"], neighbor)
    yield from _packet_process(status["packet_process"])
    yield from _requests(status["requests"], status["reports"])
    yield from _measuring(status)
    yield from _store(status["store"])
    yield from _verification(status["verification"])


class _StatusCollector(Collector):
    """Families of the samples, in the order of their definition."""

    def __init__(self, values: Iterable[Sample]) -> None:
        self._values: dict[str, list[tuple[tuple[str, ...], float]]] = {}
        for name, labels, value in values:
            self._values.setdefault(name, []).append((labels, value))

    def collect(self) -> Iterable[Metric]:
        """What the library writes out."""
        for family in FAMILIES:
            if family.name in self._values:
                kind = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
                metric = kind(family.name, family.help, labels=family.labels, unit=family.unit)
                for labels, value in self._values[family.name]:
                    metric.add_metric(labels, value)
                yield metric


def _point(status: Mapping[str, Any]) -> Iterator[Sample]:
    point, clock = status["point"], status["clock"]
    yield "inpath_build_info", (status["version"],), 1
    yield "inpath_point_info", (point["name"], point["address"], point["area"]), 1
    yield "inpath_uptime_seconds", (), status["uptime_s"]
    yield "inpath_clock_synchronized", (), clock["synchronized"]
    yield "inpath_clock_error_bound_seconds", (), clock["error_ms"] / 1000
    yield "inpath_interface_smallest_mtu_bytes", (), status["host"]["smallest_mtu_bytes"]


def _segment(current: str, neighbor: Mapping[str, Any]) -> Iterator[Sample]:
    segment = (neighbor["address"], current)
    yield f"{OF_SEGMENT}measured", segment, neighbor["state"] == "measured"
    yield f"{OF_SEGMENT}role", (*segment, neighbor["role"]), 1
    if neighbor["newest_sample_age_s"] is not None:
        yield f"{OF_SEGMENT}sample_age_seconds", segment, neighbor["newest_sample_age_s"]
    for metric, values in neighbor["last_60_s"].items():
        yield from _metric(segment, metric, values)
    for event, count in neighbor["counters"].items():
        if event in ("sent", "received"):
            yield f"{OF_SEGMENT}probes_{event}_total", segment, count
        elif event not in _GREATEST_NOT_COUNT:
            yield f"{OF_SEGMENT}events_total", (*segment, event), count


def _metric(segment: tuple[str, str], metric: str, values: Mapping[str, Any]) -> Iterator[Sample]:
    if metric == "distribution":
        for field, percentile in _PERCENTILES.items():
            yield f"{OF_SEGMENT}delay_percentile_seconds", (*segment, percentile), values[field] / 1000
        return
    unit, factor = _BASE_UNITS.get(values["unit"], (values["unit"], 1.0))
    if metric not in _SEGMENT_VALUES:
        yield f"{OF_SEGMENT}plugin_value", (*segment, metric, unit), values["value"] * factor
        return
    for field, family in _SEGMENT_VALUES[metric].items():
        yield OF_SEGMENT + family, segment, values[field] * (1.0 if field == "count" else factor)
    if metric == "delay":
        error_ms = values["upstream_clock_error_ms"] + values["current_clock_error_ms"]
        yield f"{OF_SEGMENT}delay_error_bound_seconds", segment, error_ms / 1000
        yield f"{OF_SEGMENT}delay_synchronized", segment, values["synchronized"]


def _packet_process(process: Mapping[str, Any]) -> Iterator[Sample]:
    counters = process["counters"]
    yield "inpath_packet_process_up", (), process["pid"] is not None
    yield "inpath_packet_process_restarts_total", (), process["restarts"]
    yield "inpath_packets_intercepted_total", (), counters.get("intercepted", 0)
    for decision in _DECISIONS:
        yield "inpath_packets_decided_total", (decision,), counters.get(decision, 0)
    yield "inpath_records_appended_total", (), sum(counters.get(decision, 0) for decision in _APPENDED)
    yield "inpath_records_incomplete_total", (), counters.get("missing", 0)
    yield "inpath_bridge_events_dropped_total", (), counters.get("events_dropped", 0)
    yield "inpath_packet_handler_failures_total", (), counters.get("handler_failed", 0)
    if "queue_waiting" in counters:
        yield "inpath_queue_packets", (), counters["queue_waiting"]
    for counter, reason in _QUEUE_DROPS.items():
        yield "inpath_queue_dropped_packets_total", (reason,), counters.get(counter, 0)


def _requests(requests: Mapping[str, int], reports: Mapping[str, int]) -> Iterator[Sample]:
    yield "inpath_requests_pending", (), requests["pending"]
    for status in _STATUSES:
        yield "inpath_requests_total", (status,), requests.get(status, 0)
    yield "inpath_request_copies_sent_total", (), requests.get("copies_sent", 0)
    for outcome in _REPORT_OUTCOMES:
        yield "inpath_reports_total", (outcome,), reports.get(outcome, 0)


def _measuring(status: Mapping[str, Any]) -> Iterator[Sample]:
    yield "inpath_discovery_destinations", (), len(status["discovery"])
    yield "inpath_discovery_destinations_unanswered", (), list(status["discovery"].values()).count(None)
    for fault, count in status["probes"].items():
        yield "inpath_probe_faults_total", (fault,), count
    yield "inpath_mtu_probes_total", (), status["mtu"]["probes"]
    yield "inpath_mtu_probe_bytes_total", (), status["mtu"]["octets"]
    for event, count in status["bandwidth"].items():
        if event == "sent-octets":
            yield "inpath_bandwidth_sent_bytes_total", (), count
        else:
            yield "inpath_bandwidth_events_total", (event,), count
    for key, counters in status.items():
        if key.startswith(_PLUGIN):
            for outcome, count in counters.items():
                yield "inpath_plugin_runs_total", (key.removeprefix(_PLUGIN), outcome), count


def _store(store: Mapping[str, Any] | None) -> Iterator[Sample]:
    if store is not None:  # otherwise the database has not been looked for yet
        yield "inpath_store_up", (), store["database"] == "up"
        yield "inpath_spool_results", (), store["spool_depth"]
        yield "inpath_spool_refused_results", (), store["refused"]


def _verification(check: Mapping[str, Any] | None) -> Iterator[Sample]:
    if check is not None and check["verdict"] != "unknown":
        yield "inpath_verification_agrees", (check["destination"],), check["verdict"] == "agrees"
