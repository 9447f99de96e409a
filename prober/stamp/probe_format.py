"""How the probes of a session look: mode, identifier, marking, size."""

from __future__ import annotations

from dataclasses import dataclass

from prober.stamp.authentication import StampKey
from prober.stamp.packet import MAX_PACKET_BYTES, base_bytes
from prober.stamp.tlv import TLV_HEAD_BYTES, ClassOfService, SenderFollowUp, padding_tlv, sender_extension
from schemas.errors import UsageError

MAX_DSCP = 63
MAX_SSID = 0xFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeFormat:
    """What all probes of a session have in common.

    Raises:
        UsageError: a value is out of range.
    """

    ssid: int = 0
    """Session identifier (RFC 8972 section 3); 0 in the sessions between neighboring measurement points."""
    key: StampKey | None = None
    """Authenticated mode, if given."""
    plain: bool = False
    """Never any TLV: for peers that are known to use none."""
    dscp: int | None = None
    """Marks the probes, and asks the reflector to mark its replies alike."""
    size_bytes: int | None = None
    """UDP payload of each probe; None for as small as possible."""

    def __post_init__(self) -> None:
        least = base_bytes(self.key)
        if not 0 <= self.ssid <= MAX_SSID:
            raise UsageError("ssid", self.ssid, f"0 to {MAX_SSID}")
        if self.dscp is not None and not 0 <= self.dscp <= MAX_DSCP:
            raise UsageError("dscp", self.dscp, f"0 to {MAX_DSCP}")
        if self.size_bytes is not None and not least <= self.size_bytes <= MAX_PACKET_BYTES:
            raise UsageError("size", self.size_bytes, f"{least} to {MAX_PACKET_BYTES} octets")

    @property
    def tos(self) -> int:
        """The octet of DSCP and ECN in the IP header."""
        return (self.dscp or 0) << 2

    @property
    def is_usual(self) -> bool:
        """Whether extended probes are those of `usual_packet`."""
        return not (self.ssid or self.plain) and self.dscp is None and self.size_bytes is None

    @property
    def has_extensions(self) -> bool:
        """Whether TLVs are wanted and fit."""
        return not self.plain and self._padding_bytes(self._tlvs(SenderFollowUp(), 0)) is not None

    def extension(self, sequence: int, told: SenderFollowUp, noise: bytes, interfaces: bytes = b"") -> bytes:
        """The octets after the base of an extended probe; only where `has_extensions`.

        Args:
            sequence: number of the probe.
            told: times of earlier probes.
            noise: what the padding repeats.
            interfaces: value of TLV 241, if it is told.
        """
        tlvs = self._tlvs(told, sequence, interfaces)
        size_bytes = self._padding_bytes(tlvs)
        return tlvs + padding_tlv(size_bytes, noise) if size_bytes else tlvs

    def plain_extension(self) -> bytes:
        """The octets after the base of a probe without TLVs: zeros up to the size, as TWAMP-Light senders pad."""
        return bytes((self.size_bytes or 0) - base_bytes(self.key)) if self.size_bytes else b""

    def _tlvs(self, told: SenderFollowUp, sequence: int, interfaces: bytes = b"") -> bytes:
        marking = None if self.dscp is None else ClassOfService(wanted_dscp=self.dscp)
        return sender_extension(
            told, interfaces=interfaces, class_of_service=marking, sequence=sequence, key=self.key
        )

    def _padding_bytes(self, tlvs: bytes) -> int | None:
        """Size of the Extra Padding TLV, which stands last as the HMAC TLV demands; None when there is no room."""
        if self.size_bytes is None:
            return 0
        left = self.size_bytes - base_bytes(self.key) - len(tlvs)
        return left if left == 0 or left >= TLV_HEAD_BYTES else None
