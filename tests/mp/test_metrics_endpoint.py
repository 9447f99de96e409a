from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from http import HTTPStatus
from ipaddress import IPv4Network
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mp.metrics_endpoint import MAX_HEAD_BYTES, Answer, MetricsEndpoint, Scrape, request_from_head
from mp.settings import MetricsSettings
from schemas.errors import HostError
from tests.mp.point_status import STATUS

LOOPBACK = (IPv4Network("127.0.0.0/8"),)


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


async def exchange(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await writer.wait_closed()
    return answer


class Point:
    """A point whose state is asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def status(self) -> dict[str, Any]:
        self.asked += 1
        return STATUS


def serve(
    story: Callable[[int], Awaitable[None]], allow: tuple[IPv4Network, ...] = LOOPBACK, point: Point | None = None
) -> None:
    async def run() -> None:
        port = free_port()
        settings = MetricsSettings(listen="127.0.0.1", port=port, allow=allow)
        async with AsyncExitStack() as stack:
            await MetricsEndpoint(settings, (point or Point()).status).start(stack)
            await story(port)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Scrape(accept="")),
        (b"GET /metrics?x=1 HTTP/1.0\r\nACCEPT:  text/plain \r\n\r\n", Scrape(accept="text/plain")),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", Scrape(accept="")),
        (b"GET / HTTP/1.1\r\n\r\n", HTTPStatus.NOT_FOUND),
        (b"POST /metrics HTTP/1.1\r\n\r\n", HTTPStatus.METHOD_NOT_ALLOWED),
        (b"GET /metrics\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"\xff\xfe\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"", HTTPStatus.BAD_REQUEST),
    ],
)
def test_a_request_for_the_metrics_is_told_from_all_else(head: bytes, expected: Scrape | HTTPStatus) -> None:
    got = request_from_head(head)
    assert (got.status if isinstance(got, Answer) else got) == expected


def test_a_refusal_names_what_would_have_been_right() -> None:
    refused = request_from_head(b"POST /metrics HTTP/1.1\r\n\r\n")
    assert isinstance(refused, Answer)
    assert b"\r\nAllow: GET, HEAD\r\n" in refused.to_bytes()
    assert refused.to_bytes().endswith(b"/metrics\n")


def test_prometheus_reads_the_state_of_the_point() -> None:
    async def story(port: int) -> None:
        head, _, body = (await exchange(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4")
        assert f"Content-Length: {len(body)}".encode() in head
        names = {family.name for family in text_string_to_metric_families(body.decode())}
        assert "inpath_segment_delay_seconds" in names
        head_alone = await exchange(port, b"HEAD /metrics HTTP/1.1\r\n\r\n")
        assert head_alone == head + b"\r\n\r\n"

    serve(story)


def test_many_readers_cost_one_look_at_the_point() -> None:
    point = Point()

    async def story(port: int) -> None:
        answers = await asyncio.gather(*(exchange(port, b"GET /metrics HTTP/1.1\r\n\r\n") for _ in range(5)))
        assert len(set(answers)) == 1

    serve(story, point=point)
    assert point.asked == 1


def test_a_stranger_hears_nothing() -> None:
    async def story(port: int) -> None:
        try:
            heard = await exchange(port, b"GET /metrics HTTP/1.1\r\n\r\n")
        except ConnectionResetError:  # the kernel's word for an end with the question unread
            heard = b""
        assert heard == b""

    serve(story, allow=(IPv4Network("192.0.2.0/24"),))


def test_a_head_without_end_is_refused() -> None:
    async def story(port: int) -> None:
        answer = await exchange(port, b"GET /metrics HTTP/1.1\r\nX: " + b"x" * (MAX_HEAD_BYTES + 1))
        assert answer.startswith(b"HTTP/1.1 400 ")

    serve(story)


def test_a_silent_client_is_cut_at_the_end() -> None:
    async def story(port: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        assert (await exchange(port, b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
        writer.close()

    serve(story)


def test_without_an_address_nothing_listens() -> None:
    async def run() -> None:
        settings = MetricsSettings(listen=None, port=free_port(), allow=LOOPBACK)
        async with AsyncExitStack() as stack:
            await MetricsEndpoint(settings, dict).start(stack)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", settings.port)

    asyncio.run(run())


def test_a_port_in_use_is_one_line() -> None:
    async def run() -> None:
        with socket.socket() as squatter:
            squatter.bind(("127.0.0.1", 0))
            squatter.listen()
            port = squatter.getsockname()[1]
            settings = MetricsSettings(listen="127.0.0.1", port=port, allow=LOOPBACK)
            async with AsyncExitStack() as stack:
                with pytest.raises(HostError, match=rf"metrics tcp 127.0.0.1:{port}: .* expected a free port"):
                    await MetricsEndpoint(settings, dict).start(stack)

    asyncio.run(run())
