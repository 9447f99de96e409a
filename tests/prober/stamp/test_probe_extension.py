from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.stamp.authentication import StampKey
from prober.stamp.probe_extension import Answers, ProbeExtension
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
)

KEY = StampKey(bytes(range(32)))
U, M, INTEGRITY = TlvFlag.UNRECOGNIZED, TlvFlag.MALFORMED, TlvFlag.INTEGRITY
TOLD = SenderFollowUp(1, 2, 3, 4)
NOTHING = Answers()


def joined(*parts: Tlv) -> bytes:
    return b"".join(part.to_bytes() for part in parts)


def answered(extension: bytes, answers: Answers = NOTHING) -> tuple[Tlv, ...]:
    parts, rest = tlvs_from_bytes(ProbeExtension(extension).answered(answers))
    assert rest == b""
    return parts


@given(st.binary(max_size=120), st.sampled_from([None, KEY]))
def test_a_reply_is_as_long_as_its_probe(extension: bytes, key: StampKey | None) -> None:
    read = ProbeExtension(extension, 1, key)
    assert len(read.answered(Answers(previous=FollowUp(9, 10)), 5)) == len(extension)


def test_a_reflector_fills_the_follow_up_in_and_echoes_the_senders() -> None:
    extension = sender_extension(TOLD)
    assert ProbeExtension(extension).sender_follow_up() == TOLD
    follow_up, echo = answered(extension, Answers(previous=FollowUp(9, 10)))
    assert (follow_up.flags, FollowUp.from_value(follow_up.value), follow_up.value[12]) == (0, FollowUp(9, 10), 2)
    assert (echo.flags, SenderFollowUp.from_value(echo.value)) == (0, TOLD)


def test_a_reflector_without_state_answers_a_follow_up_with_zeros() -> None:
    assert answered(Tlv(U, 7, b"\xff" * 16).to_bytes()) == (Tlv(0, 7, bytes(16)),)


@pytest.mark.parametrize("kind", [2, 5, 6, 8, 9, 199, 240, 251, 252, 255])
def test_what_is_not_known_comes_back_unrecognized(kind: int) -> None:
    value = b"abc" if kind != 240 else bytes(24)
    expected = Tlv(0 if kind == 240 else U, kind, value)
    if kind == 8:
        value, expected = bytes(16), Tlv(U, 8, bytes(16))
    assert answered(Tlv(U, kind, value).to_bytes()) == (expected,)


@pytest.mark.parametrize(("synchronized", "source"), [(True, 1), (False, 5)])
def test_timestamp_information_tells_source_and_method_of_both_times(*, synchronized: bool, source: int) -> None:
    (told,) = answered(Tlv(U, 3, bytes(4)).to_bytes(), Answers(synchronized=synchronized))
    assert told == Tlv(0, 3, bytes((source, 2, source, 2)))


@pytest.mark.parametrize(
    ("wanted", "refused", "marked"), [(46, False, 46), (0, False, 0), (48, True, 10), (56, True, 10)]
)
def test_a_class_of_service_tells_how_the_probe_arrived_and_marks_the_reply(
    wanted: int, marked: int, *, refused: bool
) -> None:
    extension = Tlv(U, 4, ClassOfService(wanted_dscp=wanted).to_value()).to_bytes()
    (told,) = answered(extension, Answers(arrived_tos=10 << 2 | 3))
    assert told.flags == 0
    assert ClassOfService.from_value(told.value) == ClassOfService(
        wanted_dscp=wanted, arrived_dscp=10, arrived_ecn=3, refused=refused
    )
    assert ProbeExtension(extension).reply_dscp(10) == marked


def test_without_a_class_of_service_a_reply_is_marked_as_its_probe() -> None:
    assert ProbeExtension(b"").reply_dscp(34) == 34
    assert ProbeExtension(sender_extension(TOLD)).reply_dscp(48) == 48


def test_after_a_malformed_tlv_the_rest_is_copied() -> None:
    padding, broken, behind = Tlv(U, 1, b"xyz"), Tlv(U, 7, b"short"), Tlv(U, 240, TOLD.to_value())
    assert answered(joined(padding, broken, behind)) == (Tlv(0, 1, b"xyz"), Tlv(M, 7, b"short"), behind)
    assert ProbeExtension(joined(padding, broken, behind)).sender_follow_up() is None


def test_a_length_that_leads_beyond_the_packet_is_malformed() -> None:
    cut = b"\x80\x07\x00\x10half"
    reply = ProbeExtension(padding_tlv(8, b"x") + cut).answered(NOTHING)
    assert reply == b"\x00\x01\x00\x04xxxx" + bytes((U | M,)) + cut[1:]
    for short in (b"\x80", b"\x80\x07\x00"):
        assert ProbeExtension(padding_tlv(8, b"x") + short).answered(NOTHING)[8:] == bytes((U | M,)) + short[1:]


@pytest.mark.parametrize("padding", [bytes(40), b"\x12\x34" * 20, b"abc", b"\x80\x00\x00\x00" * 8, b""])
def test_padding_of_a_sender_without_extensions_is_returned_unchanged(padding: bytes) -> None:
    for key in (None, KEY):
        read = ProbeExtension(padding, 1, key)
        assert read.answered(Answers(previous=FollowUp(1, 2)), 5) == padding
        assert read.sender_follow_up() is None
        assert read.intact


def test_sealed_tlvs_are_answered_and_sealed_with_the_number_of_the_reply() -> None:
    read = ProbeExtension(sender_extension(TOLD, sequence=9, key=KEY) + padding_tlv(30, b"x"), 9, KEY)
    assert read.intact
    assert read.sender_follow_up() == TOLD
    reply = read.answered(Answers(previous=FollowUp(4, 5)), 77)
    assert is_intact(reply, 77, KEY)
    assert [(part.flags, part.type) for part in tlvs_from_bytes(reply)[0]] == [(0, 7), (0, 240), (0, 8), (0, 1)]


@pytest.mark.parametrize(
    "extension",
    [
        sender_extension(TOLD),
        sender_extension(TOLD, sequence=8, key=KEY),
        sender_extension(TOLD, sequence=9, key=StampKey(bytes(16))),
        sender_extension(TOLD, sequence=9, key=KEY) + Tlv(U, 3, bytes(4)).to_bytes(),
    ],
    ids=["unsealed", "of another probe", "of another key", "with more behind the seal"],
)
def test_tlvs_in_doubt_are_copied_with_the_integrity_flag_and_not_used(extension: bytes) -> None:
    read = ProbeExtension(extension, 9, KEY)
    assert not read.intact
    assert read.sender_follow_up() is None
    parts = tlvs_from_bytes(read.answered(Answers(previous=FollowUp(4, 5)), 77))[0]
    assert parts == tuple(
        Tlv(part.flags | INTEGRITY, part.type, part.value) for part in tlvs_from_bytes(extension)[0]
    )


def test_a_malformed_tlv_inside_a_right_seal_stops_the_answers_and_the_reply_is_sealed_anew() -> None:
    body = joined(Tlv(U, 7, b"short"), Tlv(U, 3, bytes(4)))
    sealed = body + Tlv(U, 8, KEY.tag((9).to_bytes(4, "big") + body)).to_bytes()
    reply = ProbeExtension(sealed, 9, KEY).answered(NOTHING, 77)
    broken, copied, _ = tlvs_from_bytes(reply)[0]
    assert (broken.flags, copied) == (M, Tlv(U, TlvType.TIMESTAMP_INFORMATION, bytes(4)))
    assert is_intact(reply, 77, KEY)
