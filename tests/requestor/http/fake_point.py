"""A measurement point without a network: speaks the dialogue over a Unix socket and answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from requestor.query import PathQuery
from requestor.service import Service
from schemas.errors import HostError, UsageError
from schemas.message import Carrier, SegmentState
from schemas.result import ComposedMetric, Method, PathResult, Quantiles, ResultStatus, SegmentResult

OWN = "192.0.2.1"
MIDDLE = "192.0.2.2"
FAR = "192.0.2.77"
SLOW = "192.0.2.78"
"""Nothing comes from there: the point waits as long as the question says."""
RESTLESS = "192.0.2.79"
"""Each answer is another one."""
STUCK = "192.0.2.80"
"""The point itself does not answer."""
NAMES = {"here": OWN, "far": FAR}

STATUS: Mapping[str, Any] = {
    "point": {"name": "border-1", "address": OWN, "area": "north"},
    "version": "0",
    "uptime_s": 12.5,
    "neighbors": [
        {
            "address": MIDDLE,
            "role": "sender",
            "state": "measured",
            "newest_sample_age_s": 0.1,
            "hops": 1,
            "last_60_s": {"delay": {"value": 3.0, "unit": "ms", "count": 600}},
        }
    ],
    "store": {"database": "up", "spool_depth": 0, "refused": 0, "last_error": None},
}


def composed(value: float, *, unit: str = "ms", quantiles: Quantiles | None = None) -> ComposedMetric:
    return ComposedMetric(
        value=value,
        unit=unit,
        low=value * 0.9,
        high=value * 1.1,
        oldest_age_s=0.2,
        count=600,
        binding_segment=(MIDDLE, FAR),
        method=Method.SUM if unit == "ms" else Method.COMPLEMENT_PRODUCT,
        flags=(),
        quantiles=quantiles,
    )


def result_of(query: PathQuery, number: int, *, delay_ms: float = 12.0) -> PathResult:
    """A complete answer over two segments; of metrics, what is easily made up."""
    quantiles = Quantiles(p50=delay_ms, p95=delay_ms + 1, p99=delay_ms + 2, method=Method.CONVOLUTION)
    known = {
        "delay": composed(delay_ms, quantiles=quantiles),
        "loss": composed(0.001, unit="ratio"),
        "jitter": composed(2.0),
        "rtt": composed(2 * delay_ms),
    }
    return PathResult(
        id=f"{number:032x}",
        status=ResultStatus.COMPLETE,
        source=query.source,
        destination=query.destination,
        metrics=query.metrics,
        requested_at="2026-01-31T12:00:00.000000Z",
        elapsed_ms=25.0,
        segments=tuple(
            SegmentResult(
                upstream=upstream,
                current=current,
                state=SegmentState.MEASURED,
                measured_at="2026-01-31T11:59:59.900Z",
                metrics={"rtt": {"value": delay_ms, "unit": "ms", "count": 600}},
            )
            for upstream, current in ((OWN, MIDDLE), (MIDDLE, query.destination))
        ),
        composed={name: known[name] for name in query.metrics if name in known} or {"delay": known["delay"]},
        warnings=(),
        carrier=query.carrier or Carrier.ROUTER_ALERT,
    )


class FakePoint:
    """Counts questions, and how many are open at once."""

    def __init__(self) -> None:
        self.asked = 0
        self.open = 0
        self.most_open = 0

    async def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            match question:
                case {"ask": "path", "query": query}:
                    return await self._path(PathQuery.from_json(query, {}))
                case {"ask": "status"}:
                    return {"status": dict(STATUS)}
            raise UsageError("ask", question.get("ask"), "path or status")
        finally:
            self.open -= 1

    async def _path(self, query: PathQuery) -> dict[str, Any]:
        self.asked += 1
        if query.source != OWN:
            raise UsageError("source", query.source, f"this point's address, {OWN}")
        match query.destination:
            case "192.0.2.78":
                await asyncio.sleep(query.timeout_s)
                failed = replace(
                    result_of(query, self.asked), status=ResultStatus.FAILED, segments=(), composed={}
                )
                return {"result": replace(failed, warnings=("no answer",)).to_json()}
            case "192.0.2.79":
                return {"result": result_of(query, self.asked, delay_ms=10.0 * self.asked).to_json()}
            case "192.0.2.80":
                await asyncio.sleep(600)
                raise HostError("the test is over")
        document = {"result": result_of(query, self.asked).to_json()}
        if query.both_directions:
            back = replace(query, source=query.destination, destination=query.source)
            document["return"] = result_of(back, self.asked).to_json()
        return document

    async def serve(self, path: Path) -> Service:
        """Listen; the caller closes what it gets."""
        service = Service(self.answer, ())
        await service.listen_unix(path)
        return service
