from __future__ import annotations

import pytest

from interceptor.memory_queue import MemoryPacket, MemoryQueue, Verdict
from interceptor.packet_queue import InterceptedPacket


def grow_or_drop(packet: InterceptedPacket) -> None:
    if packet.payload == b"bad":
        packet.drop()
    else:
        packet.accept_with(packet.payload + b"+")


def test_packets_leave_in_the_order_in_which_they_came() -> None:
    queue = MemoryQueue(grow_or_drop)
    for packet in (b"a", b"bad", b"c"):
        queue.put(packet)
    queue.process_pending()
    assert queue.take_verdicts() == (Verdict(b"a", b"a+"), Verdict(b"bad", None), Verdict(b"c", b"c+"))
    assert queue.take_verdicts() == ()
    assert (queue.handled, queue.failed) == (3, 0)


def test_nothing_leaves_before_the_queue_is_processed() -> None:
    queue = MemoryQueue(grow_or_drop)
    queue.put(b"a")
    assert queue.take_verdicts() == ()


def test_the_handler_sees_when_the_packet_arrived() -> None:
    seen = []

    def note(packet: InterceptedPacket) -> None:
        seen.append(packet.arrived_at_ns)
        packet.accept()

    queue = MemoryQueue(note)
    queue.put(b"a", arrived_at_ns=17)
    queue.put(b"b")
    queue.process_pending()
    assert seen == [17, None]


def test_a_full_queue_lets_the_excess_pass_unprocessed_and_first() -> None:
    queue = MemoryQueue(grow_or_drop, length=2)
    for packet in (b"a", b"b", b"c"):
        queue.put(packet)
    queue.process_pending()
    assert [verdict.forwarded for verdict in queue.take_verdicts()] == [b"c", b"a+", b"b+"]
    assert queue.handled == 2


def test_a_handler_that_fails_hurts_no_packet() -> None:
    def fail_once(packet: InterceptedPacket) -> None:
        if packet.payload == b"a":
            raise ZeroDivisionError
        packet.accept_with(b"changed")

    queue = MemoryQueue(fail_once)
    queue.put(b"a")
    queue.put(b"b")
    queue.process_pending()
    assert queue.take_verdicts() == (Verdict(b"a", b"a"), Verdict(b"b", b"changed"))
    assert queue.failed == 1


def test_an_interrupt_leaves_the_rest_waiting() -> None:
    def interrupted(packet: InterceptedPacket) -> None:
        if packet.payload == b"a":
            raise KeyboardInterrupt
        packet.accept()

    queue = MemoryQueue(interrupted)
    queue.put(b"a")
    queue.put(b"b")
    with pytest.raises(KeyboardInterrupt):
        queue.process_pending()
    assert queue.take_verdicts() == (Verdict(b"a", b"a"),)
    queue.process_pending()
    assert queue.take_verdicts() == (Verdict(b"b", b"b"),)


def test_a_packet_takes_one_verdict_only() -> None:
    packet = MemoryPacket(b"a", None)
    packet.accept()
    with pytest.raises(RuntimeError, match="already given"):
        packet.drop()
    assert packet.verdict == Verdict(b"a", b"a")


def test_what_the_shortcut_replaces_the_handler_never_sees() -> None:
    seen = []

    def note(packet: InterceptedPacket) -> None:
        seen.append(packet.payload)
        packet.accept()

    def shortcut(packet: bytes) -> bytes | None:
        if packet == b"bad":
            raise LookupError("no such segment")
        return b"replaced" if packet == b"usual" else None

    queue = MemoryQueue(note, shortcut=shortcut)
    for packet in (b"usual", b"other", b"bad"):
        queue.put(packet)
    queue.process_pending()
    assert [verdict.forwarded for verdict in queue.take_verdicts()] == [b"replaced", b"other", b"bad"]
    assert seen == [b"other", b"bad"]
    assert (queue.handled, queue.failed) == (3, 1)
