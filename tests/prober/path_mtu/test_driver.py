from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable

import pytest

from prober.path_mtu.driver import IP_UDP_OCTETS, MtuProber
from prober.path_mtu.search import MtuTimes
from prober.timestamp import NS_PER_MS
from schemas.errors import HostError, ProbeError
from schemas.metrics import ScalarStatistics

PEER = "127.0.0.2"
QUICK = MtuTimes(least_timeout_ns=50 * NS_PER_MS, confirm_ns=100 * NS_PER_MS)


class PlainCodec:
    """A number and zeros."""

    def write(self, address: str, sequence: int, size_octets: int) -> bytes:
        return sequence.to_bytes(4, "big").ljust(size_octets, b"\0")

    def read(self, address: str, data: bytes) -> int | None:
        if data == b"broken":
            raise ProbeError("broken")
        return int.from_bytes(data[:4], "big") if len(data) > 4 else None


class Echo:
    """A peer on the loopback that answers with what `answers` makes of a probe."""

    def __init__(self, answers: Callable[[bytes], list[bytes]]) -> None:
        self._answers = answers
        self.heard: list[bytes] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((PEER, 0))
        self._socket.setblocking(False)
        self.port = self._socket.getsockname()[1]

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._socket, self._take)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _take(self) -> None:
        data, source = self._socket.recvfrom(65_535)
        self.heard.append(data)
        for answer in self._answers(data):
            self._socket.sendto(answer, source)


def prober_toward(port: int, given: list[ScalarStatistics], seen: set[tuple[str, int]]) -> MtuProber:
    def give(peer: str, metric: str, value: ScalarStatistics) -> None:
        assert (peer, metric) == (PEER, "mtu")
        given.append(value)

    return MtuProber(
        "127.0.0.1",
        codec=PlainCodec(),
        limit_of=lambda _: 65_536,
        give=give,
        withdraw=lambda *_: given.clear(),
        now_ms=lambda: 7,
        monotonic_ns=time.monotonic_ns,
        random_source=random.Random(1),
        port=port,
        seen=lambda peer, index: seen.add((peer, index)),
        times=QUICK,
    )


def talk(
    answers: Callable[[bytes], list[bytes]], *, seconds: float
) -> tuple[Echo, list[ScalarStatistics], set[int]]:
    """What was sent and given, and by which interfaces replies came."""
    given: list[ScalarStatistics] = []
    seen: set[tuple[str, int]] = set()
    echo = Echo(answers)

    async def run() -> None:
        echo.start()
        prober = prober_toward(echo.port, given, seen)
        prober.follow([PEER])
        await prober.start()
        await asyncio.sleep(seconds)
        prober.follow([])
        silent_from = len(echo.heard)
        await asyncio.sleep(0.2)
        assert len(echo.heard) == silent_from
        assert prober.sent_octets == sum(len(data) + IP_UDP_OCTETS for data in echo.heard)
        await prober.close()
        echo.close()

    asyncio.run(run())
    return echo, given, {index for _, index in seen}


def test_a_size_is_confirmed_again_and_again_with_growing_numbers() -> None:
    echo, given, interfaces = talk(lambda data: [data], seconds=0.6)
    assert [len(data) for data in echo.heard[:3]] == [1172, 1472, 1472]
    assert len(given) >= 3
    assert (given[-1].value, given[-1].low, given[-1].high, given[-1].measured_at_ms) == (1500, 1500, 65_536, 7)
    assert given[-1].count == len(given)
    numbers = [int.from_bytes(data[:4], "big") for data in echo.heard]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert interfaces == {socket.if_nametoindex("lo")}


@pytest.mark.parametrize(
    "answers",
    [
        lambda data: [],
        lambda data: [b"broken", b"x", data[:100]],
        lambda data: [bytes(len(data))],
    ],
    ids=["silence", "rubbish", "another number"],
)
def test_what_is_no_answer_gives_no_value(answers: Callable[[bytes], list[bytes]]) -> None:
    echo, given, interfaces = talk(answers, seconds=0.3)
    assert len(echo.heard) >= 3
    assert given == []
    assert interfaces == set()


def test_a_peer_that_falls_silent_has_no_mtu_any_more() -> None:
    answered: list[int] = []

    def answers(data: bytes) -> list[bytes]:
        if len(answered) == 4:
            return []
        answered.append(len(data))
        return [data]

    echo, given, _ = talk(answers, seconds=1.2)
    assert answered == [1172, 1472, 1472, 1472]
    assert [len(data) for data in echo.heard[4:13]] == [1472] * 3 + [1172] * 3 + [256 - IP_UDP_OCTETS] * 3
    assert given == []


def test_an_address_of_another_machine_is_told_in_one_line() -> None:
    prober = MtuProber(
        "203.0.113.1",
        codec=PlainCodec(),
        limit_of=lambda _: 1500,
        give=lambda *_: None,
        withdraw=lambda *_: None,
        now_ms=lambda: 7,
        monotonic_ns=time.monotonic_ns,
        random_source=random.Random(1),
    )
    with pytest.raises(HostError, match=r"203\.0\.113\.1"):
        prober.open()
