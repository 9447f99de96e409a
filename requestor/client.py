"""Ask a measurement point's service from a program or the command line (blocking).

with Client.local() as client:
    if client.verdict("mp3", "voice").yes:
        place_the_call()
"""

from __future__ import annotations

import os
import socket
import time
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


class Client:
    """A connection to a point's service, for one question after the other.

    The service hangs up on a client that is silent for a minute, and the connection is given up after a time-out
    (the late answer must not be taken for that of the next question); the next question connects again.

    Args:
        service: path of the Unix socket, or (address, port).
        profiles: those that `verdict` knows by name.

    Raises:
        HostError: nobody listens there.
        NoAnswerError: the connection was not accepted in time.
    """

    def __init__(self, service: Place, profiles: Mapping[str, Profile] = BUILT_IN_PROFILES) -> None:
        self.profiles = profiles
        self._service = service
        self._name = place_name(service)
        self._source: str | None = None
        self._pending = b""
        self._is_in_use = False  # a connection that has served before may be dead by now
        self._socket: socket.socket | None = self._connect()

    @classmethod
    def local(cls) -> Client:
        """Ask the point on this host, with the profiles of its configuration (INPATH_CONFIG or the default file).

        Raises:
            ConfigurationError: the configuration cannot be meant; see `requestor.local_point`.
            HostError, NoAnswerError: as for the class.
        """
        point = local_point(os.environ)
        return cls(point.socket, point.profiles)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._is_in_use = False
        self._pending = b""

    def verdict(self, destination: str, profile: str | Profile, *, timeout_s: float | None = None) -> Verdict:
        """Whether the path from the point to `destination` is good enough for `profile`.

        Args:
            destination: an IPv4 address, or a name of the point's configuration.
            profile: a name in `profiles`, or a profile.
            timeout_s: how long the point may look for an answer, instead of 10 s.

        Raises:
            UsageError: an unknown profile.
            RemoteError: the point refused, as for an unknown name; the text says why.
            NoAnswerError: there is no answer to judge.
        """
        wish = Wish.of(destination, profile, timeout_s, self.profiles)
        return wish.verdict(self.path(wish.query(self._own_address())))

    def both_verdicts(
        self, destination: str, profile: str | Profile, *, timeout_s: float | None = None
    ) -> tuple[Verdict, Verdict]:
        """The same of the way out and of the way back, in one question.

        Raises:
            UsageError, RemoteError, NoAnswerError: as `verdict`.
        """
        wish = Wish.of(destination, profile, timeout_s, self.profiles)
        forward, back = self.both_paths(wish.query(self._own_address()))
        return wish.verdict(forward), wish.verdict(back)

    def path(self, query: PathQuery) -> PathResult:
        """Ask for the quality of a path.

        Raises:
            RemoteError: the point refused; the text says why.
            NoAnswerError: it did not answer in time.
        """
        return self._put(path_question(query))

    def both_paths(self, query: PathQuery) -> tuple[PathResult, PathResult]:
        """Ask for the way out and the way back at once.

        Raises:
            RemoteError, NoAnswerError: as `path`.
        """
        return self._put(both_paths_question(query))

    def verify(self, query: VerifyQuery) -> ClosureCheck:
        """Hold the composed path against a direct measurement, which takes `query.duration_s`.

        Raises:
            RemoteError: the point refused, or nobody answers at the destination; the text says why.
            NoAnswerError: the point itself did not answer in time.
        """
        return self._put(verify_question(query))

    def status(self) -> dict[str, Any]:
        """Ask for the point's own state: see `mp/status.py` for the keys."""
        return self._put(status_question())

    def _own_address(self) -> str:
        if self._source is None:
            self._source = own_address(self.status())
        return self._source

    def _put(self, question: Question[T]) -> T:
        return question.read(self._ask(question.document, question.timeout_s))

    def _ask(self, document: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        line = line_from_document(document)
        was_in_use = self._is_in_use
        try:
            answer = self._exchange(line, timeout_s)
        except HostError:
            if not was_in_use:
                raise
            answer = self._exchange(line, timeout_s)  # over a new connection
        document = document_from_line(answer)
        raise_error(document)
        return document

    def _exchange(self, line: bytes, timeout_s: float) -> bytes:
        """Send a line and wait for one; without an answer, the connection is given up."""
        connection = self._socket = self._socket or self._connect()
        deadline_s = time.monotonic() + timeout_s
        with an_answer_or_none(self._name, timeout_s, self.close):
            connection.settimeout(timeout_s)
            connection.sendall(line)
            answer = self._line(connection, deadline_s)
        self._is_in_use = True
        return answer

    def _line(self, connection: socket.socket, deadline_s: float) -> bytes:
        while b"\n" not in self._pending:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            connection.settimeout(left_s)
            data = connection.recv(65536)
            if not data:
                raise HostError(f"service {self._name}: hung up without an answer")
            self._pending += data
            if len(self._pending) > MAX_LINE_BYTES:
                raise MessageError(f"service {self._name}: a line longer than {MAX_LINE_BYTES} octets")
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _connect(self) -> socket.socket:
        try:
            return _connect(self._service)
        except OSError as error:
            raise refused(self._name, error) from error


def _connect(service: Place) -> socket.socket:
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
