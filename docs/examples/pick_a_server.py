#!/usr/bin/env python3
"""A caller that asks for the quality of the paths to several servers, and calls over the best of them.

    pick_a_server.py serve NAME              on each server
    pick_a_server.py call SERVER SERVER ...  on a host with a measurement point

SERVER is an IPv4 address or a name of the point's configuration. The protocol is a line each way, in the manner
of SIP: `INVITE` is answered by `200 OK` and the server's name. It ends with 0 when the call was placed, else 1.
"""

import socket
import socketserver
import sys
from functools import partial

from requestor.client import Client
from schemas.errors import InpathError
from schemas.verdict import BEST_FIRST, Verdict

PORT = 5060
PATIENCE_S = 5.0
say = partial(print, file=sys.stderr)


class Answering(socketserver.StreamRequestHandler):
    """Takes every call."""

    name = ""

    def handle(self) -> None:
        """Answer one line."""
        if self.rfile.readline(256).startswith(b"INVITE"):
            self.wfile.write(f"200 OK {self.name}\n".encode())


def badness(verdict: Verdict) -> tuple[int, float]:
    """For sorting: yes before unsure before no, then by the estimated voice quality that is at least there."""
    estimate = verdict.voice_estimate
    return BEST_FIRST.index(verdict.answer), 0.0 if estimate is None else -estimate.mos_low


def judged(client: Client, server: str) -> tuple[Verdict, str] | None:
    """The worse of both directions, since people talk both ways, and the address; None if nothing is known."""
    try:
        forward, back = client.both_verdicts(server, "voice")
    except InpathError as error:
        say(f"{server}: {error}")
        return None
    worse = max(forward, back, key=badness)
    say(f"{server}: {worse.answer}, decided by {worse.binding_metric}")
    return worse, forward.destination


def pick(servers: list[str]) -> str | None:
    """Address of the server with the best path, unless no path will do; an unsure one is better than no call."""
    with Client.local() as client:
        asked = [judged(client, server) for server in servers]
    found = [one for one in asked if one is not None and not one[0].no]
    return min(found, key=lambda one: badness(one[0]))[1] if found else None


def call(server: str) -> str:
    """Place the call."""
    with socket.create_connection((server, PORT), PATIENCE_S) as connection:
        connection.sendall(b"INVITE\n")
        return connection.makefile().readline().strip()


def main() -> int:
    """Serve or call."""
    match sys.argv[1:]:
        case ["serve", name]:
            Answering.name = name
            socketserver.TCPServer.allow_reuse_address = True
            with socketserver.ThreadingTCPServer(("", PORT), Answering) as server:
                server.serve_forever()
        case ["call", first, *others]:
            best = pick([first, *others])
            if best is None:
                say("no path will do")
                return 1
            sys.stdout.write(call(best) + "\n")
            return 0
    say(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main())
