"""The Internet checksum: from scratch (RFC 1071) and after a change (RFC 1624)."""

from __future__ import annotations

ONES = 0xFFFF
"""Sixteen one bits. 2**16 leaves 1 when divided by it, so the sum of all words is a single division."""


def ones_complement_sum(data: bytes) -> int:
    """The one's complement sum of the 16-bit words of `data`, an odd last octet padded with zero.

    Args:
        data: octets in network order.

    Returns:
        0 only if every octet is zero (RFC 1071, section 2); otherwise 1 to 0xFFFF.
    """
    number = int.from_bytes(data, "big")
    if len(data) & 1:
        number <<= 8
    return number % ONES or (ONES if number else 0)


def internet_checksum(data: bytes) -> int:
    """The checksum field for `data`, whose own checksum field holds zero (RFC 1071, section 1)."""
    return ONES ^ ones_complement_sum(data)


def updated_checksum(checksum: int, *, removed: int, added: int) -> int:
    """The checksum after some words changed, by equation 3 of RFC 1624: HC' = ~(~HC + ~m + m').

    A corruption that happened before the change stays visible, since the unchanged words are never read.

    Args:
        checksum: the field as it was.
        removed: one's complement sum of the words that are replaced, 0 to 0xFFFF.
        added: one's complement sum of the words that replace them, 0 to 0xFFFF.
    """
    total = (ONES ^ checksum) + (ONES ^ removed) + added
    return ONES ^ (total % ONES or (ONES if total else 0))
