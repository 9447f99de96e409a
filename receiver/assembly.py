"""Joins the parts of one request's report: any order, duplicates, bounded in number and time.

A question about many metrics may be sent in slices, each with some of them; a point whose datagram is full reports
the records so far to the source and sends the request on without them, and `part` counts these reports. The answer
is whole once of each slice the final report, of part k, and all before it are here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from schemas.authentication import Standing, record_standings, request_standing, worst
from schemas.errors import MessageError
from schemas.keyring import NO_KEYS, Keyring
from schemas.message import MAX_RECORDS, MeasureRequest, Message, SegmentRecord, SegmentState, check_consistency

Key = tuple[str, int]
"""Id and copy of a request: parts of different copies may have taken different paths and never mix."""

MAX_OPEN = 1024
"""Requests whose parts are kept at once: a few MiB at most in practice, since most reports have one part."""
MAX_SLICES = 8
MAX_TWINS = 4
"""Of one signed part. A link that doubles a datagram makes two of all that follow: each has tags of its own, and
goes with the parts of its own chain alone."""

NANOSECONDS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """All that was reported of one request."""

    message: Message
    """Without slices and parts; its tags tell nothing any more."""
    request: Standing
    """What the source's tag is worth: the least of all parts."""
    records: tuple[Standing, ...]
    """What the tags of each record are worth."""

    @property
    def standing(self) -> Standing:
        """Of the answer as a whole."""
        return worst((self.request, *self.records))


@dataclass(slots=True)
class _Slice:
    """One part of the metrics: the reports that have come."""

    parts: dict[int, tuple[Message, ...]] = field(default_factory=dict)
    """By number; each as it came first, and its twins."""
    final_part: int | None = None

    @property
    def is_whole(self) -> bool:
        return self.final_part is not None and len(self.parts) == self.final_part + 1

    def with_part(self, message: Message, *, final: bool) -> _Slice:
        part = message.request.part
        twins = self.parts.get(part, ())
        if message not in twins:
            twins = (*twins, message)
        return _Slice({**self.parts, part: twins}, part if final else self.final_part)


@dataclass(slots=True, kw_only=True)
class _Open:
    """One request: what has come of it."""

    request: MeasureRequest
    """Without what differs between its parts."""
    expires_at_ns: int
    slices: dict[int, _Slice] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return self.request.id, self.request.copy

    @property
    def is_whole(self) -> bool:
        return len(self.slices) == self.request.slices and all(one.is_whole for one in self.slices.values())


class ReportAssembly:
    """Parts in, whole messages out.

    A request is kept for its lifetime, counted from its first part, also when it is whole: a report that comes
    again, because its acknowledgement was lost, gives the same whole message again.

    Args:
        max_open: requests kept at once; the one that expires first makes room, a whole one before any other.
        keyring: by which to tell who wrote what.
    """

    def __init__(self, max_open: int = MAX_OPEN, keyring: Keyring = NO_KEYS) -> None:
        self._max_open = max_open
        self._keyring = keyring
        self._open: dict[Key, _Open] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, message: Message, *, final: bool, now_ns: int) -> Whole | None:
        """Take one report; the whole once all parts are here, else None.

        Args:
            message: what one report carried.
            final: the report came from the last point.
            now_ns: any clock that only goes forward, the same for all calls.

        Raises:
            MessageError: the report contradicts itself or one that came before; nothing of it is kept.
        """
        check_consistency(message)
        self.expire(now_ns)
        request = _common(message.request)
        known = self._open.get((request.id, request.copy)) or _Open(
            request=request, expires_at_ns=now_ns + request.lifetime_ms * NANOSECONDS_PER_MS
        )
        if request != known.request:
            raise MessageError(f"mr of {request.id}: differs from that of another part, expected the same")
        if request.slices > MAX_SLICES:
            raise MessageError(f"sl of {request.id}: got {request.slices}, expected at most {MAX_SLICES}")
        of_slice = known.slices.get(message.request.slice_index, _Slice())
        _check_part(of_slice, message, final)
        slices = {**known.slices, message.request.slice_index: of_slice.with_part(message, final=final)}
        candidate = replace(known, slices=slices)
        whole = _whole(candidate, self._keyring) if candidate.is_whole else None
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


