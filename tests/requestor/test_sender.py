"""The socket by which requests leave, and the ICMP errors that come back to it."""

from __future__ import annotations

import asyncio
import logging

import pytest

from requestor.sender import RequestSender
from tests.namespaces import Namespaces, in_namespace

PORT = 49_862
NARROW_OCTETS = 1400
ERROR_S = 0.3
"""For an ICMP error to come back."""


@pytest.mark.netns
def test_a_request_too_long_for_a_link_on_its_way_is_no_refusal_and_keeps_no_other_from_leaving(
    namespaces: Namespaces, caplog: pytest.LogCaptureFixture
) -> None:
    near, router, far = namespaces.chain("near", "router", "far")
    router.run("ip", "link", "set", router.interfaces[1], "mtu", str(NARROW_OCTETS))
    target = far.addresses[0]
    refused: list[tuple[str, str]] = []

    async def send() -> None:
        with in_namespace(near.name):
            sender = RequestSender(near.addresses[0], PORT, lambda *what: refused.append(what))
        try:
            sender.send(bytes(NARROW_OCTETS), target)
            await asyncio.sleep(ERROR_S)
            assert refused == []
            sender.send(b"short", target)
            await asyncio.sleep(ERROR_S)
        finally:
            sender.close()

    with caplog.at_level(logging.INFO, logger="requestor.sender"):
        asyncio.run(send())
    assert f"a request to {target} did not fit a link of {NARROW_OCTETS} octets on its way" in caplog.messages
    assert refused == [(target, "no measurement point listens there")]
