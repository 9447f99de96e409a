"""STAMP packets at a reflector and a sender that have begun to talk."""

from __future__ import annotations

import random
from collections import Counter

from prober.clock_state import ClockState
from prober.segment import Segment
from prober.stamp.authentication import StampKey, sole_key
from prober.stamp.datagram import Datagram
from prober.stamp.fault import ProbeFault
from prober.stamp.packet import AUTHENTICATED_BASE_BYTES, ReflectorPacket, SenderPacket
from prober.stamp.probe_format import ProbeFormat
from prober.stamp.reflector import Reflector
from prober.stamp.session import SenderSession
from prober.stamp.tlv import SenderFollowUp, sender_extension
from schemas.errors import ProbeError
from tests.fuzz.target import Target

NOW_NS = 1_700_000_000_000_000_000
MS = 1_000_000
KEY = StampKey(bytes(range(32)))
CLOCK = ClockState(synchronized=True, error_ms=1)
SOURCE = ("192.0.2.7", 5000)


class Pair:
    """A sender and a reflector that have begun to talk; what is fuzzed arrives in between."""

    def __init__(self, key: StampKey | None) -> None:
        self.key = key
        self.faults: Counter[ProbeFault] = Counter()
        self.inbound, self.outbound = Segment("192.0.2.7"), Segment("192.0.2.1")
        self.reflector = Reflector(lambda address: self.inbound, key_of=sole_key(key), faults=self.faults)
        self.sender = SenderSession(
            self.outbound,
            random_source=random.Random(1),
            now_ns=NOW_NS,
            probe_format=ProbeFormat(key=key, dscp=10),
            faults=self.faults,
        )
        self.probes: list[bytes] = []
        self.replies: list[bytes] = []
        for number in range(3):
            self.talk(NOW_NS + number * 100 * MS)

    def talk(self, at_ns: int) -> None:
        """One probe there, one reply back."""
        probe = self.sender.probe(at_ns, CLOCK)
        self.sender.transmitted(probe.sequence, at_ns)
        reply = self.reflector.probe_received(
            Datagram(probe.data, *SOURCE, 255, at_ns + MS), now_ns=at_ns + MS, clock=CLOCK
        )
        assert reply is not None
        self.reflector.transmitted(reply.source, reply.number, at_ns + MS)
        self.sender.reply(Datagram(reply.data, *SOURCE, 255, at_ns + 2 * MS))
        self.probes.append(probe.data)
        self.replies.append(reply.data)

    def feed(self, data: bytes, *, to_sender: bool, at_ns: int) -> None:
        """Hand over a packet; nothing but a ProbeError with the text of a ProbeFault may come of it."""
        try:
            if to_sender:
                self.sender.reply(Datagram(data, *SOURCE, data[-1] if data else 0, at_ns))
                return
            reply = self.reflector.probe_received(
                Datagram(data, *SOURCE, 7, at_ns, tos=data[-1] if data else 0), now_ns=at_ns, clock=CLOCK
            )
        except ProbeError as error:
            self.faults[ProbeFault(str(error))] += 1
            return
        if reply:
            assert len(reply.data) >= len(data)
            assert 0 <= reply.tos <= 0xFF
            ReflectorPacket.from_bytes(reply.data, self.key)


def resealed(data: bytes, key: StampKey) -> bytes:
    """The packet with the tag that it should have, so that what lies behind the check is reached."""
    protected = data[: AUTHENTICATED_BASE_BYTES - 16].ljust(AUTHENTICATED_BASE_BYTES - 16, b"\0")
    return protected + key.tag(protected) + data[AUTHENTICATED_BASE_BYTES:]


def one_input(data: bytes) -> None:
    """Interpret the octets as some packets: two of control, then what is laid over a genuine packet."""
    if len(data) < 2:
        return
    control, kept = data[0], data[1]
    key = KEY if control & 1 else None
    pair = Pair(key)
    to_sender = bool(control & 2)
    genuine = (pair.replies if to_sender else pair.probes)[-1 if control & 4 else 0]
    parts = data[2:].split(b"\xfe\xed")
    for number, part in enumerate(parts[:8]):
        packet = genuine[: kept % (len(genuine) + 1)] + part if control & 8 else part
        if control & 16:
            packet += genuine[len(packet) :]
        if key and control & 32:
            packet = resealed(packet, key)
        pair.feed(packet, to_sender=to_sender, at_ns=NOW_NS + (400 + number) * MS)
    for direction, segment in (("in", pair.inbound), ("out", pair.outbound)):
        told = segment.statistics(("delay", "loss", "jitter", "rtt"), now_ns=NOW_NS + 2_000 * MS, clock=CLOCK)
        assert all(values is not None for values in told.values()), direction
    pair.talk(NOW_NS + 1_000 * MS)


def seeds() -> list[bytes]:
    """Inputs worth mutating: every mode and direction, with the genuine packets and their TLVs."""
    pairs = [Pair(None), Pair(KEY)]
    packets = [packet for pair in pairs for packet in (pair.probes[0], pair.replies[0])]
    packets.append(sender_extension(SenderFollowUp(1, 2, 3, 4), sequence=1, key=KEY))
    packets.append(SenderPacket.from_bytes(pairs[0].probes[0]).to_bytes()[:14])
    kept = (0, 44, 112)
    return [
        bytes((control, kept[(control + number) % 3])) + packet
        for control in range(64)
        for number, packet in enumerate(packets)
    ]


TARGET = Target(one_input=one_input, seeds=seeds, words=(b"\xfe\xed",), max_bytes=3000)
