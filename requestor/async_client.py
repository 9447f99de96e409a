"""Ask a measurement point's service from an asyncio program; `client.py` is its blocking twin.

async with AsyncClient.local() as client:
    verdict = await client.verdict("mp3", "voice")
    if verdict.yes:
        await place_the_call()
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from requestor.dialogue import MAX_LINE_BYTES, document_from_line, line_from_document, raise_error
from requestor.local_point import local_point
from requestor.profile import BUILT_IN_PROFILES, Profile
from requestor.query import PathQuery
from requestor.question import (
    Question,
    Wish,
    both_paths_question,
    own_address,
    path_question,
    status_question,
    verify_question,
)
from requestor.service_place import CONNECT_TIMEOUT_S, Place, an_answer_or_none, place_name, refused
from requestor.verify_query import VerifyQuery
from schemas.closure import ClosureCheck
from schemas.errors import HostError, MessageError
from schemas.result import PathResult
from schemas.verdict import Verdict

T = TypeVar("T")


class AsyncClient:
    """A connection to a point's service; tasks that share it ask one after the other.

    It connects when it is entered, or with the first question, and again when the service has hung up or after a
    time-out; a cancelled question gives the connection up.

    Args:
        service: path of the Unix socket, or (address, port).
        profiles: those that `verdict` knows by name.
    """

    def __init__(self, service: Place, profiles: Mapping[str, Profile] = BUILT_IN_PROFILES) -> None:
        self.profiles = profiles
        self._service = service
        self._name = place_name(service)
        self._source: str | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._is_in_use = False  # a connection that has served before may be dead by now
        self._turn = asyncio.Lock()

    @classmethod
    def local(cls) -> AsyncClient:
        """Ask the point on this host: see `Client.local`.

        Raises:
            ConfigurationError: the configuration cannot be meant.
        """
        point = local_point(os.environ)
        return cls(point.socket, point.profiles)

    async def __aenter__(self) -> AsyncClient:
        await self._connected()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None
        self._is_in_use = False

    async def verdict(
        self, destination: str, profile: str | Profile, *, timeout_s: float | None = None
    ) -> Verdict:
        """Whether the path from the point to `destination` is good enough: see `Client.verdict`.

        Raises:
            UsageError, RemoteError, NoAnswerError, HostError: as there.
        """
        wish = Wish.of(destination, profile, timeout_s, self.profiles)
        return wish.verdict(await self.path(wish.query(await self._own_address())))

    async def both_verdicts(
        self, destination: str, profile: str | Profile, *, timeout_s: float | None = None
    ) -> tuple[Verdict, Verdict]:
        """The same of the way out and of the way back, in one question."""
        wish = Wish.of(destination, profile, timeout_s, self.profiles)
        forward, back = await self.both_paths(wish.query(await self._own_address()))
        return wish.verdict(forward), wish.verdict(back)

    async def path(self, query: PathQuery) -> PathResult:
        """Ask for the quality of a path.

        Raises:
            RemoteError: the point refused; the text says why.
            NoAnswerError: it did not answer in time.
            HostError: nobody listens there, or the service hung up.
        """
        return await self._put(path_question(query))

    async def both_paths(self, query: PathQuery) -> tuple[PathResult, PathResult]:
        """Ask for the way out and the way back at once; raises as `path`."""
        return await self._put(both_paths_question(query))

    async def verify(self, query: VerifyQuery) -> ClosureCheck:
        """Hold the composed path against a direct measurement; raises as `path`."""
        return await self._put(verify_question(query))

    async def status(self) -> dict[str, Any]:
        """Ask for the point's own state: see `mp/status.py` for the keys."""
        return await self._put(status_question())

    async def _own_address(self) -> str:
        if self._source is None:
            self._source = own_address(await self.status())
        return self._source

    async def _put(self, question: Question[T]) -> T:
        return question.read(await self._ask(question.document, question.timeout_s))

    async def _ask(self, document: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        line = line_from_document(document)
        async with self._turn:
            was_in_use = self._is_in_use
            try:
                answer = await self._exchange(line, timeout_s)
            except HostError:
                if not was_in_use:
                    raise
                answer = await self._exchange(line, timeout_s)  # over a new connection
        document = document_from_line(answer)
        raise_error(document)
        return document

    async def _exchange(self, line: bytes, timeout_s: float) -> bytes:
        """Send a line and wait for one; without an answer, the connection is given up."""
        streams = await self._connected()
        with an_answer_or_none(self._name, timeout_s, self.close):
            async with asyncio.timeout(timeout_s):
                answer = await self._converse(*streams, line)
        self._is_in_use = True
        return answer

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes) -> bytes:
        writer.write(line)
        await writer.drain()
        try:
            answer = await reader.readline()
        except ValueError as error:  # longer than the reader's limit
            raise MessageError(f"service {self._name}: a line longer than {MAX_LINE_BYTES} octets") from error
        if not answer.endswith(b"\n"):
            raise HostError(f"service {self._name}: hung up without an answer")
        return answer

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    self._streams = await _open(self._service)
            except OSError as error:  # a TimeoutError is one
                raise refused(self._name, error) from error
        return self._streams


async def _open(service: Place) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(service, Path):
        return await asyncio.open_unix_connection(service, limit=MAX_LINE_BYTES)
    return await asyncio.open_connection(*service, limit=MAX_LINE_BYTES)
