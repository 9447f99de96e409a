"""What C and Python read of the same datagrams is the same."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import pytest

from prober.stamp import stamped_socket
from prober.stamp.datagram import Datagram
from prober.stamp.stamped_socket import ANY_ADDRESS, StampedSocket, Trouble
from prober.stamp.udp_reflector import WARM_UP_S

HOST = "127.0.0.1"
WAYS = pytest.mark.parametrize("is_built", [True, False], ids=["C", "Python"])


def test_the_module_was_built() -> None:
    assert import_module("prober.stamp._stamped"), "install the project again, with a C compiler"


@contextmanager
def pair(local: str = HOST) -> Iterator[tuple[StampedSocket[str], StampedSocket[str]]]:
    one, other = (StampedSocket[str](address, 0, now_ns=time.time_ns) for address in (HOST, local))
    try:
        time.sleep(WARM_UP_S)
        yield one, other
    finally:
        one.close()
        other.close()


def received(opened: StampedSocket[str]) -> Datagram:
    select.select([opened], [], [], 5)
    datagram = opened.receive()
    assert datagram
    return datagram


@WAYS
@pytest.mark.parametrize("local", [HOST, ANY_ADDRESS])
@pytest.mark.parametrize("tos", [0, 0xB8])
@pytest.mark.parametrize("data", [b"", b"probe", bytes(range(256)) * 5], ids=["empty", "short", "long"])
def test_a_datagram_comes_with_its_times_and_marks(
    monkeypatch: pytest.MonkeyPatch, is_built: bool, local: str, tos: int, data: bytes
) -> None:
    if not is_built:
        monkeypatch.setattr(stamped_socket, "_stamped", None)
    with pair(local) as (one, other):
        before_ns = time.time_ns()
        assert one.send(data, HOST, other.port, "tag", tos=tos)
        datagram = received(other)
        ((tag, sent_at_ns),) = one.stamps()
        assert tag == "tag"
        assert before_ns <= sent_at_ns <= datagram.received_at_ns <= time.time_ns()
        assert datagram == Datagram(
            data, HOST, one.port, 255, datagram.received_at_ns, False, tos, None if local == HOST else HOST
        )
        assert other.receive() is None
        assert one.stamps(to_the_end=True) == []
        assert one.troubles == other.troubles == {}


@WAYS
def test_what_the_kernel_refuses_or_does_not_tell_is_counted(
    monkeypatch: pytest.MonkeyPatch, is_built: bool
) -> None:
    if not is_built:
        monkeypatch.setattr(stamped_socket, "_stamped", None)
    with pair() as (one, other):
        assert not one.send(b"too long" * 10_000, HOST, other.port, "lost")
        assert not one.send(b"nowhere", HOST, 0, "lost")
        assert one.send(b"right", HOST, other.port, "right")
        assert [tag for tag, _ in one.stamps()] == ["right"]
        assert one.troubles == {Trouble.SEND_FAILED: 2}
        received(other)
        other._socket.setsockopt(socket.SOL_SOCKET, 37, 0)
        other._socket.setsockopt(socket.IPPROTO_IP, 12, 0)
        one.send(b"bare", HOST, other.port, "bare")
        assert received(other).user_stamped
        assert other.troubles == {Trouble.RECEIVE_STAMP_MISSING: 1, Trouble.TTL_MISSING: 1}


@WAYS
def test_a_closed_socket_gives_and_takes_nothing(monkeypatch: pytest.MonkeyPatch, is_built: bool) -> None:
    if not is_built:
        monkeypatch.setattr(stamped_socket, "_stamped", None)
    with pair() as (one, other):
        port = other.port
        one.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM):  # has its number now
            assert one.receive() is None
            assert one.stamps(to_the_end=True) == []
            with pytest.raises(OSError, match="Bad file"):
                one.send(b"late", HOST, port, "late")
        assert other.receive() is None
