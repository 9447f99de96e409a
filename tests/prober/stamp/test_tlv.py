from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.stamp.authentication import StampKey
from prober.stamp.tlv import (
    ClassOfService,
    FollowUp,
    SenderFollowUp,
    Tlv,
    TlvFlag,
    TlvType,
    is_intact,
    padding_tlv,
    sender_extension,
    tlvs_from_bytes,
    usable_tlvs,
)

KEY = StampKey(bytes(range(32)))
TOLD = SenderFollowUp(1, 2, 3, 4)
u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
tlvs = st.lists(st.builds(Tlv, st.integers(0, 255), st.integers(0, 255), st.binary(max_size=20)), max_size=5)


def joined(*parts: Tlv) -> bytes:
    return b"".join(part.to_bytes() for part in parts)


@given(tlvs, st.binary(max_size=3))
def test_tlvs_survive_the_wire(parts: list[Tlv], rest: bytes) -> None:
    assert tlvs_from_bytes(joined(*parts) + rest) == (tuple(parts), rest)


@given(st.binary(max_size=200))
def test_nothing_of_an_extension_is_lost(data: bytes) -> None:
    parts, rest = tlvs_from_bytes(data)
    assert joined(*parts) + rest == data


@given(st.builds(FollowUp, u32, u64), st.builds(SenderFollowUp, u32, u64, u32, u64))
def test_follow_ups_survive_the_wire(follow_up: FollowUp, told: SenderFollowUp) -> None:
    assert FollowUp.from_value(follow_up.to_value()) == follow_up
    assert SenderFollowUp.from_value(told.to_value()) == told


@given(
    st.builds(
        ClassOfService,
        wanted_dscp=st.integers(0, 63),
        arrived_dscp=st.integers(0, 63),
        arrived_ecn=st.integers(0, 3),
        refused=st.booleans(),
    )
)
def test_a_class_of_service_survives_the_wire(marking: ClassOfService) -> None:
    assert ClassOfService.from_value(marking.to_value()) == marking


def test_a_class_of_service_is_the_bits_of_the_standard() -> None:
    marking = ClassOfService(wanted_dscp=0b101110, arrived_dscp=0b001010, arrived_ecn=0b10, refused=True)
    assert marking.to_value() == bytes((0b10111000, 0b10101001, 0, 0))


def test_a_sender_sets_u_on_each_of_its_tlvs() -> None:
    extension = sender_extension(TOLD, class_of_service=ClassOfService(wanted_dscp=46), sequence=9, key=KEY)
    parts, rest = tlvs_from_bytes(extension)
    assert [part.type for part in parts] == [7, 240, 4, 8]
    assert {part.flags for part in parts} == {TlvFlag.UNRECOGNIZED}
    assert rest == b""
    assert parts[0].value == bytes(16)


@pytest.mark.parametrize("size", [4, 5, 64, 68, 1000])
def test_padding_has_the_size_that_is_wanted(size: int) -> None:
    assert len(padding_tlv(size, b"noise")) == size
    (part,), rest = tlvs_from_bytes(padding_tlv(size, b"noise"))
    assert (part.type, rest) == (TlvType.EXTRA_PADDING, b"")


def test_the_hmac_tlv_covers_the_number_and_all_tlvs_before_it() -> None:
    sealed = sender_extension(TOLD, sequence=9, key=KEY)
    body = sender_extension(TOLD)
    assert sealed == body + Tlv(0x80, 8, KEY.tag((9).to_bytes(4, "big") + body)).to_bytes()
    assert is_intact(sealed, 9, KEY)
    assert not is_intact(sealed, 10, KEY)
    assert not is_intact(sealed, 9, StampKey(bytes(16)))


@given(st.integers(0, 8 * len(sender_extension(TOLD, sequence=9, key=KEY)) - 1))
def test_no_bit_of_sealed_tlvs_can_be_changed_but_the_head_of_the_seal(bit: int) -> None:
    sealed = bytearray(sender_extension(TOLD, sequence=9, key=KEY))
    sealed[bit // 8] ^= 1 << bit % 8
    flags_of_seal = len(sender_extension(TOLD))
    assert is_intact(bytes(sealed), 9, KEY) == (bit // 8 == flags_of_seal)


def test_only_padding_may_stand_behind_the_seal_and_nothing_unsealed_but_one_padding_alone() -> None:
    sealed, padding, other = (
        sender_extension(TOLD, sequence=9, key=KEY),
        padding_tlv(20, b"x"),
        Tlv(0x80, 7, bytes(16)),
    )
    assert is_intact(b"", 9, KEY)
    assert is_intact(padding, 9, KEY)
    assert is_intact(sealed + padding + padding, 9, KEY)
    assert not is_intact(padding + padding, 9, KEY)
    assert not is_intact(sealed + other.to_bytes(), 9, KEY)
    assert not is_intact(sealed + sealed, 9, KEY)
    assert not is_intact(sealed + b"\0", 9, KEY)
    assert not is_intact(sender_extension(TOLD), 9, KEY)


def test_a_sender_uses_what_was_recognized_up_to_what_is_malformed() -> None:
    known, unknown = Tlv(0, 7, bytes(16)), Tlv(TlvFlag.UNRECOGNIZED, 240, bytes(24))
    broken = Tlv(TlvFlag.MALFORMED, 4, bytes(4))
    assert usable_tlvs(joined(unknown, known), 0, None) == (known,)
    assert usable_tlvs(joined(known, broken, known), 0, None) == (known,)
    assert usable_tlvs(joined(known, Tlv(0, 7, bytes(15)), known), 0, None) == (known,)
    assert usable_tlvs(b"", 0, None) == ()


def test_an_integrity_flag_voids_all_tlvs() -> None:
    assert usable_tlvs(joined(Tlv(0, 7, bytes(16)), Tlv(TlvFlag.INTEGRITY, 1, b"")), 0, None) is None


def test_with_a_key_unsealed_tlvs_of_a_reply_are_void() -> None:
    answered = joined(Tlv(0, 7, bytes(16)))
    seal = Tlv(0, 8, KEY.tag((5).to_bytes(4, "big") + answered)).to_bytes()
    assert usable_tlvs(answered, 5, KEY) is None
    assert usable_tlvs(answered + seal, 6, KEY) is None
    told = usable_tlvs(answered + seal, 5, KEY)
    assert told is not None and [part.type for part in told] == [7, 8]
