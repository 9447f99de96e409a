"""What this point knows of the segments that end here, ready to be appended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.message import SegmentRecord, SegmentState
from schemas.metrics import Statistics
from schemas.xml_writer import metric_to_xml, untagged_record

FRESH_MS = 5_000
"""Sessions send ten packets a second: data younger than this is live, whatever age the request accepts."""


MOST_QUESTIONS = 64
"""Lists of metrics for which a segment's answer is kept until its statistics change."""


@dataclass(frozen=True, slots=True)
class PreparedAnswer:
    """What a record says of the metrics that somebody asks for."""

    octets: bytes
    """Their elements, and that of the missing ones."""
    missing: tuple[str, ...]
    """Those that are not known here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedSegment:
    """One segment's statistics beside their encoded form, made when the segment changes and not per packet."""

    upstream: str
    newest_sample_at_ms: int
    """On this point's own clock, milliseconds since the Unix epoch."""
    metrics: Mapping[str, Statistics]
    elements: Mapping[str, bytes]
    answers: dict[tuple[str, ...], PreparedAnswer] = field(default_factory=dict, compare=False)
    """What was made for lists of metrics that were asked for."""

    @classmethod
    def of(cls, upstream: str, newest_sample_at_ms: int, metrics: Mapping[str, Statistics]) -> PreparedSegment:
        """Encode the statistics once."""
        return cls(
            upstream=upstream,
            newest_sample_at_ms=newest_sample_at_ms,
            metrics=metrics,
            elements={name: metric_to_xml(name, statistics) for name, statistics in metrics.items()},
        )

    def answer(self, asked: tuple[str, ...]) -> PreparedAnswer:
        """What this point's record says of these metrics, made at the first of many questions for them."""
        answer = self.answers.get(asked)
        if answer is None:
            record = self.record(asked, current=self.upstream, now_ms=self.newest_sample_at_ms)
            behind_age = untagged_record(record, self.elements).partition(b"</ag>")[2]
            answer = PreparedAnswer(behind_age, record.unsupported)
            if len(self.answers) < MOST_QUESTIONS:
                self.answers[asked] = answer
        return answer

    def record(
        self, asked: tuple[str, ...], *, current: str, now_ms: int, told_by: str | None = None
    ) -> SegmentRecord:
        """What to append for it.

        Args:
            asked: names of metrics; those that are not known here are unsupported.
            current: the point where the segment ends.
            now_ms: milliseconds since the Unix epoch, on this point's clock.
            told_by: this point, when the segment ends at another.
        """
        return SegmentRecord(
            upstream=self.upstream,
            current=current,
            state=SegmentState.MEASURED,
            recorded_at_ms=now_ms,
            age_ms=max(0, now_ms - self.newest_sample_at_ms),
            told_by=told_by,
            metrics={name: self.metrics[name] for name in asked if name in self.metrics},
            unsupported=tuple(name for name in asked if name not in self.metrics),
        )


class SegmentTable:
    """The segments by upstream point; whoever measures puts them in, the pipeline reads them."""

    def __init__(self) -> None:
        self._segments: dict[str, PreparedSegment] = {}

    def put(self, segment: PreparedSegment) -> None:
        """Take this for all that is known of the segment from its upstream."""
        self._segments[segment.upstream] = segment

    def remove(self, upstream: str) -> None:
        """Forget a segment; nothing happens if it is not known."""
        self._segments.pop(upstream, None)

    def known(self, upstream: str) -> PreparedSegment | None:
        """The segment from `upstream`, however old it is."""
        return self._segments.get(upstream)

    def fresh(self, upstream: str, *, now_ms: int, max_age_ms: int) -> PreparedSegment | None:
        """The segment from `upstream` if its newest sample is young enough, else None."""
        segment = self._segments.get(upstream)
        if segment is None or now_ms - segment.newest_sample_at_ms > max(max_age_ms, FRESH_MS):
            return None
        return segment
