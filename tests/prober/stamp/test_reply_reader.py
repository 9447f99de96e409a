from __future__ import annotations

from collections import Counter

from prober.interfaces.report import REPORT_OCTETS
from prober.stamp.authentication import StampKey
from prober.stamp.fault import ProbeFault
from prober.stamp.packet import ReflectorPacket
from prober.stamp.reply_reader import ReplyReader
from prober.stamp.session_tally import SessionTally
from prober.stamp.tlv import FollowUp, Tlv, TlvType
from prober.timestamp import ErrorEstimate

ERROR = ErrorEstimate.from_int(0x8F84)
REPORT = Tlv(0, TlvType.INTERFACE_REPORT, bytes(range(REPORT_OCTETS))).to_bytes()
FOLLOW_UP = Tlv(0, TlvType.FOLLOW_UP, FollowUp(3, 1 << 32).to_value()).to_bytes()


def reply(extension: bytes) -> ReflectorPacket:
    return ReflectorPacket(
        sequence=4,
        timestamp=0,
        error=ERROR,
        received=0,
        sender_sequence=4,
        sender_timestamp=0,
        sender_error=ERROR,
        sender_ttl=255,
        extension=extension,
    )


def test_what_a_reflector_tells_of_its_interfaces_holds_until_its_next_reply() -> None:
    reader = ReplyReader(None, Counter(), SessionTally())
    assert reader.follow_up(reply(FOLLOW_UP + REPORT)) == FollowUp(3, 1 << 32)
    assert reader.interfaces == REPORT[4:]
    assert reader.follow_up(reply(FOLLOW_UP)) == FollowUp(3, 1 << 32)
    assert reader.interfaces is None


def test_tlvs_that_are_void_tell_nothing_of_interfaces() -> None:
    faults: Counter[ProbeFault] = Counter()
    reader = ReplyReader(StampKey(bytes(32)), faults, SessionTally())
    assert reader.follow_up(reply(FOLLOW_UP + REPORT)) is None
    assert reader.interfaces is None
    assert faults == {ProbeFault.TLV_INTEGRITY: 1}