def _common(request: MeasureRequest) -> MeasureRequest:
    """What all parts of a request have in common."""
    metrics = request.metrics if request.slices == 1 else ()
    return replace(request, metrics=metrics, slice_index=0, part=0, last_point=None, previous_tag=None, tag=None)


def _check_part(known: _Slice, message: Message, final: bool) -> None:
    request = message.request
    part = request.part
    if part in known.parts:
        twins = known.parts[part]
        may_differ = _last_tag(message) is not None and len(twins) < MAX_TWINS
        if not (message in twins or may_differ) or final != (part == known.final_part):
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


def _whole(known: _Open, keyring: Keyring) -> Whole:
    slices = [_joined(known.slices[index], keyring) for index in sorted(known.slices)]
    if len(slices) == 1:
        message = Message(request=known.request, records=slices[0].message.records)
        check_consistency(message)
        return replace(slices[0], message=message)
    ways = [[(record.upstream, record.current) for record in one.message.records] for one in slices]
    if any(way != ways[0] for way in ways):
        raise MessageError(f"mrp of {known.request.id}: its slices took different ways, expected one way")
    metrics = tuple(name for one in slices for name in one.message.request.metrics)
    message = Message(
        request=replace(known.request, metrics=metrics, slices=1),
        records=tuple(_merged(records) for records in zip(*(one.message.records for one in slices), strict=True)),
    )
    check_consistency(message)
    return Whole(
        message=message,
        request=worst(one.request for one in slices),
        records=tuple(worst(standings) for standings in zip(*(one.records for one in slices), strict=True)),
    )


def _joined(one: _Slice, keyring: Keyring) -> Whole:
    """The parts of one slice as one message."""
    parts = _one_chain([one.parts[part] for part in sorted(one.parts)])
    request = parts[0].request
    records = tuple(record for part in parts for record in part.records)
    if len(records) > MAX_RECORDS:
        raise MessageError(f"mrp of {request.id}: got {len(records)}, expected at most {MAX_RECORDS}")
    for before, after in pairwise(parts):
        if after.request.last_point != before.latest_point:
            raise MessageError(
                f"lp of {request.id}: got {after.request.last_point} in part {after.request.part}, "
                f"expected {before.latest_point}, where the part before ends"
            )
    standings = [record_standings(part, keyring) for part in parts]
    for number, (before, after) in enumerate(pairwise(parts), start=1):
        if standings[number] and _last_tag(before) != after.request.previous_tag:
            standings[number] = (Standing.FORGED, *standings[number][1:])
    return Whole(
        message=Message(request=request, records=records),
        request=worst(request_standing(part.request, keyring) for part in parts),
        records=tuple(standing for of_part in standings for standing in of_part),
    )


def _one_chain(parts: Sequence[tuple[Message, ...]]) -> list[Message]:
    """Of each part the twin that continues the one before; of all the first, if nothing fits together."""
    chains = [[twin] for twin in parts[0]]
    for twins in parts[1:]:
        chains = [[*chain, twin] for twin in twins for chain in chains if _continues(chain[-1], twin)][:MAX_TWINS]
        if not chains:
            return [twins[0] for twins in parts]
    return chains[0]


def _continues(before: Message, after: Message) -> bool:
    request = after.request
    return (request.last_point, request.previous_tag) == (before.latest_point, _last_tag(before))


def _last_tag(part: Message) -> bytes | None:
    tag = part.records[-1].tag if part.records else None
    return None if tag is None else tag.octets


def _merged(records: Sequence[SegmentRecord]) -> SegmentRecord:
    """One segment as all slices tell of it: as old as the oldest of them, and pending if one is."""
    is_pending = any(record.state is SegmentState.PENDING for record in records)
    return replace(
        records[0],
        state=SegmentState.PENDING if is_pending else SegmentState.MEASURED,
        age_ms=0 if is_pending else max(record.age_ms for record in records),
        told_by=next((record.told_by for record in records if record.told_by is not None), None),
        metrics={} if is_pending else {name: one for record in records for name, one in record.metrics.items()},
        unsupported=() if is_pending else tuple(name for record in records for name in record.unsupported),
        tag=None,
    )
