"""The measurement point as the HTTP service sees it: questions over a few connections of its dialogue."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from requestor.dialogue import MAX_LINE_BYTES, document_from_line, line_from_document, raise_error
from requestor.query import PathQuery
from schemas.errors import HostError, MessageError, NoAnswerError

MAX_CONNECTIONS = 32
"""Of the 128 that the point allows: others ask it too."""
IDLE_S = 45.0
"""The point hangs up after a minute of silence."""
GRACE_S = 0.5
"""The point keeps the time of a question and says what it has at the end of it: this much may that take."""
STATUS_TIMEOUT_S = 3.0
_LEAST_TIMEOUT_S = 0.001

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Stream]]
"""Opens a connection of the dialogue; its reader takes lines of MAX_LINE_BYTES."""


@dataclass(frozen=True, slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    used_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PathAnswer:
    """Documents of `schemas/result.schema.json`."""

    result: dict[str, Any]
    way_back: dict[str, Any] | None


class Point:
    """Asks the measurement point.

    Args:
        connect: opens one more connection.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._idle: list[_Connection] = []

    async def path(self, query: PathQuery) -> PathAnswer:
        """Have a path measured; `query.timeout_s` bounds the wait for a free connection too.

        Raises:
            RemoteError: the point refused; the text says why.
            NoAnswerError: it did not answer in time.
            HostError: it is away.
        """
        began_s = asyncio.get_running_loop().time()

        def question() -> dict[str, Any]:
            left_s = query.timeout_s - (asyncio.get_running_loop().time() - began_s)
            asked = replace(query, timeout_s=max(_LEAST_TIMEOUT_S, left_s))
            return {"ask": "path", "query": asked.to_json()}

        document = await self._ask(question, query.timeout_s + GRACE_S)
        return PathAnswer(result=_member(document, "result"), way_back=document.get("return"))

    async def status(self) -> dict[str, Any]:
        """The point's own state.

        Raises:
            RemoteError, NoAnswerError, HostError: as `path`.
        """
        return _member(await self._ask(lambda: {"ask": "status"}, STATUS_TIMEOUT_S), "status")

    def close(self) -> None:
        """Hang up on all connections."""
        while self._idle:
            self._idle.pop().writer.close()

    async def _ask(self, question: Callable[[], dict[str, Any]], timeout_s: float) -> dict[str, Any]:
        try:
            async with asyncio.timeout(timeout_s), self._slots:
                document = document_from_line(await self._converse(line_from_document(question())))
        except TimeoutError as error:
            raise NoAnswerError(f"point: no answer within {timeout_s:g} s") from error
        except OSError as error:
            raise HostError(
                f"point: {error.strerror or error}, expected it to answer its service socket"
            ) from error
        raise_error(document)
        return document

    async def _converse(self, line: bytes) -> bytes:
        now_s = asyncio.get_running_loop().time()
        while self._idle:
            waiting = self._idle.pop()
            if now_s - waiting.used_at_s > IDLE_S:
                waiting.writer.close()
                continue
            with contextlib.suppress(ConnectionError):  # the point was started anew meanwhile
                return await self._exchange((waiting.reader, waiting.writer), line)
        return await self._exchange(await self._connect(), line)

    async def _exchange(self, stream: Stream, line: bytes) -> bytes:
        """One question on one connection, which is used again only if all went well."""
        reader, writer = stream
        answer = b""
        try:
            writer.write(line)
            await writer.drain()
            answer = await reader.readline()
        except ValueError as error:
            raise MessageError(f"point: a line longer than {MAX_LINE_BYTES} octets") from error
        finally:
            if answer.endswith(b"\n"):
                self._idle.append(_Connection(reader, writer, asyncio.get_running_loop().time()))
            else:
                writer.close()
        if not answer.endswith(b"\n"):
            raise ConnectionResetError("hung up without an answer")
        return answer


def _member(document: dict[str, Any], key: str) -> dict[str, Any]:
    member = document.get(key)
    if not isinstance(member, dict):
        raise MessageError(f"point: got {sorted(document)[:5]}, expected {key}")
    return member
