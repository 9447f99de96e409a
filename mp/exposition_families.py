"""The metrics that the endpoint serves: name, kind, labels, and what each says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

OF_SEGMENT = "inpath_segment_"
_SEGMENT = ("upstream", "current")
_UNITS = ("bytes_per_second", "seconds", "ratio", "bytes")


class Kind(StrEnum):
    """How a value behaves over time."""

    GAUGE = "gauge"
    COUNTER = "counter"


@dataclass(frozen=True, slots=True)
class Family:
    """One name, and the values under it that differ in their labels."""

    name: str
    """With its unit; of a counter with `_total`, as it is written in queries."""
    help: str
    labels: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """What its name says of it."""
        return Kind.COUNTER if self.name.endswith("_total") else Kind.GAUGE

    @property
    def unit(self) -> str:
        """The base unit at the end of its name, or none."""
        stem = self.name.removesuffix("_total")
        return next((unit for unit in _UNITS if stem.endswith(f"_{unit}")), "")


def _of_segment(name: str, text: str, *labels: str) -> Family:
    return Family(OF_SEGMENT + name, text, (*_SEGMENT, *labels))


FAMILIES = (
    Family("inpath_build_info", "Version of the daemon.", ("version",)),
    Family("inpath_point_info", "Who this point is.", ("name", "address", "area")),
    Family("inpath_uptime_seconds", "Time since the daemon started."),
    Family("inpath_clock_synchronized", "1 if an external source disciplines the clock."),
    Family("inpath_clock_error_bound_seconds", "Bound on the clock's error; means little if not synchronized."),
    Family("inpath_interface_smallest_mtu_bytes", "Smallest MTU of the interfaces that are up."),
    _of_segment("measured", "1 if the segment has current samples."),
    _of_segment("role", "1 for the part that this point plays in the segment.", "role"),
    _of_segment("sample_age_seconds", "Age of the newest sample."),
    _of_segment("samples", "One-way delays seen in the last 60 s."),
    _of_segment("delay_seconds", "Mean one-way delay over 60 s."),
    _of_segment("delay_minimum_seconds", "Least one-way delay over 60 s."),
    _of_segment("delay_percentile_seconds", "Percentiles of the one-way delay over 60 s.", "percentile"),
    _of_segment("delay_error_bound_seconds", "Bound on the error of one-way delays by both clocks."),
    _of_segment("delay_synchronized", "1 if both clocks are synchronized."),
    _of_segment("loss_ratio", "Packets lost one way, of those sent in 60 s."),
    _of_segment("jitter_seconds", "Delay variation: 99.9 % quantile less minimum (RFC 5481)."),
    _of_segment("interarrival_jitter_seconds", "Interarrival jitter (RFC 3550)."),
    _of_segment("rtt_seconds", "Mean round-trip time over 60 s."),
    _of_segment("rtt_minimum_seconds", "Least round-trip time over 60 s."),
    _of_segment("reordering_ratio", "Packets that came out of order (RFC 4737)."),
    _of_segment("duplication_ratio", "Packets that came more than once (RFC 5560)."),
    _of_segment("hops", "IP hops from the upstream point."),
    _of_segment("mtu_bytes", "Largest packet that crosses the segment whole."),
    _of_segment("capacity_bytes_per_second", "IP capacity."),
    _of_segment("utilization_ratio", "Part of the capacity in use."),
    _of_segment("available_bandwidth_bytes_per_second", "Available bandwidth by the newest estimate."),
    _of_segment("available_bandwidth_low_bytes_per_second", "Lower end of its interval."),
    _of_segment("available_bandwidth_high_bytes_per_second", "Upper end of its interval."),
    _of_segment("plugin_value", "What a plug-in measured, in the unit of the label.", "metric", "unit"),
    _of_segment("probes_sent_total", "Probe packets and replies sent."),
    _of_segment("probes_received_total", "Probe packets and replies received."),
    _of_segment("events_total", "What befell probes and clocks.", "event"),
    Family("inpath_packet_process_up", "1 if the process that intercepts packets runs."),
    Family("inpath_packet_process_restarts_total", "How often that process had to be started again."),
    Family("inpath_packets_intercepted_total", "Packets taken from the kernel's queue."),
    Family("inpath_packets_decided_total", "Intercepted packets by what became of them.", ("decision",)),
    Family("inpath_records_appended_total", "Records that this point added to requests."),
    Family("inpath_records_incomplete_total", "Records that lacked a metric that was asked for."),
    Family("inpath_bridge_events_dropped_total", "Events lost between the two processes."),
    Family("inpath_packet_handler_failures_total", "Packets that passed unchanged since their handling failed."),
    Family("inpath_queue_packets", "Packets in the kernel's queue without a verdict."),
    Family("inpath_queue_dropped_packets_total", "Packets that the kernel's queue dropped.", ("reason",)),
    Family("inpath_requests_pending", "Requests of this point that wait for an answer."),
    Family("inpath_requests_total", "Requests of this point by the status of their result.", ("status",)),
    Family("inpath_request_copies_sent_total", "Request packets sent, repetitions included."),
    Family("inpath_reports_total", "Reports to points that asked, by outcome.", ("outcome",)),
    Family("inpath_discovery_destinations", "Destinations toward which neighbors are looked for."),
    Family("inpath_discovery_destinations_unanswered", "Those toward which none has been found."),
    Family("inpath_probe_faults_total", "Probe packets refused, and troubles of their sockets.", ("fault",)),
    Family("inpath_mtu_probes_total", "Packets sent to find the MTU."),
    Family("inpath_mtu_probe_bytes_total", "Their octets."),
    Family("inpath_bandwidth_sent_bytes_total", "Octets sent in streams that measure available bandwidth."),
    Family("inpath_bandwidth_events_total", "Streams, requests for them and answers.", ("event",)),
    Family("inpath_plugin_runs_total", "Measurements by plug-ins.", ("plugin", "outcome")),
    Family("inpath_store_up", "1 if the result database took the last result."),
    Family("inpath_spool_results", "Results that wait for the database."),
    Family("inpath_spool_refused_results", "Results set aside since the database refuses them for good."),
    Family("inpath_verification_agrees", "1 if the last direct measurement agreed.", ("destination",)),
)
