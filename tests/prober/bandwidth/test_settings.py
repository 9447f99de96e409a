from __future__ import annotations

from typing import Any

import pytest

from prober.bandwidth.settings import BandwidthSettings
from schemas.errors import UsageError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("min_rate_mbit_s", 0),
        ("max_rate_mbit_s", 0.5),
        ("min_packet_bytes", 60),
        ("max_packet_bytes", 199),
        ("min_interval_us", 0),
        ("stream_duration_ms", 501),
        ("packets_per_stream", 401),
        ("streams_per_fleet", 2),
        ("load_ratio", 0),
        ("resolution_ratio", 2),
        ("max_estimate_s", 0),
        ("max_octets_per_hour", 10),
        ("max_rate_mbit_s", float("nan")),
    ],
)
def test_a_setting_outside_its_range_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=field):
        BandwidthSettings(**{field: value})


def test_packets_and_intervals_bound_the_rate_too() -> None:
    assert BandwidthSettings().fastest_rate_mbit_s == 100
    assert BandwidthSettings(min_interval_us=400).fastest_rate_mbit_s == pytest.approx(30)
