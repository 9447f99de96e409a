"""Links in user space, for kernels without netem: one process carries the frames of all links of a lab.

    python -m lab.user_link --control SOCKET

The process owns a pair of TAPs per link and outlives the command that built the lab; `UserLinks` talks to it over
a Unix socket, one JSON document per message and one answer to each:

    {"do": "add", "link": ID, "a": ENDPOINT, "b": ENDPOINT, "a_to_b": IMPAIRMENT, "b_to_a": IMPAIRMENT}
    {"do": "set", "link": ID, "a_to_b": IMPAIRMENT, "b_to_a": IMPAIRMENT}
    {"do": "set_mtu", "link": ID, "mtu_octets": NUMBER}
    {"do": "counters"}    {"do": "stop"}

The answer is `{"error": TEXT}`, or an object without that key. Only the owner of the socket can connect.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import logging
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any

from lab.impairment import Impairment
from lab.link_direction import LinkDirection
from lab.topology import MAX_MTU_OCTETS, MIN_MTU_OCTETS
from lab.user_link_loop import Lane, LinkLoop
from lab.user_link_tap import Endpoint, TapPort
from schemas.errors import InpathError, LabError, UsageError

__all__ = ["Endpoint", "UserLinks"]

logger = logging.getLogger("lab.user_link")

WAKE_LATENCY_FILE = Path("/dev/cpu_dma_latency")
REAL_TIME_PRIORITY = 10
"""Above all ordinary work; below what the kernel and an administrator may run at 50 and more."""

MAX_MESSAGE_BYTES = 1024 * 1024
"""The counters of some 4,000 links."""

CLOSING_THREADS = 16

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 30.0
"""Making a TAP waits for a lock of the kernel that others hold for long when a lab is built or torn down."""

# sys/mman.h, linux/prctl.h
MCL_CURRENT_AND_FUTURE_ON_FAULT = 7
PR_SET_TIMERSLACK = 29

SO_SNDBUFFORCE = 32  # asm-generic/socket.h; Python has no name for it

_libc = ctypes.CDLL(None, use_errno=True)


class UserLinks:
    """A connection to the process that carries the links.

    It waits a few seconds for the process to listen. Every method raises `LabError` when the process refuses
    (unknown link or namespace, an interface that exists) or is gone.
    """

    def __init__(self, control: Path) -> None:
        self._control = control
        self._connection = self._connect()

    def add(self, link_id: str, a: Endpoint, b: Endpoint, a_to_b: Impairment, b_to_a: Impairment) -> None:
        """Create both TAPs and carry frames between them; the caller sets addresses and brings them up."""
        self._ask(
            {
                "do": "add",
                "link": link_id,
                "a": asdict(a),
                "b": asdict(b),
                "a_to_b": a_to_b.to_json(),
                "b_to_a": b_to_a.to_json(),
            }
        )

    def set(self, link_id: str, a_to_b: Impairment, b_to_a: Impairment) -> None:
        """Change a link for frames sent from now on; one direction that is not up takes the carrier of both."""
        document = {"do": "set", "link": link_id, "a_to_b": a_to_b.to_json(), "b_to_a": b_to_a.to_json()}
        self._ask(document)

    def set_mtu(self, link_id: str, mtu_octets: int) -> None:
        """Change the MTU of both interfaces, which is 1500 at first, and carry frames of that length."""
        self._ask({"do": "set_mtu", "link": link_id, "mtu_octets": mtu_octets})

    def counters(self) -> dict[str, dict[str, dict[str, int]]]:
        """By link and by direction ("a_to_b", "b_to_a"), the fields of `link_direction.Counters`."""
        answer: dict[str, dict[str, dict[str, int]]] = self._ask({"do": "counters"})["counters"]
        return answer

    def stop(self) -> None:
        """End the process, and with it all links; returns when the interfaces are gone."""
        self._ask({"do": "stop"})
        with suppress(OSError):  # a reset says the same as an orderly end
            self._connection.recv(1)
        self.close()

    def close(self) -> None:
        """Hang up; the process and its links stay."""
        self._connection.close()

    def _connect(self) -> socket.socket:
        give_up_at_s = time.monotonic() + CONNECT_TIMEOUT_S
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                connection.connect(os.fspath(self._control))
            except OSError as error:
                connection.close()
                if time.monotonic() > give_up_at_s:
                    raise LabError(f"no link process at {self._control}: {error}") from error
                time.sleep(0.02)
            else:
                connection.settimeout(ANSWER_TIMEOUT_S)
                return connection

    def _ask(self, document: Mapping[str, object]) -> dict[str, Any]:
        try:
            self._connection.send(json.dumps(document).encode())
            data = self._connection.recv(MAX_MESSAGE_BYTES)
        except OSError as error:
            raise LabError(f"the link process at {self._control} does not answer: {error}") from error
        if not data:
            raise LabError(f"the link process at {self._control} has ended")
        answer: dict[str, Any] = json.loads(data)
        if "error" in answer:
            raise LabError(str(answer["error"]))
        return answer


class Link:
    """Two ends and the lanes between them.

    Raises:
        LabError: an end cannot be made; then neither is.
    """

    def __init__(self, link_id: str, a: Endpoint, b: Endpoint) -> None:
        self._a = TapPort(a)
        try:
            self._b = TapPort(b)
        except LabError:
            self._a.close()
            raise
        # Seeded by name, so that a lab that is built again loses the same packets.
        self.a_to_b = Lane(self._a, LinkDirection(Impairment(), Random(f"{link_id} a to b")), self._b)
        self.b_to_a = Lane(self._b, LinkDirection(Impairment(), Random(f"{link_id} b to a")), self._a)

    def set(self, a_to_b: Impairment, b_to_a: Impairment) -> None:
        """Change both directions; a cable that is cut one way is cut."""
        up = a_to_b.up and b_to_a.up
        for port in (self._a, self._b):
            port.set_carrier(up=up)
        self.a_to_b.direction.set(replace(a_to_b, up=up))
        self.b_to_a.direction.set(replace(b_to_a, up=up))

    def set_mtu(self, octets: int) -> None:
        """Change the MTU of both interfaces.

        Raises:
            UsageError: it is beyond the bounds of a topology.
            LabError: an interface is gone.
        """
        if not MIN_MTU_OCTETS <= octets <= MAX_MTU_OCTETS:
            raise UsageError("mtu_octets", octets, f"a whole number from {MIN_MTU_OCTETS} to {MAX_MTU_OCTETS}")
        for port in (self._a, self._b):
            port.set_mtu(octets)

    def close(self) -> None:
        """Remove both interfaces."""
        self._a.close()
        self._b.close()


class LinkProcess:
    """The links by name, and the socket by which they are commanded."""

    def __init__(self, control: Path) -> None:
        self._control = control
        self._links: dict[str, Link] = {}
        self._loop = LinkLoop()
        self._connections: dict[int, socket.socket] = {}
        self._listener = _listen(control)
        self._loop.watch(self._listener.fileno(), self._on_connect)
        self._signal_read, self._signal_write = socket.socketpair()
        self._signal_write.setblocking(False)
        self._loop.watch(self._signal_read.fileno(), lambda: self._loop.stop())

    def run(self) -> None:
        """Serve until a command, SIGTERM or SIGINT says stop; then all interfaces vanish."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._signal_write.fileno())
        logger.info("serving %s", self._control)
        try:
            self._loop.run()
        finally:
            self._control.unlink(missing_ok=True)
            # The kernel waits some 30 ms for its readers at each end; the waits of several threads overlap.
            with ThreadPoolExecutor(CLOSING_THREADS) as threads:
                list(threads.map(Link.close, self._links.values()))
            for connection in self._connections.values():
                connection.close()
            logger.info("ended")

    def answer(self, data: bytes) -> dict[str, object]:
        """Obey one message; the answer to it."""
        try:
            return self._obey(json.loads(data))
        except (InpathError, ValueError, KeyError, TypeError, OSError) as error:
            return {"error": str(error) if isinstance(error, InpathError) else repr(error)}

    def _obey(self, command: dict[str, Any]) -> dict[str, object]:
        match command:
            case {"do": "add", "link": str(link_id), "a": a, "b": b, "a_to_b": a_to_b, "b_to_a": b_to_a}:
                ends = Endpoint(**a), Endpoint(**b)
                self._add(link_id, *ends, Impairment.from_json(a_to_b), Impairment.from_json(b_to_a))
            case {"do": "set", "link": str(link_id), "a_to_b": a_to_b, "b_to_a": b_to_a}:
                self._link(link_id).set(Impairment.from_json(a_to_b), Impairment.from_json(b_to_a))
                self._loop.review()
            case {"do": "set_mtu", "link": str(link_id), "mtu_octets": int(octets)}:
                self._link(link_id).set_mtu(octets)
            case {"do": "counters"}:
                return {"counters": {name: self._counters(link) for name, link in self._links.items()}}
            case {"do": "stop"}:
                self._loop.stop()
            case _:
                raise UsageError("do", command, "add, set, set_mtu, counters or stop with their fields")
        return {}

    def _add(self, link_id: str, a: Endpoint, b: Endpoint, a_to_b: Impairment, b_to_a: Impairment) -> None:
        if link_id in self._links:
            raise LabError(f"link {link_id!r} exists")
        link = Link(link_id, a, b)
        link.set(a_to_b, b_to_a)
        self._links[link_id] = link
        self._loop.carry(link.a_to_b)
        self._loop.carry(link.b_to_a)

    def _link(self, link_id: str) -> Link:
        if link_id not in self._links:
            raise LabError(f"no link {link_id!r}")
        return self._links[link_id]

    def _counters(self, link: Link) -> dict[str, dict[str, int]]:
        return {"a_to_b": link.a_to_b.counters(), "b_to_a": link.b_to_a.counters()}

    def _on_connect(self) -> None:
        connection, _ = self._listener.accept()
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 2 * MAX_MESSAGE_BYTES)
        fd = connection.fileno()
        self._connections[fd] = connection
        self._loop.watch(fd, lambda: self._on_message(fd))

    def _on_message(self, fd: int) -> None:
        connection = self._connections[fd]
        try:
            data = connection.recv(MAX_MESSAGE_BYTES)
            if data:
                connection.send(json.dumps(self.answer(data)).encode())
                return
        except OSError as error:  # never wait for a client that is gone or does not read
            logger.warning("a client was dropped: %s", error)
        self._loop.forget(fd)
        del self._connections[fd]
        connection.close()


