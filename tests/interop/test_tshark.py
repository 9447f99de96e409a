from __future__ import annotations

import asyncio
import random
import subprocess
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
from prober.stamp.udp_reflector import LoneReflector, UdpReflector
from tests.namespaces import Namespace, Namespaces, in_namespace

CLOCK = ClockState(synchronized=True, error_ms=1)
PROBES = 12
FIELDS = (
    *("udp.dstport", "ip.ttl", "ip.dsfield.dscp", "udp.length", "_ws.malformed"),
    *("twamp.test.seq_number", "twamp.test.error_estimate.s", "twamp.test.error_estimate.z"),
    *("twamp.test.error_estimate.scale", "twamp.test.error_estimate.multiplier", "twamp.test.sender_seq_number"),
    *("twamp.test.sender_error_estimate", "twamp.test.error_estimate", "twamp.test.sender_ttl"),
    *("twamp.test.timestamp", "twamp.test.receive_timestamp", "twamp.test.sender_timestamp"),
)


@contextmanager
def capture(namespace: Namespace, file: Path, packets: int) -> Iterator[None]:
    """tcpdump listens inside the block, and ends when it has seen so many packets."""
    command = ("tcpdump", "-Z", "root", "-U", "-i", namespace.interfaces[0], "-w", str(file), "-c", str(packets))
    with namespace.popen(*command, "--immediate-mode", f"udp port {STAMP_PORT}") as tcpdump:
        try:
            assert tcpdump.stderr is not None
            while b"listening on" not in (line := tcpdump.stderr.readline()):
                assert line, "tcpdump ended"
            yield
            tcpdump.communicate(timeout=10)
        finally:
            tcpdump.kill()


def conversation(left: Namespace, right: Namespace, file: Path, probe_format: ProbeFormat) -> list[dict[str, str]]:
    """One dict of field values for each packet of a session between the two, as tshark understands it."""

    async def run() -> None:
        faults: Counter[ProbeFault] = Counter()
        reflector = Reflector(lambda address: None, key_of=sole_key(probe_format.key), faults=faults)
        direct = DirectSession(
            right.addresses[0],
            clock=CLOCK,
            now_ns=time.time_ns,
            random_source=random.Random(1),
            rate_per_s=50,
            probe_format=probe_format,
        )
        with in_namespace(left.name):
            direct.open()
        with in_namespace(right.name):
            opened = UdpReflector(
                LoneReflector(reflector, CLOCK, faults), right.addresses[0], STAMP_PORT, now_ns=time.time_ns
            )
        opened.start()
        try:
            await direct.run(count=PROBES)
        finally:
            opened.close()
        assert direct.session.tally.answered == PROBES
        assert direct.reply_tos == probe_format.tos

    with capture(left, file, 2 * PROBES):
        asyncio.run(run())
    command = [
        "tshark",
        "-r",
        str(file),
        "-d",
        f"udp.port=={STAMP_PORT},twamp.test",
        "-T",
        "fields",
        "-E",
        "separator=|",
        "-E",
        "occurrence=f",
    ]
    for field in FIELDS:
        command += ["-e", field]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    return [dict(zip(FIELDS, line.split("|"), strict=True)) for line in said.splitlines()]


@pytest.mark.netns
def test_a_dissector_reads_both_roles_of_a_session_as_twamp_test(namespaces: Namespaces, tmp_path: Path) -> None:
    left, right = namespaces.chain("left", "right")
    packets = conversation(left, right, tmp_path / "plain.pcap", ProbeFormat(ssid=7, dscp=46, size_bytes=400))
    probes = [packet for packet in packets if packet["udp.dstport"] == str(STAMP_PORT)]
    replies = [packet for packet in packets if packet["udp.dstport"] != str(STAMP_PORT)]
    assert [probe["twamp.test.seq_number"] for probe in probes] == [str(number) for number in range(PROBES)]
    for probe, reply in zip(probes, replies, strict=True):
        for packet in (probe, reply):
            assert (packet["ip.ttl"], packet["ip.dsfield.dscp"], packet["_ws.malformed"]) == ("255", "46", "")
            assert packet["udp.length"] == "408"
            assert packet["twamp.test.error_estimate.s"] in ("1", "True")
            assert packet["twamp.test.error_estimate.z"] in ("0", "False")
            assert int(packet["twamp.test.error_estimate.multiplier"]) > 0
        assert reply["twamp.test.seq_number"] == probe["twamp.test.seq_number"]
        assert reply["twamp.test.sender_seq_number"] == probe["twamp.test.seq_number"]
        assert reply["twamp.test.sender_timestamp"] == probe["twamp.test.timestamp"]
        assert reply["twamp.test.sender_error_estimate"] == probe["twamp.test.error_estimate"]
        assert reply["twamp.test.sender_ttl"] == "255"
        assert (
            probe["twamp.test.timestamp"] < reply["twamp.test.receive_timestamp"] < reply["twamp.test.timestamp"]
        )


@pytest.mark.netns
def test_a_dissector_that_knows_no_authenticated_mode_takes_nothing_of_it_for_broken(
    namespaces: Namespaces, tmp_path: Path
) -> None:
    left, right = namespaces.chain("left", "right")
    packets = conversation(
        left, right, tmp_path / "authenticated.pcap", ProbeFormat(key=StampKey(bytes(range(32))))
    )
    assert len(packets) == 2 * PROBES
    for packet in packets:
        assert packet["_ws.malformed"] == ""
        # It reads the layout of the other mode, where the must-be-zero octets are the time and its error.
        assert int(packet["twamp.test.error_estimate"], 0) == 0
        assert packet["udp.length"] == str(8 + 180)
