from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import MessageError
from schemas.framing import (
    ANSWER_KINDS,
    MAX_REASON_BYTES,
    MAX_REPORT_BYTES,
    REPORT_KINDS,
    Acknowledgement,
    Frame,
    FrameReader,
    Refusal,
    Report,
    frame_to_bytes,
)

EVERYTHING = REPORT_KINDS | ANSWER_KINDS
ordinals = st.integers(0, 0xFFFF)
reports = st.builds(Report, payload=st.binary(min_size=1, max_size=300), final=st.booleans())
acknowledgements = st.builds(
    Acknowledgement, id=st.binary(min_size=16, max_size=16).map(bytes.hex), copy=ordinals, part=ordinals
)
refusals = st.builds(Refusal, reason=st.text(st.characters(codec="utf-8"), max_size=MAX_REASON_BYTES // 4))
frames = st.one_of(reports, acknowledgements, refusals)


@given(frames)
def test_reading_reverses_writing(frame: Frame) -> None:
    assert list(FrameReader(EVERYTHING).receive(frame_to_bytes(frame))) == [frame]


@given(st.lists(frames, max_size=5), st.integers(1, 40))
def test_a_stream_in_pieces_of_any_size_gives_the_same_frames(sent: list[Frame], size: int) -> None:
    stream = b"".join(map(frame_to_bytes, sent))
    reader = FrameReader(EVERYTHING)
    received = [
        frame for start in range(0, len(stream), size) for frame in reader.receive(stream[start : start + size])
    ]
    reader.end()
    assert received == sent


@given(
    st.binary(max_size=100),
    st.sampled_from([b"", b"IPR1", b"IPR1\x01\0\0\0\0\0\0\x05", b"IPR1\x04\0\0\0\0\0\0\x02"]),
)
def test_any_bytes_give_frames_or_a_message_error(rest: bytes, start: bytes) -> None:
    reader = FrameReader(EVERYTHING)
    try:
        assert all(isinstance(frame, Frame) for frame in reader.receive(start + rest))
        reader.end()
    except MessageError as error:
        assert str(error).startswith("frame: ")


def test_the_layout_on_the_wire_is_as_documented() -> None:
    assert frame_to_bytes(
        Report(payload=b"<m/>", final=False)
    ).hex() == "49505231 01 000000 00000004 3c6d2f3e".replace(" ", "")
    acknowledgement = Acknowledgement(id="00112233445566778899aabbccddeeff", copy=2, part=258)
    assert frame_to_bytes(acknowledgement).hex() == (
        "49505231030000000000001400112233445566778899aabbccddeeff00020102"
    )


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        (b"GET / HTTP/1.1\r\n", "got magic b'GET ', expected b'IPR1'"),
        (b"G", "got magic b'G', expected b'IPR1'"),
        (b"IPR1\x05\0\0\0\0\0\0\x01", "got kind 5, expected 1 or 2"),
        (b"IPR1\x03\0\0\0\0\0\0\x14", "got kind 3, expected 1 or 2"),
        (b"IPR1\x01\0\x01\0\0\0\0\x01", "got reserved octets 000100, expected zeros"),
        (b"IPR1\x01\0\0\0\0\0\0\0", "got a body of 0 octets for kind 1, expected 1 to 65536"),
        (b"IPR1\x02\0\0\0\0\x01\0\x01", "got a body of 65537 octets for kind 2, expected 1 to 65536"),
    ],
)
def test_a_wrong_header_is_refused_before_its_body_comes(stream: bytes, text: str) -> None:
    with pytest.raises(MessageError) as caught:
        list(FrameReader(REPORT_KINDS).receive(stream))
    assert str(caught.value) == f"frame: {text}"


def test_frames_before_a_broken_one_are_given_first() -> None:
    good = Report(payload=b"x", final=True)
    frames_of_stream = FrameReader(REPORT_KINDS).receive(frame_to_bytes(good) + b"rubbish")
    assert next(frames_of_stream) == good
    with pytest.raises(MessageError):
        next(frames_of_stream)


def test_a_stream_that_ends_inside_a_frame_is_refused() -> None:
    reader = FrameReader(REPORT_KINDS)
    assert list(reader.receive(b"IPR1\x01\0")) == []
    with pytest.raises(MessageError, match="ends 6 octets into a frame"):
        reader.end()


def test_a_long_reason_is_cut_between_characters() -> None:
    (frame,) = FrameReader(ANSWER_KINDS).receive(frame_to_bytes(Refusal(reason="x" + "ä" * 150)))
    assert frame == Refusal(reason="x" + "ä" * 99)


def test_a_reason_that_is_no_text_is_refused() -> None:
    with pytest.raises(MessageError, match="not UTF-8"):
        list(FrameReader(ANSWER_KINDS).receive(b"IPR1\x04\0\0\0\0\0\0\x01\xff"))


def test_a_report_beyond_the_limit_is_not_written() -> None:
    with pytest.raises(MessageError, match="got a body of 65537 octets"):
        frame_to_bytes(Report(payload=bytes(MAX_REPORT_BYTES + 1), final=True))
