from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from mp.results.time_span import (
    TimeSpan,
    duration_us_from_text,
    is_local,
    span_from_texts,
    time_us_from_text,
    utc_text,
)
from schemas.errors import UsageError

NOW_US = 1_767_268_800_000_000  # 2026-01-01T12:00:00Z
HOUR_US = 3_600_000_000


@pytest.fixture
def berlin() -> Iterator[None]:
    """This host is in Berlin."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "CET-1CEST,M3.5.0,M10.5.0/3"
    time.tzset()
    yield
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1), ("90m", 5400), ("2h", 7200), ("30d", 30 * 86_400), ("4w", 28 * 86_400)]
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert duration_us_from_text("since", text) == seconds * 1_000_000


@pytest.mark.parametrize("text", ["", "0h", "2", "h", "-2h", "1.5h", "2 h", "2H", "2h\n", "9999999999d"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="since: got"):
        duration_us_from_text("since", text)


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("2026-01-01T12:00:00Z", 0),
        ("2026-01-01 12:00Z", 0),
        ("2026-01-01T12:00:00.000+02:00", -2),
        ("2026-01-01 12:00", -1),
        ("2026-01-01", -13),
    ],
)
def test_a_moment_without_an_offset_is_local(berlin: None, text: str, hours: int) -> None:
    assert time_us_from_text("from", text) == NOW_US + hours * HOUR_US


def test_local_time_follows_the_rules_of_summer(berlin: None) -> None:
    assert utc_text(time_us_from_text("from", "2026-07-01 12:00")) == "2026-07-01 10:00:00"


@pytest.mark.parametrize("text", ["", "yesterday", "12:00", "2026-13-01", "2026-01-01T25:00Z", "0001-01-01 00:00"])
def test_other_moments_are_refused(berlin: None, text: str) -> None:
    with pytest.raises(UsageError, match="from: got"):
        time_us_from_text("from", text)


def test_only_a_moment_without_an_offset_is_called_local() -> None:
    assert [is_local(text) for text in ("2026-01-01", "2026-01-01T00:00Z", "tomorrow")] == [True, False, False]


def test_a_span_reaches_back_from_now_or_is_open() -> None:
    assert span_from_texts("2h", None, None, NOW_US) == TimeSpan(NOW_US - 2 * HOUR_US, None)
    assert span_from_texts(None, None, None, NOW_US) == TimeSpan(None, None)
    assert span_from_texts("100000w", None, None, 0).start_us is not None


def test_a_span_is_said_in_utc(berlin: None) -> None:
    span = span_from_texts(None, "2026-01-01 11:00", "2026-01-01T12:00:00Z", NOW_US)
    assert str(span) == "from 2026-01-01 10:00:00 UTC until 2026-01-01 12:00:00 UTC"


@pytest.mark.parametrize(
    ("since", "start", "end"),
    [
        ("2h", "2026-01-01T00:00Z", None),
        (None, "2026-01-01T00:00Z", "2026-01-01T00:00Z"),
        ("2h", None, "2026-01-01T10:00Z"),
    ],
)
def test_a_span_that_contradicts_itself_is_refused(since: str | None, start: str | None, end: str | None) -> None:
    with pytest.raises(UsageError):
        span_from_texts(since, start, end, NOW_US)
