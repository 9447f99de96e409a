from __future__ import annotations

import asyncio
import re
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.plugins.echo_series import EchoSeries
from prober.plugins.icmp_echo import PLUGIN
from prober.plugins.plugin import Sample, check_plugin
from schemas.errors import HostError, NoAnswerError, ProbeError
from schemas.metrics import Composition, registry_with
from tests.namespaces import Namespace, Namespaces, in_namespace
from tests.prober.delayed_link import ROUND_TRIP_MS, delayed_link, quietest

COOKIE = b"0123456789abcdef"
IPV4_HEADER = bytes.fromhex("45000034 00000000 40010000 c0000202 c0000201")
T0_NS = 1_700_000_000_000_000_000


def series(requests: int = 1) -> EchoSeries:
    one = EchoSeries(identifier=0x1234, cookie=COOKIE)
    for number in range(requests):
        one.request()
        one.leaves(T0_NS + number * 1_000_000_000)
    return one


def checksum(data: bytes) -> int:
    """By definition (RFC 1071): the one's complement of the sum that carries around."""
    total = 0
    for high, low in zip(data[::2], data[1::2], strict=True):
        total += high << 8 | low
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def reply(
    *, kind: int = 0, code: int = 0, identifier: int = 0x1234, sequence: int = 0, data: bytes = COOKIE
) -> bytes:
    message = struct.pack("!BBHHH", kind, code, 0, identifier, sequence) + data
    return IPV4_HEADER + message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def test_a_request_is_an_echo_message_that_a_host_can_send_back() -> None:
    request = EchoSeries(identifier=0x1234, cookie=COOKIE).request()
    assert request[:2] == b"\x08\x00"
    assert request[4:] == b"\x12\x34\x00\x00" + COOKIE
    assert checksum(request) == 0


def test_requests_are_numbered_as_they_leave() -> None:
    assert [series(sent).request()[6:8] for sent in range(3)] == [b"\x00\x00", b"\x00\x01", b"\x00\x02"]


def test_replies_tell_their_round_trip_times_in_the_order_of_the_requests() -> None:
    one = series(3)
    one.reply(reply(sequence=2), T0_NS + 2_000_000_000 + 7_500_000)
    one.reply(reply(sequence=0), T0_NS + 3_000_000)
    assert not one.is_answered
    assert one.round_trips_ms() == [3.0, 7.5]
    one.reply(reply(sequence=1), T0_NS + 1_000_000_000)
    assert one.is_answered
    assert one.round_trips_ms() == [3.0, 0.0, 7.5]


def test_a_second_reply_to_the_same_request_changes_nothing() -> None:
    one = series()
    one.reply(reply(), T0_NS + 3_000_000)
    one.reply(reply(), T0_NS + 9_000_000)
    assert one.round_trips_ms() == [3.0]


def test_header_options_of_a_reply_are_stepped_over() -> None:
    one = series()
    packet = reply()
    one.reply(b"\x46" + packet[1:20] + b"\x94\x04\x00\x00" + packet[20:], T0_NS + 1_000_000)
    assert one.round_trips_ms() == [1.0]


@pytest.mark.parametrize(
    "packet",
    [
        reply(kind=8),
        reply(kind=3),
        reply(code=1),
        reply(identifier=0x1235),
        reply(sequence=1),
        reply(data=COOKIE[:-1] + b"x"),
        reply(data=COOKIE + b"xx"),
        reply(data=b""),
        reply()[:-2],
        reply()[:22] + b"\x00\x00" + reply()[24:],
        reply()[:27],
        b"\x65" + reply()[1:],
        b"\x44" + reply()[1:],
        b"",
    ],
)
def test_what_answers_no_request_of_the_series_is_refused(packet: bytes) -> None:
    one = series()
    with pytest.raises(ProbeError):
        one.reply(packet, T0_NS + 1_000_000)
    assert one.round_trips_ms() == []


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda data: IPV4_HEADER + data))
def test_any_bytes_are_a_reply_or_refused(packet: bytes) -> None:
    one = series()
    with pytest.raises(ProbeError):
        one.reply(packet, T0_NS + 1_000_000)


