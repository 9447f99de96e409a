"""What clients of this point ask over its dialogue, and what they get."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

from mp.host import HostState
from mp.measurements import Measurements
from mp.settings import Configuration, PointSettings
from mp.verification import Verification
from requestor.query import PathQuery
from requestor.verify_query import VerifyQuery
from schemas.closure import ClosureCheck
from schemas.errors import UsageError
from schemas.metrics import Registry
from schemas.result import PathResult


class Answers:
    """Checks questions and has them answered.

    Args:
        configuration: of this point.
        point: its `point`.
        registry: the metrics that this point knows.
        host: the host as it is now.
        measurements: asks the network.
        verification: holds a path against a direct measurement.
        on_query: hears of each path that is asked for, before it is measured.
        status: what this point says of itself.
    """

    def __init__(
        self,
        configuration: Configuration,
        point: PointSettings,
        registry: Registry,
        *,
        host: Callable[[], HostState],
        measurements: Measurements,
        verification: Verification,
        on_query: Callable[[PathQuery], None],
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self._configuration = configuration
        self._point = point
        self._registry = registry
        self._host = host
        self._measurements = measurements
        self._verification = verification
        self._on_query = on_query
        self._status = status

    async def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer one question.

        Raises:
            UsageError: it is none, or asks for what cannot be.
            HostError: it cannot be asked for now.
        """
        match question.get("ask"):
            case "path":
                results = await self._measure(question.get("query"))
                return dict(zip(("result", "return"), (result.to_text() for result in results), strict=False))
            case "verify":
                return {"check": (await self._verify(question.get("query"))).to_json()}
            case "status":
                return {"status": self._status()}
            case other:
                raise UsageError("ask", other, "path, verify or status")

    async def _measure(self, document: object) -> tuple[PathResult, ...]:
        query = PathQuery.from_json(document, self._configuration.names, self._registry)
        self._check_ends(query.source, query.destination)
        self._on_query(query)
        return await self._measurements.measure(query.starting_at(self._point.address))

    async def _verify(self, document: object) -> ClosureCheck:
        query = VerifyQuery.from_json(document, self._configuration.names)
        self._check_ends(query.source, query.destination)
        return await self._verification.verify(replace(query, source=self._point.address))

    def _check_ends(self, source: str, destination: str) -> None:
        own = (self._point.address, *self._host().addresses)
        if source not in own:
            raise UsageError("source", source, f"this point's address, {self._point.address}")
        if destination in own:
            raise UsageError("destination", destination, "an address of another host")
        if any(IPv4Address(destination) in network for network in self._point.serves):
            raise UsageError("destination", destination, "a host that this point does not serve itself")
