"""Ask a measurement point's service from a program or the command line (blocking)."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from requestor.dialogue import (
    MAX_LINE_BYTES,
    document_from_line,
    line_from_document,
    raise_error,
)
from requestor.query import PathQuery
from requestor.verify_query import VerifyQuery
from schemas.closure import ClosureCheck
from schemas.errors import HostError, MessageError, NoAnswerError
from schemas.result import PathResult

CONNECT_TIMEOUT_S = 3.0
VERIFY_GRACE_S = 75.0
"""Another check may be under way at the point, and comes first."""
GRACE_S = 2.0
"""How much longer than the point itself a client waits: the point keeps the time, this only saves from a hang."""


class Client:
    """A connection to a point's service.

    Args:
        service: path of the Unix socket, or (address, port).

    Raises:
        HostError: nobody listens there.
        NoAnswerError: the connection was not accepted in time.
    """

    def __init__(self, service: Path | tuple[str, int]) -> None:
        self._name = str(service) if isinstance(service, Path) else f"{service[0]} tcp port {service[1]}"
        try:
            self._socket = _connect(service)
        except TimeoutError as error:
            raise NoAnswerError(
                f"service: got {self._name}, expected a measurement point to answer in {CONNECT_TIMEOUT_S:g} s"
            ) from error
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise HostError(f"service: got {self._name}, expected a measurement point there ({reason})") from error
        self._pending = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def path(self, query: PathQuery) -> PathResult:
        """Ask for the quality of a path.

        Raises:
            RemoteError: the point refused; the text says why.
            NoAnswerError: it did not answer in time.
        """
        return self._result(self._ask_for_path(query), "result")

    def both_paths(self, query: PathQuery) -> tuple[PathResult, PathResult]:
        """Ask for the way out and the way back at once.

        Raises:
            RemoteError, NoAnswerError: as `path`.
        """
        document = self._ask_for_path(replace(query, both_directions=True))
        return self._result(document, "result"), self._result(document, "return")

    def verify(self, query: VerifyQuery) -> ClosureCheck:
        """Hold the composed path against a direct measurement, which takes `query.duration_s`.

        Raises:
            RemoteError: the point refused, or nobody answers at the destination; the text says why.
            NoAnswerError: the point itself did not answer in time.
        """
        question = {"ask": "verify", "query": query.to_json()}
        check = self._ask(question, query.duration_s + VERIFY_GRACE_S).get("check")
        if not isinstance(check, dict):
            raise MessageError(f"service {self._name}: got no check")
        return ClosureCheck.from_json(check)

    def _ask_for_path(self, query: PathQuery) -> dict[str, Any]:
        return self._ask({"ask": "path", "query": query.to_json()}, query.timeout_s + GRACE_S)

    def _result(self, document: dict[str, Any], key: str) -> PathResult:
        result = document.get(key)
        if not isinstance(result, dict):
            raise MessageError(f"service {self._name}: got {sorted(document)}, expected {key}")
        return PathResult.from_json(result)

    def status(self) -> dict[str, Any]:
        """Ask for the point's own state: see `mp/status.py` for the keys."""
        status = self._ask({"ask": "status"}, CONNECT_TIMEOUT_S).get("status")
        if not isinstance(status, dict):
            raise MessageError(f"service {self._name}: got no status")
        return status

    def _ask(self, question: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        self._socket.settimeout(timeout_s)
        try:
            self._socket.sendall(line_from_document(question))
            document = document_from_line(self._line())
        except TimeoutError as error:
            raise NoAnswerError(f"service {self._name}: no answer within {timeout_s:g} s") from error
        except OSError as error:
            raise HostError(f"service {self._name}: {error.strerror or error}") from error
        raise_error(document)
        return document

    def _line(self) -> bytes:
        while b"\n" not in self._pending:
            data = self._socket.recv(65536)
            if not data:
                raise HostError(f"service {self._name}: hung up without an answer")
            self._pending += data
            if len(self._pending) > MAX_LINE_BYTES:
                raise MessageError(f"service {self._name}: a line longer than {MAX_LINE_BYTES} octets")
        line, _, self._pending = self._pending.partition(b"\n")
        return line


def _connect(service: Path | tuple[str, int]) -> socket.socket:
    if not isinstance(service, Path):
        return socket.create_connection(service, CONNECT_TIMEOUT_S)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT_TIMEOUT_S)
        connection.connect(str(service))
    except OSError:
        connection.close()
        raise
    return connection
