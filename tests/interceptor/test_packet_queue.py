from __future__ import annotations

import logging

import pytest

from interceptor.memory_queue import MemoryPacket, Verdict
from interceptor.packet_queue import LOG_INTERVAL_NS, HandlerGuard, InterceptedPacket, PacketHandler


class Clock:
    def __init__(self) -> None:
        self.now_ns = 5

    def __call__(self) -> int:
        return self.now_ns


def show(guard: HandlerGuard, payload: bytes = b"packet") -> Verdict | None:
    packet = MemoryPacket(payload, None)
    guard.show(packet)
    return packet.verdict


def failing(packet: InterceptedPacket) -> None:
    raise LookupError("no such segment")


def forgetful(packet: InterceptedPacket) -> None:
    assert packet.payload


def test_a_verdict_of_the_handler_stands() -> None:
    guard = HandlerGuard(lambda packet: packet.accept_with(packet.payload + b"!"), Clock())
    assert show(guard) == Verdict(b"packet", b"packet!")
    assert (guard.handled, guard.failed) == (1, 0)


@pytest.mark.parametrize("handler", [failing, forgetful])
def test_a_handler_that_fails_leaves_the_packet_unchanged_and_is_counted(
    handler: PacketHandler, caplog: pytest.LogCaptureFixture
) -> None:
    guard = HandlerGuard(handler, Clock())
    assert show(guard) == Verdict(b"packet", b"packet")
    assert (guard.handled, guard.failed) == (1, 1)
    assert "goes on unchanged" in caplog.text


def test_a_second_verdict_is_the_handlers_failure_and_the_first_one_stands() -> None:
    def undecided(packet: InterceptedPacket) -> None:
        packet.drop()
        packet.accept()

    guard = HandlerGuard(undecided, Clock())
    assert show(guard) == Verdict(b"packet", None)
    assert guard.failed == 1


def test_what_ends_the_process_passes_after_the_packet_went_on() -> None:
    def interrupted(packet: InterceptedPacket) -> None:
        raise KeyboardInterrupt

    packet = MemoryPacket(b"packet", None)
    with pytest.raises(KeyboardInterrupt):
        HandlerGuard(interrupted, Clock()).show(packet)
    assert packet.verdict == Verdict(b"packet", b"packet")


def test_failures_are_logged_once_a_second_but_counted_always(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    guard = HandlerGuard(failing, clock)
    with caplog.at_level(logging.ERROR):
        for now_ns in (5, 6, 5 + LOG_INTERVAL_NS - 1, 5 + LOG_INTERVAL_NS, 6 + LOG_INTERVAL_NS):
            clock.now_ns = now_ns
            show(guard)
    assert guard.failed == 5
    assert len(caplog.records) == 2
    assert "LookupError('no such segment')" in caplog.messages[0]
    assert "(4 so far)" in caplog.messages[1]
