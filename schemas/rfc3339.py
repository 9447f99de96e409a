"""Times as text (RFC 3339, always UTC with `Z`) and as whole microseconds since the Unix epoch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from schemas.errors import MessageError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

MAX_TIME_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""End of the year 9999: RFC 3339 has four digits for the year."""
MIN_TIME_US = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


def rfc3339_from_us(time_us: int, *, decimals: int = 6) -> str:
    """The time with `decimals` digits of the second, 3 or 6; what does not fit is cut off.

    Raises:
        MessageError: a year before 1 or after 9999.
    """
    if not MIN_TIME_US <= time_us <= MAX_TIME_US:
        raise MessageError(f"time: got {time_us} us, expected a year from 1 to 9999")
    moment = _EPOCH + time_us * _MICROSECOND
    text = moment.isoformat(timespec="milliseconds" if decimals == 3 else "microseconds")
    return text.removesuffix("+00:00") + "Z"


def us_from_rfc3339(text: str) -> int:
    """Microseconds since the Unix epoch; reverses `rfc3339_from_us`.

    Raises:
        MessageError: no time, or one that does not say its offset from UTC.
    """
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise MessageError(f"time: got {text!r}, expected RFC 3339 such as 2026-01-31T12:00:00.000Z") from error
    if moment.tzinfo is None:
        raise MessageError(f"time: got {text!r}, expected an offset from UTC such as Z")
    return (moment - _EPOCH) // _MICROSECOND
