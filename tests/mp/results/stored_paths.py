"""Stored answers of one small path, for tests that find them again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from receiver.store.result_store import ResultStore
from schemas.result import PathResult, ResultStatus
from schemas.rfc3339 import rfc3339_from_us
from tests.receiver.paths import delay, loss, measured, result

NOW_US = 1_767_268_800_000_000  # 2026-01-01T12:00:00Z
SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
SOURCE, DESTINATION = "10.0.0.1", "10.9.9.9"
NAMES = {"10.0.0.1": "border-1", "10.0.0.2": "core-1", "10.9.9.9": "border-2"}
METRICS = ("delay", "loss")


def answer(number: int, at_us: int, *, delay_ms: float = 5.0, lost: int = 0) -> PathResult:
    """Two segments; the id begins with the number as eight hexadecimal digits."""
    segments = [
        measured(0, delay=delay(delay_ms), loss=loss(lost)),
        measured(1, delay=delay(2 * delay_ms), loss=loss(0)),
    ]
    whole = result(segments, identifier=f"{number:08x}{'0' * 24}", requested_at=rfc3339_from_us(at_us))
    composed = {name: whole.composed[name] for name in METRICS}
    parts = tuple(
        replace(segment, metrics={name: segment.metrics[name] for name in METRICS}) for segment in whole.segments
    )
    return replace(
        whole, metrics=METRICS, status=ResultStatus.COMPLETE, composed=composed, segments=parts, warnings=()
    )


def failed(number: int, at_us: int) -> PathResult:
    return replace(
        answer(number, at_us), status=ResultStatus.FAILED, segments=(), composed={}, warnings=("no answer in 5 s",)
    )


def store_all(url: str, results: Iterable[PathResult]) -> None:
    store = ResultStore(url)
    store.save_all(list(results))
    store.close()
