"""Hold a composed path against the same path measured directly: the overlay's own honesty."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from mp import clock
from mp.measurements import Measurements
from prober.clock_state import ClockState
from prober.stamp.authentication import KeyOf
from prober.stamp.direct import DirectSession, random_ssid
from prober.stamp.probe_format import ProbeFormat
from receiver.closure import METRICS_COMPARED, compare, verdict_of
from requestor.query import PathQuery
from requestor.verify_query import VerifyQuery
from schemas.closure import ClosureCheck
from schemas.errors import InpathError, NoAnswerError
from schemas.message import SegmentRecord, SegmentState
from schemas.rfc3339 import rfc3339_from_us

logger = logging.getLogger(__name__)

ANSWER_WAIT_S = 5.0
"""For the composed answer, which the segments on the way are ready to give at once."""
REMEMBERED = 16
"""Destinations of recent requests that are checked in turn."""

Keep = Callable[[ClosureCheck], Awaitable[None]]


class Verification:
    """Checks paths from this point, one at a time.

    Args:
        address: this point's address.
        port: UDP port of reflectors.
        key_of: tells the key of STAMP's authenticated mode, where it is used.
        clock_state: state of the own clock.
        measurements: asks for the composed path.
        keep: makes a check durable.
    """

    def __init__(
        self,
        address: str,
        *,
        port: int,
        key_of: KeyOf,
        clock_state: Callable[[], ClockState],
        measurements: Measurements,
        keep: Keep,
    ) -> None:
        self._address = address
        self._port = port
        self._key_of = key_of
        self._clock_state = clock_state
        self._measurements = measurements
        self._keep = keep
        self._running = asyncio.Lock()
        self._recent: OrderedDict[str, None] = OrderedDict()
        self.last: ClosureCheck | None = None

    def asked_for(self, destination: str) -> None:
        """Somebody asked for the path to `destination`: it is worth a check now and then."""
        self._recent[destination] = None
        self._recent.move_to_end(destination)
        while len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)

    async def verify(self, query: VerifyQuery) -> ClosureCheck:
        """Measure directly, then compose over the same time, and compare.

        Raises:
            NoAnswerError: no reflector answers at the destination, or no point answers on the way.
            HostError: no way to the destination.
        """
        async with self._running:
            direct = await self._measure_directly(query)
            checked_at_us = clock.now_ns() // 1000
            result, records = await self._measurements.measure_segments(
                PathQuery(
                    source=query.source,
                    destination=query.destination,
                    metrics=METRICS_COMPARED,
                    timeout_s=ANSWER_WAIT_S,
                    max_age_s=query.duration_s,
                )
            )
            if not records:
                raise NoAnswerError(f"destination {query.destination}: {'; '.join(result.warnings)}")
            metrics = compare(direct, records)
            check = ClosureCheck(
                id=secrets.token_hex(16),
                request_id=result.id,
                source=query.source,
                destination=query.destination,
                checked_at=rfc3339_from_us(checked_at_us),
                duration_s=query.duration_s,
                verdict=verdict_of(metrics),
                metrics=metrics,
                warnings=result.warnings,
            )
            self.last = check
            await self._keep(check)
            logger.info(
                "path to %s: direct measurement %s with the composed one", check.destination, check.verdict
            )
            return check

    async def run_on_schedule(
        self, destinations: tuple[str, ...], *, interval_s: float, duration_s: float
    ) -> None:
        """Check the given destinations, and those of recent requests, in turn, for ever.

        Args:
            interval_s: between two checks.
            duration_s: of each direct measurement.
        """
        turn = 0
        while True:
            await asyncio.sleep(interval_s * random.uniform(0.8, 1.2))  # points must not fall into step
            known = (*destinations, *(one for one in self._recent if one not in destinations))
            if known:
                await self._check(known[turn % len(known)], duration_s)
                turn += 1

    async def _check(self, destination: str, duration_s: float) -> None:
        query = VerifyQuery(source=self._address, destination=destination, duration_s=duration_s)
        try:
            await self.verify(query)
        except InpathError as error:
            logger.warning("path to %s not verified: %s", destination, error)

    async def _measure_directly(self, query: VerifyQuery) -> SegmentRecord:
        chance = random.Random()  # times of probes are no secret
        direct = DirectSession(
            query.destination,
            port=self._port,
            clock=self._clock_state(),
            now_ns=clock.now_ns,
            random_source=chance,
            rate_per_s=query.rate_per_s,
            probe_format=ProbeFormat(ssid=random_ssid(chance), key=self._key_of(query.destination)),
            address=self._address,
        )
        segment = await direct.run(duration_s=query.duration_s)
        if not direct.session.tally.answered:
            raise NoAnswerError(
                f"destination {query.destination}: no STAMP reflector answers on UDP port {self._port}"
            )
        now_ns = clock.now_ns()
        return SegmentRecord(
            upstream=self._address,
            current=query.destination,
            state=SegmentState.MEASURED,
            recorded_at_ms=now_ns // 1_000_000,
            metrics=segment.outbound_statistics(METRICS_COMPARED, now_ns=now_ns, clock=self._clock_state()),
        )
