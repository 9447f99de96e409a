"""Joins the parts of one request's report: any order, duplicates, bounded in number and time.

A point whose datagram is full reports the records so far to the source and sends the request on without them;
`part` counts these reports. The answer is whole once the final report, of part k, and all before it are here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from schemas.errors import MessageError
from schemas.message import MAX_RECORDS, MeasureRequest, Message, check_consistency

Key = tuple[str, int]
"""Id and copy of a request: parts of different copies may have taken different paths and never mix."""

MAX_OPEN = 1024
"""Requests whose parts are kept at once: a few MiB at most in practice, since most reports have one part."""

NANOSECONDS_PER_MS = 1_000_000


@dataclass(slots=True, kw_only=True)
class _Open:
    """One request: what has come of it."""

    request: MeasureRequest
    expires_at_ns: int
    parts: dict[int, Message] = field(default_factory=dict)
    final_part: int | None = None

    @property
    def key(self) -> Key:
        return self.request.id, self.request.copy

    @property
    def is_whole(self) -> bool:
        return self.final_part is not None and len(self.parts) == self.final_part + 1


class ReportAssembly:
    """Parts in, whole messages out.

    A request is kept for its lifetime, counted from its first part, also when it is whole: a report that comes
    again, because its acknowledgement was lost, gives the same whole message again.

    Args:
        max_open: requests kept at once; the one that expires first makes room, a whole one before any other.
    """

    def __init__(self, max_open: int = MAX_OPEN) -> None:
        self._max_open = max_open
        self._open: dict[Key, _Open] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, message: Message, *, final: bool, now_ns: int) -> Message | None:
        """Take one report; the whole message once all parts are here, else None.

        Args:
            message: what one report carried.
            final: the report came from the last point.
            now_ns: any clock that only goes forward, the same for all calls.

        Raises:
            MessageError: the report contradicts itself or one that came before; nothing of it is kept.
        """
        check_consistency(message)
        self.expire(now_ns)
        request = replace(message.request, part=0, last_point=None)
        known = self._open.get((request.id, request.copy)) or _Open(
            request=request, expires_at_ns=now_ns + request.lifetime_ms * NANOSECONDS_PER_MS
        )
        _check_part(known, request, message, final)
        parts = {**known.parts, message.request.part: message}
        final_part = message.request.part if final else known.final_part
        candidate = replace(known, parts=parts, final_part=final_part)
        whole = _join(candidate) if candidate.is_whole else None
        self._keep(candidate)
        return whole

    def expire(self, now_ns: int) -> None:
        """Forget the requests for which nobody waits any more."""
        for key in [key for key, known in self._open.items() if known.expires_at_ns <= now_ns]:
            del self._open[key]

    def _keep(self, known: _Open) -> None:
        if known.key not in self._open and len(self._open) >= self._max_open:
            victim = min(self._open.values(), key=lambda one: (not one.is_whole, one.expires_at_ns))
            del self._open[victim.key]
        self._open[known.key] = known


def _check_part(known: _Open, request: MeasureRequest, message: Message, final: bool) -> None:
    part = message.request.part
    if request != known.request:
        raise MessageError(f"mr of {request.id}: differs from that of another part, expected the same")
    if part in known.parts:
        if known.parts[part] != message or final != (part == known.final_part):
            raise MessageError(f"pt of {request.id}: part {part} came twice and differs, expected the same")
        return
    if known.final_part is not None and (final or part > known.final_part):
        raise MessageError(
            f"pt of {request.id}: got {part} after the final part {known.final_part}, expected less"
        )
    if final and any(other > part for other in known.parts):
        raise MessageError(f"pt of {request.id}: got final part {part}, expected the highest, {max(known.parts)}")
    if part >= MAX_RECORDS:
        raise MessageError(f"pt of {request.id}: got {part}, expected less than {MAX_RECORDS}")


def _join(known: _Open) -> Message:
    parts = [known.parts[part] for part in sorted(known.parts)]
    records = tuple(record for part in parts for record in part.records)
    if len(records) > MAX_RECORDS:
        raise MessageError(f"mrp of {known.request.id}: got {len(records)}, expected at most {MAX_RECORDS}")
    whole = Message(request=known.request, records=records)
    for before, after in zip(parts, parts[1:], strict=False):
        if after.request.last_point != before.latest_point:
            raise MessageError(
                f"lp of {known.request.id}: got {after.request.last_point} in part {after.request.part}, "
                f"expected {before.latest_point}, where the part before ends"
            )
    check_consistency(whole)
    return whole
