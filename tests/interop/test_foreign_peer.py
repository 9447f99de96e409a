from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prober.clock_state import ClockState
from prober.stamp.authentication import StampKey, sole_key
from prober.stamp.direct import DirectSession
from prober.stamp.fault import ProbeFault
from prober.stamp.packet import STAMP_PORT
from prober.stamp.probe_format import ProbeFormat
from prober.stamp.reflector import Reflector
from prober.stamp.session_tally import ReflectorKind
from prober.stamp.udp_reflector import LoneReflector, UdpReflector
from schemas.metrics import DelayStatistics, RoundTripStatistics
from tests.namespaces import Namespace, Namespaces, in_namespace

PEER = str(Path(__file__).with_name("foreign_peer.py"))
SECRET = bytes(range(32))
CLOCK = ClockState(synchronized=True, error_ms=1)
PROBES = 60


@contextmanager
def foreign_reflector(namespace: Namespace, *options: str, secret: str = "-") -> Iterator[None]:
    running = namespace.popen(
        sys.executable, PEER, "reflect", namespace.addresses[0], str(STAMP_PORT), secret, *options
    )
    try:
        assert running.stdout is not None and running.stderr is not None
        assert running.stdout.readline() == b"ready\n", running.stderr.read()
        yield
    finally:
        running.kill()
        running.communicate()


def measure(namespace: Namespace, peer: str, **form: object) -> DirectSession:
    async def run() -> DirectSession:
        direct = DirectSession(
            peer,
            clock=CLOCK,
            now_ns=time.time_ns,
            random_source=random.Random(1),
            rate_per_s=100,
            probe_format=ProbeFormat(ssid=4_711, **form),  # type: ignore[arg-type]
        )
        with in_namespace(namespace.name):
            direct.open()
        await direct.run(count=PROBES)
        return direct

    return asyncio.run(run())


def assert_measured(direct: DirectSession) -> None:
    now_ns = time.time_ns()
    inbound = direct.segment.statistics(["delay", "rtt"], now_ns=now_ns, clock=CLOCK)
    there = direct.segment.outbound_statistics(["delay"], now_ns=now_ns, clock=CLOCK)["delay"]
    back, round_trip = inbound["delay"], inbound["rtt"]
    assert isinstance(there, DelayStatistics) and isinstance(back, DelayStatistics)
    assert isinstance(round_trip, RoundTripStatistics)
    # One clock serves both ends, so the delays of a link between namespaces must come out, and no leap seconds.
    assert 0 < there.mean_ms < 5 and 0 < back.mean_ms < 5
    assert 0 < round_trip.mean_ms < 5
    assert direct.session.outbound_hops == direct.segment.hops == 0
    assert direct.session.tally.answered == PROBES
    assert not +direct.faults


@pytest.mark.netns
@pytest.mark.parametrize(
    "options",
    [(), ("copy",), ("cut=41", "stateless"), ("ptp", "copy", "stateless")],
    ids=["stateful", "copies what follows", "TWAMP-Light, cut and stateless", "PTP, stateless"],
)
def test_our_sender_measures_foreign_reflectors(namespaces: Namespaces, options: tuple[str, ...]) -> None:
    left, right = namespaces.chain("left", "right")
    with foreign_reflector(right, *options):
        direct = measure(left, right.addresses[0])
    assert_measured(direct)
    assert not direct.session.is_extended
    assert direct.session.tally.reflector is ReflectorKind.UNKNOWN


@pytest.mark.netns
@pytest.mark.parametrize("size", [None, 112, 600])
def test_our_sender_measures_a_foreign_authenticated_reflector(namespaces: Namespaces, size: int | None) -> None:
    left, right = namespaces.chain("left", "right")
    with foreign_reflector(right, secret=SECRET.hex()):
        direct = measure(left, right.addresses[0], key=StampKey(SECRET), size_bytes=size)
        assert_measured(direct)
        with_other_key = measure(left, right.addresses[0], key=StampKey(bytes(16)))
    assert with_other_key.session.tally.answered == 0


@pytest.mark.netns
@pytest.mark.parametrize(
    ("size", "reply_size", "secret"),
    [
        (14, 44, "-"),
        (41, 44, "-"),
        (44, 44, "-"),
        (300, 300, "-"),
        (112, 112, SECRET.hex()),
        (500, 500, SECRET.hex()),
    ],
)
@pytest.mark.parametrize("stateless", [False, True])
def test_our_reflector_answers_foreign_senders(
    namespaces: Namespaces, size: int, reply_size: int, secret: str, *, stateless: bool
) -> None:
    left, right = namespaces.chain("left", "right")

    async def converse() -> list[dict[str, int]]:
        faults: Counter[ProbeFault] = Counter()
        key = None if secret == "-" else StampKey.from_hex(secret)
        reflector = Reflector(lambda address: None, key_of=sole_key(key), stateless=stateless, faults=faults)
        with in_namespace(right.name):
            opened = UdpReflector(
                LoneReflector(reflector, CLOCK, faults), "0.0.0.0", STAMP_PORT, now_ns=time.time_ns
            )
        opened.start()
        try:
            command = ("ip", "netns", "exec", left.name, sys.executable, PEER, "send", right.addresses[0])
            sender = await asyncio.create_subprocess_exec(
                *command, str(STAMP_PORT), secret, f"size={size}", stdout=subprocess.PIPE
            )
            output, _ = await sender.communicate()
        finally:
            opened.close()
        assert not +faults
        told: list[dict[str, int]] = json.loads(output)
        return told

    replies = asyncio.run(converse())
    assert [(reply["sequence"], reply["number"]) for reply in replies] == [(n, n) for n in range(5)]
    for reply in replies:
        assert len(str(reply["reply"])) // 2 == reply_size
        assert reply["sent"] == reply["t1"] <= reply["t2"] <= reply["t3"] <= reply["came"]
        assert (reply["sender_error"], reply["ttl"], reply["ssid"]) == (0x8F84, 255, 0)
        assert reply.get("authentic", True)
