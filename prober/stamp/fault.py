"""What can be wrong with a packet that came to a STAMP port: the kinds by which such packets are counted."""

from __future__ import annotations

from enum import StrEnum


class ProbeFault(StrEnum):
    """The text of a `ProbeError`, and the name of its counter."""

    PROBE_TOO_SHORT = "probe-too-short"
    REPLY_TOO_SHORT = "reply-too-short"
    TOO_LONG = "packet-too-long"
    MULTIPLIER_ZERO = "error-multiplier-zero"
    """RFC 4656 section 4.1.2: such a packet counts as corrupt."""
    NOT_AUTHENTICATED = "not-authenticated"
    """There is a key, and the packet is too short to be authenticated."""
    AUTHENTICATED = "unexpectedly-authenticated"
    """There is no key, and the packet has the layout of the authenticated mode."""
    WRONG_TAG = "wrong-authentication"
    TLV_INTEGRITY = "tlv-integrity"
    """The TLVs are not those that the owner of the key wrote; the packet itself is used."""
    REPLAYED = "replayed"
    """An old packet again; only an authenticated one stays without an answer."""
    FAR_OFF = "timestamp-far-off"
    """A time that no clock in use tells; the packet gives no one-way delay."""
    FROM_REFLECTOR = "probe-from-reflector"
    """Two reflectors that take each other's replies for probes would answer each other for ever."""
    UNASKED_REPLY = "reply-to-no-probe"
    STRANGER = "reply-from-stranger"
    WRONG_SSID = "wrong-ssid"
    RATE_LIMITED = "rate-limited"
