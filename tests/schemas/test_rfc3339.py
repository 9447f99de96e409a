from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import MessageError
from schemas.rfc3339 import MAX_TIME_US, MIN_TIME_US, rfc3339_from_us, us_from_rfc3339


@given(st.integers(MIN_TIME_US, MAX_TIME_US))
def test_text_keeps_every_microsecond(time_us: int) -> None:
    assert us_from_rfc3339(rfc3339_from_us(time_us)) == time_us


def test_text_is_utc_with_the_digits_asked_for() -> None:
    assert rfc3339_from_us(0) == "1970-01-01T00:00:00.000000Z"
    assert rfc3339_from_us(1_767_268_800_123_456, decimals=3) == "2026-01-01T12:00:00.123Z"
    assert us_from_rfc3339("2026-01-01T13:00:00+01:00") == 1_767_268_800_000_000


@pytest.mark.parametrize("text", ["", "soon", "2026-01-01T12:00:00", "2026-13-01T12:00:00Z"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(MessageError, match="time: got"):
        us_from_rfc3339(text)


@pytest.mark.parametrize("time_us", [MIN_TIME_US - 1, MAX_TIME_US + 1])
def test_a_year_of_five_digits_is_refused(time_us: int) -> None:
    with pytest.raises(MessageError, match="expected a year"):
        rfc3339_from_us(time_us)
