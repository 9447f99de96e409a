"""One request that waits for its report, and what becomes of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from mp import clock
from receiver.assembly import ReportAssembly, Whole
from receiver.composition import compose
from schemas.authentication import Standing
from schemas.keyring import Keyring
from schemas.message import Carrier, MeasureRequest, SegmentRecord
from schemas.metrics import Registry
from schemas.result import Flag, PathResult, ResultStatus
from schemas.rfc3339 import rfc3339_from_us

_MOST_COPIES = 8
"""Of which the parts are kept apart: as many as are sent, and some to spare."""
_DOUBTS = {
    Standing.UNSIGNED: "no tag",
    Standing.UNKNOWN_KEY: "a tag of a key that is not held here",
    Standing.FORGED: "a wrong tag: somebody changed the message",
}


@dataclass(slots=True, kw_only=True)
class PendingRequest:
    """One request, from when it is noted until it is answered."""

    request: MeasureRequest
    """As it was asked: not cut into slices, not signed."""
    requested_at_us: int
    started_ns: int
    answer: asyncio.Future[PathResult]
    assembly: ReportAssembly
    records: tuple[SegmentRecord, ...] = ()
    """What the answer was composed of."""
    carriers: list[Carrier] = field(default_factory=list)
    """By number of the copy."""
    is_carrier_free: bool = True
    """Nobody said which it had to be."""
    doubtful: PathResult | None = None
    """An answer of which a part was forged."""
    refused: str | None = None
    """Why the last answer that came was not taken."""
    deciding: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while an answer is recorded: a report and the end of the time may come together."""

    @classmethod
    def of(cls, request: MeasureRequest, *, keyring: Keyring) -> PendingRequest:
        """A request that was made just now."""
        return cls(
            request=request,
            requested_at_us=clock.now_ns() // 1000,
            started_ns=clock.monotonic_ns(),
            answer=asyncio.get_running_loop().create_future(),
            assembly=ReportAssembly(max_open=_MOST_COPIES, keyring=keyring),
        )

    @property
    def elapsed_ms(self) -> float:
        """Time since the request was made, exact to a microsecond."""
        return (clock.monotonic_ns() - self.started_ns) // 1000 / 1000

    def noted(self) -> PathResult:
        """What is known before anything is sent."""
        return self._result(ResultStatus.PENDING)

    def failed(self, reason: str) -> PathResult:
        """There is no answer, and why."""
        refused = () if self.refused is None else (self.refused,)
        return replace(self._result(ResultStatus.FAILED), warnings=(reason, *refused))

    def answered(self, whole: Whole, *, registry: Registry, has_keys: bool) -> PathResult:
        """The answer that the records make.

        Args:
            whole: what was reported.
            registry: the metrics that this point knows.
            has_keys: whether this point could tell who wrote the records, had they signed.
        """
        request = self.request
        self.records = whole.message.records
        composition = compose(
            request.metrics,
            whole.message.records,
            waited_ms=self.elapsed_ms,
            max_age_ms=request.max_age_ms,
            registry=registry,
            standings=whole.records,
        )
        composed, warnings = composition.composed, composition.warnings
        if has_keys and whole.standing is not Standing.AUTHENTIC:
            composed = {name: metric.flagged(Flag.UNVERIFIED) for name, metric in composed.items()}
            warnings = (self.first_doubt(whole), *warnings)
        copy = whole.message.request.copy
        return replace(
            self._result(composition.status),
            source=whole.message.request.source,
            segments=composition.segments,
            composed=composed,
            warnings=warnings,
            carrier=self.carriers[copy] if copy < len(self.carriers) else None,
            authenticity=whole.standing,
        )

    def first_doubt(self, whole: Whole) -> str:
        """The first part of the answer that is not authentic, in words."""
        if whole.request is not Standing.AUTHENTIC:
            return f"the request itself came back with {_DOUBTS[whole.request]}"
        record, standing = next(
            (record, standing)
            for record, standing in zip(whole.message.records, whole.records, strict=True)
            if standing is not Standing.AUTHENTIC
        )
        return f"the record of {record.told_by or record.current} has {_DOUBTS[standing]}"

    def _result(self, status: ResultStatus) -> PathResult:
        waiting = status is ResultStatus.PENDING
        return PathResult(
            id=self.request.id,
            status=status,
            source=self.request.source,
            destination=self.request.destination,
            metrics=self.request.metrics,
            requested_at=rfc3339_from_us(self.requested_at_us),
            elapsed_ms=None if waiting else self.elapsed_ms,
            segments=(),
            composed={},
            warnings=(),
        )
