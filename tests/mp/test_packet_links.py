"""Several packet processes with a queue each on a real network; for the service they are one."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest

from interceptor.packet import decode_packet
from mp.bridge import Event, HostChanged, Setup, UpstreamSeen
from mp.packet_links import PacketLinks
from schemas.errors import HostError
from schemas.message import Message
from schemas.payload import message_from_payload
from schemas.xml_writer import message_to_xml
from tests.interceptor.datagram import build_datagram
from tests.interceptor.network import Network
from tests.mp.test_bridge import SETUP
from tests.mp.test_packet_process import REQUEST
from tests.namespaces import Namespaces, in_namespace

pytestmark = pytest.mark.netns

PROCESSES = 2
SOURCES = 16
"""So many that all go to one queue once in 30,000 times."""
LIMIT_S = 15.0


@pytest.fixture
def network(namespaces: Namespaces) -> Iterator[Network]:
    with Network(namespaces) as network:
        yield network


def requests(network: Network) -> list[bytes]:
    """One from each of many sources."""
    packets = []
    for number in range(SOURCES):
        request = replace(REQUEST, source=f"10.77.0.{number + 1}", destination=network.destination)
        payload = message_to_xml(Message(request=request))
        packets.append(build_datagram(payload, source=request.source, destination=request.destination))
    return packets


def extended_by(arrived: list[bytes]) -> list[str]:
    """The points that have added a record, in all packets together."""
    payloads = (decode_packet(packet).payload for packet in arrived)
    return [record.current for payload in payloads for record in message_from_payload(payload).records]


def queued(network: Network) -> dict[int, int]:
    """How many packets each queue has had."""
    listed = network.r.run("cat", "/proc/self/net/netfilter/nfnetlink_queue").splitlines()
    return {int(fields[0]): int(fields[7]) for fields in map(str.split, listed)}


async def until(condition: object, within_s: float = LIMIT_S) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("place", [0, -1])
def test_the_processes_run_on_the_processors_that_were_named_one_each_in_turn(
    network: Network, place: int
) -> None:
    processor = sorted(os.sched_getaffinity(0))[place]
    setup = replace(SETUP, queues=PROCESSES, processors=(processor,))

    async def story() -> list[set[int]]:
        links = PacketLinks(lambda: setup, lambda _: None, PROCESSES)
        await links.start()
        try:
            return [os.sched_getaffinity(pid) for pid in links.pids]
        finally:
            await links.close()

    with in_namespace(network.r.name):
        assert asyncio.run(story()) == [{processor}] * PROCESSES


def test_a_processor_that_is_not_there_is_one_line(network: Network) -> None:
    async def story() -> None:
        await PacketLinks(lambda: replace(SETUP, processors=(4095,)), lambda _: None, 1).start()

    expected = r"measurement\.processors: got \[4095\], expected some of \[0, .*\] \(Invalid argument\)"
    with in_namespace(network.r.name), pytest.raises(HostError, match=expected):
        asyncio.run(story())


def test_the_processes_share_the_packets_and_one_that_dies_comes_back(network: Network) -> None:
    heard: list[Event] = []
    setup = replace(SETUP, queues=PROCESSES, rate_per_s=10_000, burst=1000, plain_udp=True)
    assert isinstance(setup, Setup)
    own_address = network.r.addresses[0]

    async def story() -> None:
        links = PacketLinks(lambda: setup, heard.append, PROCESSES)
        await links.start()
        try:
            assert links.rules in ("iptables", "nft")
            assert len(set(links.pids)) == PROCESSES
            assert links.send(HostChanged(own_addresses=(SETUP.address, own_address), room=1468))
            network.send_raw(*requests(network))
            arrived = network.received(SOURCES)
            assert extended_by(arrived) == [SETUP.address] * SOURCES
            assert set(queued(network)) == {1, 2} and all(queued(network).values())
            await until(lambda: links.counters.get("forwarded") == SOURCES)
            await until(lambda: sum(isinstance(event, UpstreamSeen) for event in heard) == SOURCES)

            os.kill(links.pids[1], signal.SIGKILL)
            await until(lambda: set(queued(network)) == {1})
            network.send_raw(*requests(network))
            arrived = network.received(SOURCES)
            assert 0 < len(extended_by(arrived)) < SOURCES
            await until(lambda: len(links.pids) == PROCESSES and links.restarts == 1)
            await until(lambda: set(queued(network)) == {1, 2})
            network.send_raw(*requests(network))
            assert len(extended_by(network.received(SOURCES))) == SOURCES
        finally:
            await links.close()

    with in_namespace(network.r.name):
        asyncio.run(story())
    assert "INPATH" not in network.r.run("iptables", "-t", "mangle", "-S")
    assert queued(network) == {}
