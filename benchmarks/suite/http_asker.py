"""Asks a point for a path over HTTP, again and again, and says at the end how many answers came.

    python -m benchmarks.suite.http_asker SOCKET SOURCE DESTINATION RATE

Runs at the lowest priority until SIGTERM, as it stands for programs on other machines. A connection that has to
wait for its answer skips the questions that were due meanwhile.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sys
import threading
import time

CONNECTIONS = 8
ANSWER_LIMIT_S = 10.0
HEAD = {"Content-Type": "application/json"}


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER_LIMIT_S)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(ANSWER_LIMIT_S)
        self.sock.connect(self._path)


def ask(path: str, question: bytes, gap_s: float, begin_s: float, answered: list[int]) -> None:
    """Ask at even times for ever; each answer adds one to `answered`."""
    connection = UnixConnection(path)
    due_s = begin_s
    while True:
        time.sleep(max(0.0, due_s - time.monotonic()))
        connection.request("POST", "/v1/paths", question, HEAD)
        response = connection.getresponse()
        response.read()
        answered[0] += response.status == 200
        due_s = max(due_s + gap_s, time.monotonic())


def main() -> None:
    """Ask over some connections at once."""
    path, source, destination, rate = sys.argv[1:]
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    question = json.dumps({"source": source, "destination": destination}).encode()
    answered = [0]
    began_s = time.monotonic()
    gap_s = CONNECTIONS / float(rate)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # of the threads, too
    for number in range(CONNECTIONS):
        begin_s = time.monotonic() + number / float(rate)
        arguments = (path, question, gap_s, begin_s, answered)
        threading.Thread(target=ask, args=arguments, daemon=True).start()
    signal.sigwait([signal.SIGTERM])
    print(answered[0], time.monotonic() - began_s)


if __name__ == "__main__":
    main()
