from __future__ import annotations

import re
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as plain_families

from mp.exposition import exposition
from mp.exposition_families import FAMILIES, Kind
from schemas.metrics import METRICS
from tests.mp.point_status import MEASURED, STATUS

SEGMENT = {"upstream": "192.0.2.2", "current": "192.0.2.1"}
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(status: dict[str, Any], accept: str = "") -> Values:
    """By name and labels, as the reference parsers of the library understand the text."""
    content_type, body = exposition(status, accept=accept)
    families = openmetrics_families if content_type.startswith("application/openmetrics") else plain_families
    found: Values = {}
    for family in families(body.decode()):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, "a scrape with the same series twice is refused"
            found[key] = sample.value
    return found


def value(name: str, status: dict[str, Any] = STATUS, /, **labels: str) -> float | None:
    return read(status).get((name, frozenset(labels.items())))


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("inpath_build_info", {"version": "0.1.0"}, 1),
        ("inpath_point_info", {"name": "border-1", "address": "192.0.2.1", "area": 'nor"th\\'}, 1),
        ("inpath_uptime_seconds", {}, 61.25),
        ("inpath_clock_error_bound_seconds", {}, 0.00005),
        ("inpath_clock_synchronized", {}, 1),
        ("inpath_segment_delay_seconds", SEGMENT, 0.0125),
        ("inpath_segment_delay_minimum_seconds", SEGMENT, 0.01),
        ("inpath_segment_delay_error_bound_seconds", SEGMENT, 0.0005),
        ("inpath_segment_delay_percentile_seconds", {**SEGMENT, "percentile": "95"}, 0.014),
        ("inpath_segment_samples", SEGMENT, 590),
        ("inpath_segment_loss_ratio", SEGMENT, 0.01),
        ("inpath_segment_jitter_seconds", SEGMENT, 0.003),
        ("inpath_segment_interarrival_jitter_seconds", SEGMENT, 0.00075),
        ("inpath_segment_rtt_seconds", SEGMENT, 0.025),
        ("inpath_segment_sample_age_seconds", SEGMENT, 0.125),
        ("inpath_segment_hops", SEGMENT, 3),
        ("inpath_segment_mtu_bytes", SEGMENT, 1500),
        ("inpath_segment_capacity_bytes_per_second", SEGMENT, 12_500_000),
        ("inpath_segment_utilization_ratio", SEGMENT, 0.25),
        ("inpath_segment_available_bandwidth_bytes_per_second", SEGMENT, 7_812_500),
        ("inpath_segment_available_bandwidth_low_bytes_per_second", SEGMENT, 7_500_000),
        ("inpath_segment_plugin_value", {**SEGMENT, "metric": "icmp-rtt", "unit": "seconds"}, 0.025),
        ("inpath_segment_probes_sent_total", SEGMENT, 600),
        ("inpath_segment_events_total", {**SEGMENT, "event": "duplicate"}, 2),
        ("inpath_records_appended_total", {}, 7),
        ("inpath_packets_decided_total", {"decision": "passed"}, 3),
        ("inpath_packet_process_restarts_total", {}, 1),
        ("inpath_queue_packets", {}, 2),
        ("inpath_queue_dropped_packets_total", {"reason": "queue_full"}, 1),
        ("inpath_requests_total", {"status": "complete"}, 5),
        ("inpath_requests_pending", {}, 1),
        ("inpath_reports_total", {"outcome": "acknowledged"}, 2),
        ("inpath_discovery_destinations_unanswered", {}, 1),
        ("inpath_mtu_probe_bytes_total", {}, 12_000),
        ("inpath_bandwidth_sent_bytes_total", {}, 90_000),
        ("inpath_plugin_runs_total", {"plugin": "icmp-rtt", "outcome": "measured"}, 2),
        ("inpath_store_up", {}, 0),
        ("inpath_spool_results", {}, 4),
        ("inpath_verification_agrees", {"destination": "198.51.100.9"}, 0),
    ],
)
def test_each_value_is_there_in_its_base_unit(name: str, labels: dict[str, str], expected: float) -> None:
    assert value(name, **labels) == pytest.approx(expected)


def test_every_family_has_a_value_and_every_value_a_family() -> None:
    assert {name for name, _ in read(STATUS)} == {family.name for family in FAMILIES}
    assert set(MEASURED) == set(METRICS), "a new metric needs a family"


def test_the_names_follow_the_conventions() -> None:
    for family in FAMILIES:
        assert re.fullmatch(r"inpath_[a-z]+(_[a-z]+)*", family.name)
        assert not re.search(r"_(ms|milliseconds|mbit|octets|percent|count)(_|$)", family.name)
        assert (family.kind is Kind.COUNTER) == family.name.endswith("_total")
        assert family.help.endswith(".")
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_openmetrics_says_the_same_to_who_names_it() -> None:
    assert exposition(STATUS, accept=OPENMETRICS)[0].startswith("application/openmetrics-text; version=1.0.0")
    assert exposition(STATUS)[0] == "text/plain; version=0.0.4; charset=utf-8"
    assert read(STATUS, OPENMETRICS) == read(STATUS)
    assert b"# UNIT inpath_segment_delay_seconds seconds" in exposition(STATUS, accept=OPENMETRICS)[1]


def test_what_is_not_known_is_left_out() -> None:
    sleeping = frozenset({"upstream": "192.0.2.3", "current": "192.0.2.1"}.items())
    names = {name for name, labels in read(STATUS) if labels >= sleeping}
    assert names == {
        "inpath_segment_measured",
        "inpath_segment_role",
        "inpath_segment_probes_sent_total",
        "inpath_segment_probes_received_total",
    }
    young = {**STATUS, "store": None, "verification": None}
    assert not {name for name, _ in read(young)} & {"inpath_store_up", "inpath_verification_agrees"}
    undecided = {**STATUS, "verification": {"destination": "198.51.100.9", "verdict": "unknown"}}
    assert value("inpath_verification_agrees", undecided, destination="198.51.100.9") is None


def test_a_counter_of_what_may_happen_begins_at_zero() -> None:
    process: dict[str, Any] = {"pid": None, "rules": "", "restarts": 0, "counters": {}}
    fresh = {**STATUS, "packet_process": process, "requests": {"pending": 0}, "reports": {}}
    assert value("inpath_requests_total", fresh, status="failed") == 0
    assert value("inpath_packets_intercepted_total", fresh) == value("inpath_records_appended_total", fresh) == 0
    assert value("inpath_packet_process_up", fresh) == 0
    assert value("inpath_queue_packets", fresh) is None
