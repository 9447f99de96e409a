from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.interfaces.load import UNKNOWN_LOAD, InterfaceLoad, Utilization
from prober.interfaces.report import REPORT_OCTETS, InterfaceReport
from schemas.errors import ProbeError


@st.composite
def utilizations(draw: st.DrawFn) -> Utilization:
    shares = draw(st.lists(st.integers(0, 10_000), min_size=3, max_size=3).map(sorted))
    least, mean, greatest = (share / 10_000 for share in shares)
    return Utilization(mean=mean, least=least, greatest=greatest, intervals=draw(st.integers(1, 65_535)))


known = st.builds(
    InterfaceLoad,
    capacity_mbit_s=st.floats(2**-10, 2**30, width=32),
    utilization=st.none() | utilizations(),
)
loads = st.just(UNKNOWN_LOAD) | known


@given(st.builds(InterfaceReport, egress=loads, ingress=loads))
def test_decoding_reverses_encoding(report: InterfaceReport) -> None:
    assert InterfaceReport.from_value(report.to_value()) == report


@given(st.binary(max_size=40) | st.binary(min_size=REPORT_OCTETS, max_size=REPORT_OCTETS))
def test_any_octets_are_a_report_or_a_probe_error(value: bytes) -> None:
    try:
        report = InterfaceReport.from_value(value)
    except ProbeError:
        return
    for load in (report.egress, report.ingress):
        assert load.capacity_mbit_s is None or 0 < load.capacity_mbit_s < math.inf
        assert load.utilization is None or load.capacity_mbit_s is not None


def test_the_octets_stand_where_they_are_said_to_stand() -> None:
    used = Utilization(mean=0.25, least=0.1, greatest=1.0, intervals=6)
    report = InterfaceReport(egress=InterfaceLoad(capacity_mbit_s=100, utilization=used))
    assert report.to_value() == struct.pack("!fHHHH12x", 100, 2500, 1000, 10_000, 6)
    assert InterfaceReport().to_value() == bytes(REPORT_OCTETS)


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        ((math.nan, 0, 0, 0, 0), "no rate"),
        ((math.inf, 0, 0, 0, 0), "no rate"),
        ((-1.0, 0, 0, 0, 0), "no rate"),
        ((10.0, 5, 6, 7, 1), "no share"),
        ((10.0, 8, 6, 7, 1), "no share"),
        ((10.0, 8, 6, 10_001, 1), "no share"),
        ((0.0, 5, 5, 5, 1), "without a capacity"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(load: tuple[float, int, int, int, int], reason: str) -> None:
    value = struct.pack("!fHHHH", *load)
    for report in (value + bytes(12), bytes(12) + value):
        with pytest.raises(ProbeError, match=reason):
            InterfaceReport.from_value(report)
