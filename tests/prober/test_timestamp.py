from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.timestamp import (
    NS_PER_S,
    UNIX_EPOCH_IN_NTP_S,
    ErrorEstimate,
    ntp_from_unix_ns,
    unix_ns_from_ntp,
    unix_ns_from_ptp,
)
from schemas.errors import ProbeError

VECTOR_NS = 1_700_000_000_123_456_789
END_OF_ERA_0_NS = (2**32 - UNIX_EPOCH_IN_NTP_S) * NS_PER_S


def test_a_time_encodes_as_in_the_vector() -> None:
    assert ntp_from_unix_ns(VECTOR_NS) == 0xE8FE6F801F9ADD37


@given(st.integers(0, 2**63), st.integers(-(10**17), 10**17))
def test_decoding_undoes_encoding_in_any_era_near_the_known_time(unix_ns: int, distance_ns: int) -> None:
    assert unix_ns_from_ntp(ntp_from_unix_ns(unix_ns), unix_ns + distance_ns) == unix_ns


def test_a_time_after_2036_decodes_in_the_era_of_the_reader() -> None:
    after_ns = END_OF_ERA_0_NS + 5
    assert ntp_from_unix_ns(after_ns) >> 32 == 0
    assert unix_ns_from_ntp(ntp_from_unix_ns(after_ns), END_OF_ERA_0_NS - NS_PER_S) == after_ns
    assert unix_ns_from_ntp(ntp_from_unix_ns(END_OF_ERA_0_NS - 7), after_ns) == END_OF_ERA_0_NS - 7


def test_ptp_time_is_37_seconds_ahead_of_utc() -> None:
    timestamp = (1_700_000_037 << 32) | 123_456_789
    assert unix_ns_from_ptp(timestamp, VECTOR_NS) == VECTOR_NS


@pytest.mark.parametrize(
    ("error_ns", "synchronized", "wire"),
    [
        (1_000, True, 0x8587),
        (50_000, True, 0x8AD2),
        (1_000_000, True, 0x8F84),
        (5_000_000, True, 0x91A4),
        (100_000_000, False, 0x15CD),
        (16_000_000_000, False, 0x1D80),
        (0, True, 0x8001),
    ],
)
def test_an_error_encodes_as_in_the_vectors(error_ns: int, synchronized: bool, wire: int) -> None:
    estimate = ErrorEstimate.of(error_ns, synchronized=synchronized)
    assert estimate.to_int() == wire
    assert ErrorEstimate.from_int(wire) == estimate


@given(st.integers(1, 10**15), st.booleans())
def test_an_estimate_states_never_less_and_hardly_more_than_the_error(error_ns: int, synchronized: bool) -> None:
    estimate = ErrorEstimate.from_int(ErrorEstimate.of(error_ns, synchronized=synchronized).to_int())
    assert error_ns / 1e6 * (1 - 1e-12) <= estimate.error_ms <= error_ns / 1e6 * 1.008 + 1e-6
    assert estimate.synchronized == synchronized


def test_an_error_beyond_all_bounds_encodes_as_the_greatest() -> None:
    assert ErrorEstimate.of(10**30, synchronized=False).to_int() == 0x3FFF


@given(st.integers(0, 0xFFFF))
def test_every_estimate_survives_the_wire_or_is_corrupt(value: int) -> None:
    if value & 0xFF:
        assert ErrorEstimate.from_int(value).to_int() == value
    else:
        with pytest.raises(ProbeError, match="multiplier"):
            ErrorEstimate.from_int(value)


def test_the_z_bit_chooses_the_format() -> None:
    ptp = ErrorEstimate.from_int(0x4F84)
    assert ptp.unix_ns((1_700_000_037 << 32) | 123_456_789, VECTOR_NS) == VECTOR_NS
    assert ErrorEstimate.from_int(0x0F84).unix_ns(0xE8FE6F801F9ADD37, VECTOR_NS) == VECTOR_NS