def _listen(control: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    old_mask = os.umask(0o177)
    try:
        if control.is_socket() and listener.connect_ex(os.fspath(control)) != 0:
            control.unlink()  # left behind by a process that was killed
        listener.close()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(os.fspath(control))
        listener.listen()
    except OSError as error:
        listener.close()
        raise LabError(f"cannot listen at {control}: {error}") from error
    finally:
        os.umask(old_mask)
    return listener


def _become_real_time() -> None:
    """Ask for what keeps delays exact; what the machine refuses is logged, and the links work without."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(REAL_TIME_PRIORITY))
    except OSError as error:
        logger.warning("no SCHED_FIFO (%s): on a busy machine delays will be milliseconds too long", error)
        _libc.prctl(PR_SET_TIMERSLACK, 1)  # ordinary threads may be woken 50 us late by default
    if _libc.mlockall(MCL_CURRENT_AND_FUTURE_ON_FAULT) != 0:
        logger.warning("memory is not locked: %s", os.strerror(ctypes.get_errno()))
    gc.collect()
    gc.disable()  # a pause per collection, and the loop makes no cycles


@contextmanager
def _cores_awake() -> Iterator[None]:
    """Keep idle cores from sleeping: to wake one takes 0.1 ms on a virtual machine, which each link would add.

    The kernel takes the wish for as long as the file is open (its PM QoS interface).
    """
    try:
        file = WAKE_LATENCY_FILE.open("wb", buffering=0)
    except OSError as error:
        logger.warning("cores may sleep (%s): delays may be 0.1 ms too long", error)
        yield
        return
    with file:
        file.write(struct.pack("@i", 0))
        yield


def main(arguments: list[str] | None = None) -> int:
    """Run the process in the foreground; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lab.user_link", description="Carry emulated links.")
    parser.add_argument("--control", type=Path, required=True, help="the Unix socket to listen at")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    try:
        process = LinkProcess(options.control)
    except InpathError as error:
        logger.error("%s", error)
        return error.exit_code
    _become_real_time()
    with _cores_awake():
        process.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
