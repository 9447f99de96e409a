"""A path asked for over HTTP, from the program to the far end of a real network and back."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from mp.config import load_configuration
from mp.http.link import HttpLink
from schemas.metrics import METRICS
from tests.overlay.network import Network, eventually
from tests.requestor.http.serving import Reply, UnixConnection, reply_of

pytestmark = pytest.mark.netns


@contextmanager
def http_beside(net: Network, node: str) -> Iterator[Path]:
    """The HTTP service of a point; gives its socket. If the point runs one itself, that is it."""
    configuration = load_configuration(net.configuration(node))
    if configuration.http.socket.exists():
        yield configuration.http.socket
        return
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def run() -> None:
        async with AsyncExitStack() as stack:
            await HttpLink(configuration, METRICS).start(stack)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    assert ready.wait(5)
    try:
        yield configuration.http.socket
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def asked(socket: Path, method: str, target: str, document: object = None) -> Any:
    reply: Reply = reply_of(UnixConnection(socket), method, target, document, {})
    assert reply.status in (200, 202), reply.body
    return reply.document()


def test_a_program_gets_the_path_its_verdict_its_history_and_its_changes(row: Network) -> None:
    question = {"source": row.address("p1"), "destination": row.address("p3"), "profile": "game"}
    truth = row.lab.truth("p1", "p3")
    assert truth.rtt_ms is not None
    rtt_ms = truth.rtt_ms
    for upstream, current in (("p1", "p2"), ("p2", "p3")):
        row.await_samples(upstream, current, 150)
    with http_beside(row, "p1") as socket:

        def near() -> Any:
            # The machine may have been busy while it was measured; the window forgets that.
            answer = asked(socket, "POST", "/v1/paths", question)
            rtt = answer["result"]["composed"].get("rtt", {"value": None})["value"]
            return answer if rtt and abs(rtt - rtt_ms) < 1 + 0.03 * rtt_ms else None

        answer = eventually(near, f"a round trip near {rtt_ms} ms", within_s=20)
        result, verdict = answer["result"], answer["verdict"]
        assert [(one["upstream"], one["current"]) for one in result["segments"]] == [
            (row.address(a), row.address(b)) for a, b in (("p1", "p2"), ("p2", "p3"))
        ]
        assert verdict["request_id"] == result["id"]
        assert verdict["answer"] in ("no", "unsure")  # a link loses 3 %

        def stored() -> Any:
            target = f"/v1/history?source={question['source']}&metric=rtt"
            found = asked(socket, "GET", target)["results"]
            return [one for one in found if one["id"] == result["id"]]

        (kept,) = eventually(stored, "the result in the history", within_s=5)
        assert kept["composed"]["rtt"] == result["composed"]["rtt"]
        assert {one["upstream"] for one in asked(socket, "GET", "/v1/segments")["segments"]} >= {row.address("p2")}
        assert first_event(socket, question)["changes"] == ["first"]


def first_event(socket: Path, question: dict[str, str]) -> dict[str, Any]:
    connection: http.client.HTTPConnection = UnixConnection(socket)
    try:
        ends = f"source={question['source']}&destination={question['destination']}"
        connection.request("GET", f"/v1/events?{ends}&interval_s=1")
        response = connection.getresponse()
        while not (line := response.readline()).startswith(b"data: "):
            assert line, "the stream ended"
        data: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
        return data
    finally:
        connection.close()