@pytest.mark.parametrize("late_ns", [-1, 60_000_000_001])
def test_a_step_of_the_clock_gives_no_round_trip_time(late_ns: int) -> None:
    one = series()
    with pytest.raises(ProbeError, match="clock"):
        one.reply(reply(), T0_NS + late_ns)


def test_the_plug_in_fits_the_registry() -> None:
    check_plugin(PLUGIN, "icmp-rtt")
    assert registry_with([PLUGIN.metric])["icmp-rtt"].composition is Composition.SUM


def measure_in(namespace: Namespace, own: str, peer: str) -> Sample:
    with in_namespace(namespace.name):
        return asyncio.run(PLUGIN.measure(own, peer))


def least_of_ping_ms(namespace: Namespace, peer: str) -> float:
    summary = namespace.run("ping", "-q", "-c", "5", "-i", "0.2", peer)
    found = re.search(r"rtt min/avg/max/mdev = ([0-9.]+)/", summary)
    assert found
    return float(found[1])


@pytest.mark.netns
def test_the_round_trip_time_of_a_link_is_its_delay_and_what_ping_says(
    namespaces: Namespaces, tmp_path: Path
) -> None:
    with delayed_link(namespaces, tmp_path) as (near, far):
        sample = quietest(lambda: measure_in(near, near.addresses[0], far.addresses[0]))
        ping_ms = least_of_ping_ms(near, far.addresses[0])
    assert sample.count == 5
    assert sample.value == pytest.approx(ROUND_TRIP_MS, abs=2)
    assert sample.value == pytest.approx(ping_ms, abs=2)
    assert sample.low <= sample.value <= sample.high


@pytest.mark.netns
def test_pings_of_others_at_the_same_time_are_not_taken_for_replies(namespaces: Namespaces) -> None:
    near, far = namespaces.chain("near", "far")
    own, peer = near.addresses[0], far.addresses[0]
    other = near.popen("ping", "-q", "-i", "0.01", "-w", "3", peer)
    try:
        sample = measure_in(near, own, peer)
    finally:
        other.terminate()
        other.communicate(timeout=10)
    assert sample.count == 5
    assert 0 < sample.value < 20


@pytest.mark.netns
def test_the_kernels_receive_time_is_used_even_when_the_loop_is_busy(namespaces: Namespaces) -> None:
    near, far = namespaces.chain("near", "far")

    async def main() -> Sample:
        measuring = asyncio.create_task(PLUGIN.measure(near.addresses[0], far.addresses[0]))
        await asyncio.sleep(0.05)  # the first request is out; the kernel has begun to stamp
        while not measuring.done():
            time.sleep(0.03)  # longer than any round trip here
            await asyncio.sleep(0)
        return await measuring

    with in_namespace(near.name):
        sample = asyncio.run(main())
    assert sample.value < 8  # with the time of reading it would be about 15


@pytest.mark.netns
def test_without_replies_there_is_no_value(namespaces: Namespaces) -> None:
    near, far = namespaces.chain("near", "far")
    far.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/icmp_echo_ignore_all")
    with pytest.raises(NoAnswerError, match="got 0 replies to 5 echo requests, expected at least 2"):
        measure_in(near, near.addresses[0], far.addresses[0])


@pytest.mark.netns
def test_without_a_way_there_is_no_value_either(namespaces: Namespaces) -> None:
    alone = namespaces.make("alone")
    with pytest.raises(HostError, match=r"ICMP echo from 127.0.0.1 to 10.1.2.3: Network is unreachable"):
        measure_in(alone, "127.0.0.1", "10.1.2.3")
    with pytest.raises(HostError, match="ICMP echo from 10.9.9.9"):
        measure_in(alone, "10.9.9.9", "127.0.0.1")
