from __future__ import annotations

import pytest
from scapy.contrib.stamp import (
    ErrorEstimate as ScapyErrorEstimate,
)
from scapy.contrib.stamp import (
    STAMPSessionReflectorTestUnauthenticated,
    STAMPSessionSenderTestUnauthenticated,
    STAMPTestTLV,
)

from prober.clock_state import ClockState
from prober.stamp.datagram import Datagram
from prober.stamp.packet import ReflectorPacket, SenderPacket
from prober.stamp.probe_extension import ProbeExtension
from prober.stamp.reflector import Reflector
from prober.stamp.tlv import ClassOfService, SenderFollowUp, sender_extension
from prober.timestamp import ErrorEstimate, ntp_from_unix_ns

NOW_NS = 1_700_000_000_123_456_789
ONE_MS = ErrorEstimate.from_int(0x8F84)
U = 0x80
"""Bit 0 of RFC 8972 is the first one; the letter in scapy 2.8 stands for the last one."""
CLOCK = ClockState(synchronized=True, error_ms=1)


def scapy_probe(*tlvs: STAMPTestTLV) -> STAMPSessionSenderTestUnauthenticated:
    error = ScapyErrorEstimate(S=1, Z=0, scale=15, multiplier=0x84)
    return STAMPSessionSenderTestUnauthenticated(seq=7, ssid=9, err_estimate=error, tlv_objects=list(tlvs))


def test_scapy_reads_our_probes() -> None:
    extension = sender_extension(SenderFollowUp(1, 2, 3, 4), class_of_service=ClassOfService(wanted_dscp=46))
    ours = SenderPacket(7, ntp_from_unix_ns(NOW_NS), ONE_MS, 9, extension).to_bytes()
    read = STAMPSessionSenderTestUnauthenticated(ours)
    assert (read.seq, read.ssid, read.mbz) == (7, 9, 0)
    error = read.err_estimate
    assert (error.S, error.Z, error.scale, error.multiplier) == (1, 0, 15, 0x84)
    assert [(int(tlv.flags), tlv.type, tlv.len) for tlv in read.tlv_objects] == [
        (0x80, 7, 16),
        (0x80, 240, 24),
        (0x80, 4, 4),
    ]
    assert bytes(read) == ours


def test_we_read_probes_of_scapy() -> None:
    tlvs = [
        STAMPTestTLV(flags=U, type=1, len=5, value=b"noise"),
        STAMPTestTLV(flags=U, type=3, len=4, value=bytes(4)),
    ]
    packet = SenderPacket.from_bytes(bytes(scapy_probe(*tlvs)))
    assert (packet.sequence, packet.error, packet.ssid) == (7, ONE_MS, 9)
    assert len(packet.extension) == 9 + 8
    assert ProbeExtension(packet.extension).sender_follow_up() is None


def test_scapy_reads_our_replies_to_its_probes() -> None:
    tlvs = [
        STAMPTestTLV(flags=U, type=3, len=4, value=bytes(4)),
        STAMPTestTLV(flags=U, type=200, len=2, value=b"??"),
    ]
    probe = bytes(scapy_probe(*tlvs))
    reply = Reflector(lambda address: None).probe_received(
        Datagram(probe, "192.0.2.1", 5000, 250, NOW_NS), now_ns=NOW_NS, clock=CLOCK
    )
    assert reply is not None
    read = STAMPSessionReflectorTestUnauthenticated(reply.data)
    assert (read.seq, read.ssid, read.seq_sender, read.ttl_sender, read.mbz1, read.mbz2) == (0, 9, 7, 250, 0, 0)
    assert (read.err_estimate_sender.scale, read.err_estimate_sender.multiplier) == (15, 0x84)
    assert read.ts_rx == pytest.approx(ntp_from_unix_ns(NOW_NS) / 2**32, abs=1e-6)
    assert [(int(tlv.flags), tlv.type, tlv.value) for tlv in read.tlv_objects] == [
        (0, 3, bytes((1, 2, 1, 2))),
        (0x80, 200, b"??"),
    ]


def test_we_read_replies_of_scapy() -> None:
    error = ScapyErrorEstimate(S=1, Z=0, scale=15, multiplier=0x84)
    reply = STAMPSessionReflectorTestUnauthenticated(
        seq=3, ssid=9, err_estimate=error, seq_sender=7, err_estimate_sender=error, ttl_sender=254
    )
    packet = ReflectorPacket.from_bytes(bytes(reply))
    assert (packet.sequence, packet.sender_sequence, packet.sender_ttl, packet.ssid) == (3, 7, 254, 9)
    assert packet.error == packet.sender_error == ONE_MS
