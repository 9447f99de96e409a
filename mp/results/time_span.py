"""A stretch of time as people write it: the last hours, or from one moment to another."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from schemas.errors import MessageError, UsageError
from schemas.rfc3339 import MIN_TIME_US, rfc3339_from_us, us_from_rfc3339

_US_PER_S = 1_000_000
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")
_DURATIONS = "a whole number and s, m, h, d or w, such as 90m, 24h or 30d"
_MOMENTS = "RFC 3339 such as 2026-01-31T12:00:00Z, or local time such as 2026-01-31 12:00"


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """From `start_us` until before `end_us`, microseconds since the Unix epoch; None is open."""

    start_us: int | None
    end_us: int | None

    def __str__(self) -> str:
        parts = (("from", self.start_us), ("until", self.end_us))
        return " ".join(f"{word} {utc_text(time_us)} UTC" for word, time_us in parts if time_us is not None)


def utc_text(time_us: int) -> str:
    """Date and time of day to the second, in UTC."""
    return rfc3339_from_us(time_us)[:19].replace("T", " ")


def duration_us_from_text(field: str, text: str) -> int:
    """`90s`, `2h`, `30d` in microseconds.

    Raises:
        UsageError: another text, or no time at all.
    """
    found = _DURATION.fullmatch(text)
    if found is None or int(found[1]) == 0:
        raise UsageError(field, text, _DURATIONS)
    return int(found[1]) * _SECONDS[found[2]] * _US_PER_S


def time_us_from_text(field: str, text: str) -> int:
    """A moment in microseconds since the Unix epoch; without an offset from UTC, in this host's zone.

    Raises:
        UsageError: no moment.
    """
    try:
        if is_local(text):
            text = datetime.fromisoformat(text).astimezone().isoformat()
        return us_from_rfc3339(text)
    except (MessageError, ValueError, OverflowError) as error:
        raise UsageError(field, text, _MOMENTS) from error


def is_local(text: str) -> bool:
    """Whether the moment, if it is one, says nothing of UTC."""
    try:
        return datetime.fromisoformat(text).tzinfo is None
    except ValueError:
        return False


def span_from_texts(since: str | None, start: str | None, end: str | None, now_us: int) -> TimeSpan:
    """What the options `--since`, `--from` and `--to` say together.

    Args:
        since: how long before now, as for `duration_us_from_text`.
        start: a moment, as for `time_us_from_text`.
        end: a moment.
        now_us: microseconds since the Unix epoch.

    Raises:
        UsageError: one of them cannot be meant, or not with another.
    """
    if since is not None and start is not None:
        raise UsageError("since", since, "either --since or --from")
    start_us = None if start is None else time_us_from_text("from", start)
    if since is not None:
        start_us = max(MIN_TIME_US, now_us - duration_us_from_text("since", since))
    end_us = None if end is None else time_us_from_text("to", end)
    if end is not None and start_us is not None and end_us is not None and end_us <= start_us:
        raise UsageError("to", end, f"a time after {utc_text(start_us)} UTC")
    return TimeSpan(start_us, end_us)
