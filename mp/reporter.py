"""Carry reports to the points that asked, by TCP, until each is acknowledged, refused, or of no more use."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter

from mp import clock
from mp.report_connections import ReportConnections
from processor.decision import Report
from schemas import framing
from schemas.errors import MessageError
from schemas.payload import payload_from_xml

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 1_400
"""What is no longer goes into one TCP segment on nearly every path."""
MAX_UNDER_WAY = 256
"""A flood of requests must not become a flood of connections; what is above is dropped and counted."""
MAX_UNDER_WAY_PER_ASKER = 32
MAX_LIFETIME_MS = 300_000
"""Nobody waits longer for an answer, whatever the message says."""
FIRST_RETRY_S = 0.3
MAX_RETRY_S = 3.0
ACKNOWLEDGEMENT_WAIT_S = 5.0
MAX_ATTEMPTS = 5
"""Whose address was forged hears of a report no more often than this, whatever lifetime the message states: with
what the kernel repeats by itself (`OPENING_REPEATS`) these are 10 to 15 segments of 60 octets."""

_Key = tuple[str, str, int, int, int]
"""Asker, id, copy, slice and part of a report."""


class Reporter:
    """Sends reports from this point's address.

    Args:
        address: this point's address: the source of the connections.
        port: where the points that ask listen.
        tls: of the client's side; None: without.
    """

    def __init__(self, address: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._connections = ReportConnections(address, port, tls)
        self._under_way: dict[_Key, asyncio.Task[None]] = {}
        self._failures: Counter[_Key] = Counter()
        self.counters: Counter[str] = Counter()

    def submit(self, report: Report) -> None:
        """Begin to carry a report; a copy of one that is under way is left to that one."""
        key = (report.asker, report.id, report.copy, report.slice_index, report.part)
        if key in self._under_way:
            return
        if not self._has_room(report.asker):
            self.counters["dropped"] += 1
            return
        task = asyncio.create_task(self._carry(key, report), name=f"report {report.id}")
        self._under_way[key] = task
        task.add_done_callback(lambda _: self._forget(key))

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = tuple(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._connections.close()

    def _has_room(self, asker: str) -> bool:
        """Whether a report to `asker` may begin; one that nobody takes gives way to it."""
        if sum(key[0] == asker for key in self._under_way) >= MAX_UNDER_WAY_PER_ASKER:
            return False
        if len(self._under_way) >= MAX_UNDER_WAY:
            worst, failures = max(self._failures.items(), key=lambda item: item[1], default=(None, 0))
            if worst is None or failures < 2:
                return False
            self._under_way[worst].cancel()
            self._forget(worst)
            self.counters["displaced"] += 1
        return True

    def _forget(self, key: _Key) -> None:
        self._under_way.pop(key, None)
        self._failures.pop(key, None)

    async def _carry(self, key: _Key, report: Report) -> None:
        deadline_ms = clock.monotonic_ms() + min(report.lifetime_ms, MAX_LIFETIME_MS)
        retry_s = FIRST_RETRY_S
        frame = framing.frame_to_bytes(framing.Report(payload=_small(report.payload), final=report.final))
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                async with asyncio.timeout(ACKNOWLEDGEMENT_WAIT_S):  # a task of its own would begin a turn later
                    answer = await self._connections.exchange(report.asker, frame)
            except (OSError, TimeoutError, MessageError) as error:
                failure = error or "no acknowledgement"
                logger.debug("report %s to %s: %s", report.id, report.asker, failure)
                self._failures[key] += 1
            else:
                self._note(report, answer)
                return
            if attempt == MAX_ATTEMPTS or clock.monotonic_ms() + retry_s * 1000 > deadline_ms:
                self.counters["given_up"] += 1
                logger.warning("report %s to %s: nobody took it in time: %s", report.id, report.asker, failure)
                return
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, MAX_RETRY_S)

    def _note(self, report: Report, answer: framing.Frame) -> None:
        match answer:
            case framing.Acknowledgement(id=report.id, copy=report.copy, part=report.part):
                self.counters["acknowledged"] += 1
                logger.info("report %s part %d to %s acknowledged", report.id, report.part, report.asker)
            case _:
                self.counters["refused"] += 1
                logger.info("report %s part %d to %s refused: %s", report.id, report.part, report.asker, answer)


def _small(payload: bytes) -> bytes:
    """What takes more than one segment is deflated: each further one delays the answer."""
    if len(payload) <= SEGMENT_BYTES:
        return payload
    return payload_from_xml(payload, len(payload) - 1) or payload
