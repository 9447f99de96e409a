"""A path asked for over HTTP, from the program to the far end of a real network and back."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from schemathesis import GenerationMode

from mp.config import load_configuration
from mp.http.link import HttpLink
from mp.settings import Configuration
from schemas.metrics import METRICS
from tests.overlay.network import Network, eventually
from tests.requestor.http.by_document import ask_by_document, token_for_all
from tests.requestor.http.serving import Reply, UnixConnection, free_port, reply_of, short_folder

EXAMPLES = 4
MOST_PAIRS = 2
LONGEST_WAIT_S = 0.2

pytestmark = pytest.mark.netns


@contextmanager
def http_beside(net: Network, node: str) -> Iterator[Path]:
    """The HTTP service of a point; gives its socket. If the point runs one itself, that is it."""
    configuration = load_configuration(net.configuration(node))
    if configuration.http.socket.exists():
        yield configuration.http.socket
        return
    with http_of(configuration):
        yield configuration.http.socket


@contextmanager
def http_of(configuration: Configuration) -> Iterator[HttpLink]:
    """The service, in this network namespace."""
    link = HttpLink(configuration, METRICS)
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def run() -> None:
        async with AsyncExitStack() as stack:
            await link.start(stack)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    assert ready.wait(5)
    try:
        yield link
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


def test_a_real_point_answers_what_the_document_says(row: Network, tmp_path: Path) -> None:
    ends = {"source": row.address("p1"), "destination": row.address("p3")}

    def for_this_point(case: Any) -> None:
        """Names that nobody knows would never reach the point."""
        for asked_for in (case.body, case.query):
            if not isinstance(asked_for, dict):
                continue
            pairs = asked_for.get("pairs", [asked_for])
            del pairs[MOST_PAIRS:]
            for pair in pairs:
                pair |= {name: value for name, value in ends.items() if name in pair}
            if "timeout_s" in asked_for:
                asked_for["timeout_s"] = min(LONGEST_WAIT_S, asked_for["timeout_s"])

    configuration = load_configuration(row.configuration("p1"))
    tokens = tmp_path / "tokens.json"
    token = token_for_all(tokens)
    with short_folder() as folder:
        http = replace(
            configuration.http,
            socket=folder / "h",
            listen="127.0.0.1",
            port=free_port(),
            token_file=tokens,
            rate_per_s=1e4,
            burst=10_000,
        )
        with http_of(replace(configuration, http=http)) as link:
            statuses = ask_by_document(
                asked(http.socket, "GET", "/openapi.json"),
                port=http.port,
                token=token,
                mode=GenerationMode.POSITIVE,
                examples=EXAMPLES,
                change=for_this_point,
            )
            assert asked(http.socket, "GET", "/readyz")["point"] == "up"
            assert link.restarts == 0
    assert {200, 202} <= set(statuses)
