from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interceptor.checksum import internet_checksum, ones_complement_sum, updated_checksum


def sum_word_by_word(data: bytes) -> int:
    """RFC 1071, section 4.1, as it is written there."""
    total = sum(data[0::2]) * 256 + sum(data[1::2])
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def same_number(left: int, right: int) -> bool:
    """One's complement has two zeros."""
    return left % 0xFFFF == right % 0xFFFF


def test_the_example_of_rfc_1071_section_3() -> None:
    assert ones_complement_sum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2


@pytest.mark.parametrize(
    ("checksum", "removed", "added", "expected"),
    [
        (0xDD2F, 0x5555, 0x3285, 0x0000),  # RFC 1624, section 4: the case that equation 2 gets wrong
        (0x0000, 0x3285, 0x5555, 0xDD2F),
        (0x1234, 0x0000, 0x0000, 0x1234),
    ],
)
def test_the_update_gives_what_rfc_1624_gives(checksum: int, removed: int, added: int, expected: int) -> None:
    assert updated_checksum(checksum, removed=removed, added=added) == expected


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0", b"\0" * 7])
def test_only_zeros_sum_to_zero(data: bytes) -> None:
    assert ones_complement_sum(data) == 0
    assert internet_checksum(data) == 0xFFFF


@pytest.mark.parametrize("data", [b"\xff\xff", b"\xff\xff" * 3, b"\x80\x00\x7f\xff", b"\xff\x00\x00\xff"])
def test_words_that_sum_to_a_multiple_of_all_ones_have_checksum_zero(data: bytes) -> None:
    assert ones_complement_sum(data) == 0xFFFF
    assert internet_checksum(data) == 0


@given(st.binary(max_size=200))
def test_one_division_gives_the_sum_of_the_words(data: bytes) -> None:
    assert ones_complement_sum(data) == sum_word_by_word(data)


@given(st.binary(max_size=200))
def test_data_with_its_checksum_sum_to_all_ones(data: bytes) -> None:
    even = data + b"\0" * (len(data) & 1)
    assert ones_complement_sum(even + internet_checksum(data).to_bytes(2, "big")) == 0xFFFF


@given(
    st.binary(max_size=60).map(lambda data: data[: len(data) & ~1]), st.binary(max_size=60), st.binary(max_size=60)
)
def test_an_update_equals_the_checksum_from_scratch(kept: bytes, old: bytes, new: bytes) -> None:
    updated = updated_checksum(
        internet_checksum(kept + old), removed=ones_complement_sum(old), added=ones_complement_sum(new)
    )
    assert same_number(updated, internet_checksum(kept + new))


@given(st.binary(min_size=1, max_size=60).filter(any), st.binary(max_size=61), st.binary(max_size=61))
def test_an_update_never_confuses_the_two_zeros_while_something_else_is_in_the_sum(
    kept: bytes, old: bytes, new: bytes
) -> None:
    kept += b"\0" * (len(kept) & 1)
    updated = updated_checksum(
        internet_checksum(kept + old), removed=ones_complement_sum(old), added=ones_complement_sum(new)
    )
    assert updated == internet_checksum(kept + new)
