"""What the TLVs of replies tell a Session-Sender."""

from __future__ import annotations

from collections import Counter

from prober.stamp.authentication import StampKey
from prober.stamp.fault import ProbeFault
from prober.stamp.packet import ReflectorPacket
from prober.stamp.session_tally import SessionTally
from prober.stamp.tlv import ClassOfService, FollowUp, TlvType, usable_tlvs

ZERO_FOLLOW_UPS = 8
"""So many in a row, and the reflector will never tell when its replies left."""


class ReplyReader:
    """Reads the replies to extended probes of one session.

    Args:
        key: of the session, None in unauthenticated mode.
        faults: where replies are counted whose TLVs are void.
        tally: told what the follow-ups show of the reflector.
    """

    def __init__(self, key: StampKey | None, faults: Counter[ProbeFault], tally: SessionTally) -> None:
        self._key = key
        self._faults = faults
        self._tally = tally
        self._zeros = 0
        self.marking: ClassOfService | None = None
        """What the reflector last said of the marks."""
        self.interfaces: bytes | None = None
        """What it told of its interfaces in its newest reply to an extended probe: the value of TLV 241."""

    @property
    def tells_nothing(self) -> bool:
        """The reflector answers the Follow-Up TLV with zeros for ever, as a stateless one must."""
        return self._zeros > ZERO_FOLLOW_UPS

    def follow_up(self, packet: ReflectorPacket) -> FollowUp | None:
        """What the reflector tells of its previous reply; None from one that does not know the TLV."""
        self.interfaces = None  # a reflector that tells no more knows no more
        tlvs = usable_tlvs(packet.extension, packet.sequence, self._key)
        if tlvs is None:
            self._faults[ProbeFault.TLV_INTEGRITY] += 1
            return None
        follow_up = interfaces = None
        for tlv in tlvs:
            if tlv.type == TlvType.FOLLOW_UP:
                follow_up = FollowUp.from_value(tlv.value)
            elif tlv.type == TlvType.CLASS_OF_SERVICE:
                self.marking = ClassOfService.from_value(tlv.value)
            elif tlv.type == TlvType.INTERFACE_REPORT:
                interfaces = tlv.value
        self.take(follow_up, interfaces)
        return follow_up

    def take(self, follow_up: FollowUp | None, interfaces: bytes | None) -> None:
        """Take in what was read of one reply."""
        self.interfaces = interfaces
        if follow_up is None:
            return
        self._zeros = 0 if follow_up.transmitted else self._zeros + 1
        if follow_up.transmitted or self.tells_nothing:
            self._tally.followed_up(told=bool(follow_up.transmitted))
