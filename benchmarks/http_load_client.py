"""The programs that ask the HTTP service of a point in `http_load.py`."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from schemas.errors import HostError

CLIENTS = 24
TIMEOUT_S = 10.0
_PIECE_BYTES = 1 << 18


def http_request(question: dict[str, object] | None) -> bytes:
    """For a path, or for segments when there is no question."""
    if question is None:
        return b"GET /v1/segments HTTP/1.1\r\nHost: inpath\r\n\r\n"
    body = json.dumps(question).encode()
    head = "POST /v1/paths HTTP/1.1\r\nHost: inpath\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def ask_once(connection: socket.socket, request: bytes) -> bool:
    """Whether the answer is one; as little work as can be, since a real client's would be done elsewhere."""
    connection.sendall(request)
    answer = connection.recv(_PIECE_BYTES)
    length = re.search(rb"\r\ncontent-length: (\d+)", answer)
    if length is None:
        raise HostError(f"http: got {answer[:60]!r}, expected an answer")
    whole = answer.index(b"\r\n\r\n") + 4 + int(length[1])
    got = len(answer)
    while got < whole:
        got += len(connection.recv(_PIECE_BYTES))
    return answer.startswith(b"HTTP/1.1 200 ")


def ask_over_http(path: Path, request: bytes, rate_per_s: float, seconds: float) -> int:
    """Ask at even times over some connections; gives how many were answered in time."""
    answered, began_s = [0] * CLIENTS, time.monotonic()

    def client(number: int) -> None:
        due_s = began_s + number / rate_per_s
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(path))
            while due_s < began_s + seconds:
                time.sleep(max(0.0, due_s - time.monotonic()))
                answered[number] += ask_once(connection, request) and time.monotonic() < began_s + seconds + 0.1
                due_s = max(due_s + CLIENTS / rate_per_s, time.monotonic())

    in_threads(client, CLIENTS)
    return sum(answered)


def in_threads(work: Callable[[int], None], count: int) -> None:
    """Run `work` so often at once, with the numbers from 0."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
