"""Measurements that are asked for now and fetched later."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections import Counter, OrderedDict
from collections.abc import Coroutine
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from requestor.http.problems import Problem, problem_of, too_many
from schemas.errors import HostError, InpathError

logger = logging.getLogger(__name__)

MAX_RUNNING = 64
MAX_RUNNING_OF_ONE = 16
MAX_KEPT = 256
MAX_KEPT_BYTES = 16 << 20
"""A result over 255 segments with all metrics is about 300 KiB; a usual one is 5 KiB."""
KEPT_S = 600.0
_RETRY_S = 1.0


class JobState(StrEnum):
    """Where a measurement stands."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(slots=True)
class Job:
    """One measurement."""

    id: str
    owner: str
    state: JobState = JobState.RUNNING
    outcome: bytes = b"null"
    """JSON of the answer, or of the problem."""
    ended_at_s: float = 0.0
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    def to_bytes(self) -> bytes:
        """The document: `answer` when done, `problem` when failed."""
        name = {JobState.DONE: "answer", JobState.FAILED: "problem"}.get(self.state)
        head = json.dumps({"id": self.id, "state": self.state}, separators=(",", ":")).encode()
        return head if name is None else b'%s,"%s":%s}' % (head[:-1], name.encode(), self.outcome)


class Jobs:
    """Keeps measurements: those under way, and those that have ended for KEPT_S; the oldest goes first."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        """In the order in which they ended; those under way wherever they are."""
        self._running: Counter[str] = Counter()

    @property
    def kept_bytes(self) -> int:
        """What the outcomes take."""
        return sum(len(job.outcome) for job in self._jobs.values())

    def check_room(self, owner: str) -> None:
        """Whether one more may be started.

        Raises:
            RefusedError: too many are under way.
        """
        if self._running[owner] >= MAX_RUNNING_OF_ONE:
            raise too_many(f"measurements: {MAX_RUNNING_OF_ONE} of this caller are under way already", _RETRY_S)
        if self._running.total() >= MAX_RUNNING:
            raise too_many(f"measurements: {MAX_RUNNING} are under way already", _RETRY_S)

    def start(self, owner: str, work: Coroutine[Any, Any, dict[str, Any]]) -> Job:
        """Begin; `check_room` comes before."""
        job = Job(id=secrets.token_hex(16), owner=owner)
        self._jobs[job.id] = job
        self._running[owner] += 1
        job.task = asyncio.create_task(self._run(job, work), name="measurement")
        return job

    def get(self, identifier: str) -> Job | None:
        """The measurement, None when there is none or it has expired."""
        self._forget(asyncio.get_running_loop().time())
        return self._jobs.get(identifier)

    async def close(self) -> None:
        """End all that are under way."""
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, job: Job, work: Coroutine[Any, Any, dict[str, Any]]) -> None:
        try:
            answer = await work
            self._end(job, JobState.DONE, json.dumps(answer, separators=(",", ":")).encode())
        except InpathError as error:
            self._end(job, JobState.FAILED, problem_of(error).to_bytes())
        except Exception:  # one measurement must neither end the service nor stay without an outcome
            logger.exception("a measurement failed")
            problem: Problem = problem_of(HostError("measurement: failed; the log says why"))
            self._end(job, JobState.FAILED, problem.to_bytes())
        finally:
            self._running[job.owner] -= 1
            if not self._running[job.owner]:
                del self._running[job.owner]

    def _end(self, job: Job, state: JobState, outcome: bytes) -> None:
        job.state, job.outcome, job.task = state, outcome, None
        job.ended_at_s = asyncio.get_running_loop().time()
        self._jobs.move_to_end(job.id)
        self._forget(job.ended_at_s)

    def _forget(self, now_s: float) -> None:
        ended = [job for job in self._jobs.values() if job.state is not JobState.RUNNING]
        kept_bytes = sum(len(job.outcome) for job in ended)
        for number, job in enumerate(ended):
            too_much = kept_bytes > MAX_KEPT_BYTES or len(ended) - number > MAX_KEPT
            if not too_much and now_s - job.ended_at_s < KEPT_S:
                return
            kept_bytes -= len(job.outcome)
            del self._jobs[job.id]
