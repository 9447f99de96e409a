"""A flood of requests from spoofed sources: what other traffic, the point, and strangers notice of it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from statistics import median

import pytest

from benchmarks.flood import ATTACKER, FloodNetwork, Reading, flood_network
from lab.points import point_files
from mp.config import load_configuration
from prober.challenge import AUTHENTICATED_CHALLENGES, RATE_PER_S
from requestor.client import Client
from tests.namespaces import in_namespace
from tests.overlay.network import eventually

pytestmark = pytest.mark.netns

SECONDS = 0.6
OTHER_TRAFFIC_PER_S = 20_000
"""Datagrams of 512 octets: what a core of a busy machine can send besides."""
CHALLENGE_BYTES = 72
AUTHENTICATED_BYTES = 140
ETHERNET_BYTES = 14
HEARTBEAT_S = 1.0


@pytest.fixture(scope="module")
def net() -> Iterator[FloodNetwork]:
    with flood_network() as made:
        yield made


def test_a_flood_from_spoofed_sources_costs_other_traffic_nothing_that_it_does_not_cost_without_the_point(
    net: FloodNetwork,
) -> None:
    configuration = load_configuration(point_files(net.lab.directory, "router").configuration).measurement
    greatest = configuration.rate_per_s * (SECONDS + HEARTBEAT_S) + configuration.burst
    readings: dict[bool, list[Reading]] = {True: [], False: []}
    seen = []
    for _ in range(3):
        with net.daemon() as client:
            readings[True].append(net.run(SECONDS, stream_per_s=OTHER_TRAFFIC_PER_S))
            counters = eventually(lambda: intercepted(client), "a count", within_s=5)
            assert counters["intercepted"] <= greatest
            seen.append(counters["intercepted"])
            assert eventually(lambda: overloaded(client), "that packets pass unseen", within_s=5) < greatest
            assert (counters["queue_dropped"], counters["user_dropped"], counters["handler_failed"]) == (0, 0, 0)
        readings[False].append(net.run(SECONDS, stream_per_s=OTHER_TRAFFIC_PER_S))
    # What the rule lets through passes the queue at once, but for the beginning and a fifth of the time.
    assert median(seen) < configuration.burst + 0.75 * configuration.rate_per_s * SECONDS
    for one in (*readings[True], *readings[False]):
        assert one.flood_sent_per_s > 5 * configuration.rate_per_s
        assert one.stream_sent_per_s > 0.2 * OTHER_TRAFFIC_PER_S  # others may keep the machine busy
    for one in readings[True]:  # whoever is named in a forged request gets no more than a trickle
        assert 0 < one.back_bytes_per_s * SECONDS <= RATE_PER_S * (1 + 2 * SECONDS) * CHALLENGE_BYTES
    forwarded = {runs: median(one.stream_arrived for one in readings[runs]) for runs in readings}
    assert forwarded[True] >= 0.95 * forwarded[False] > 0.9
    assert median(one.flood_forwarded_per_s / one.flood_sent_per_s for one in readings[True]) > 0.95


def intercepted(client: Client) -> dict[str, int] | None:
    counters: dict[str, int] = client.status()["packet_process"]["counters"]
    return counters if counters.get("intercepted") else None


def overloaded(client: Client) -> int | None:
    counters: dict[str, int] = client.status()["packet_process"]["counters"]
    return counters.get("overloaded")


def test_one_forged_request_brings_its_victim_hardly_more_octets_than_it_has(net: FloodNetwork) -> None:
    frame = net.flood.read_bytes()
    length = int.from_bytes(frame[:2])
    most = AUTHENTICATED_CHALLENGES * AUTHENTICATED_BYTES  # points of a lab share a key
    assert most < 1.1 * (length - ETHERNET_BYTES)
    with net.daemon():
        before = net.back_bytes()
        with in_namespace(net.namespace(ATTACKER)), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind((net.interface(ATTACKER), 0))
            sender.send(frame[2 : 2 + length])
        eventually(lambda: net.back_bytes() - before >= most, "all challenges", within_s=10)
        assert net.back_bytes() - before == most
