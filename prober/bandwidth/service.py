"""Available bandwidth of the segment upstream neighbor -> this point, driven on an asyncio loop.

The point at the segment's end asks, measures and decides; the one at its beginning sends the streams. An object
here does both. The measuring itself is that of Pathload (`bandwidth_trend`, `bandwidth_search`).
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from prober.bandwidth.estimate import BandwidthEstimate, BandwidthOutcome
from prober.bandwidth.gate import StreamGate, StreamOrder
from prober.bandwidth.packet import StreamRefusal, StreamRequest, packet_from_bytes
from prober.bandwidth.search import End
from prober.bandwidth.settings import BANDWIDTH_PORT, BandwidthSettings
from prober.bandwidth.socket import BandwidthSocket, Datagram
from prober.timestamp import NS_PER_MS, NS_PER_S
from schemas.errors import ProbeError

DATAGRAMS_PER_WAKE_UP = 16
"""So that a flood leaves the loop to others in between."""


@dataclass(slots=True)
class _Measuring:
    estimate: BandwidthEstimate
    upstream: str
    changed: asyncio.Event


class BandwidthService:
    """Measures segments to this point, one at a time, and sends streams to neighbors that measure theirs.

    Args:
        address: own IPv4 address.
        port: port of this point and of its neighbors.
        settings: limits of both roles.
        is_neighbor: whether streams may be sent to an address.
        now_ns: wall clock (CLOCK_REALTIME).
    """

    def __init__(
        self,
        address: str,
        port: int = BANDWIDTH_PORT,
        *,
        settings: BandwidthSettings,
        is_neighbor: Callable[[str], bool],
        now_ns: Callable[[], int],
    ) -> None:
        self._address = address
        self._port = port
        self._settings = settings
        self._now_ns = now_ns
        self._gate = StreamGate(settings, is_neighbor=is_neighbor, secret=secrets.token_bytes(32))
        self._socket: BandwidthSocket | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._sending: asyncio.Future[int] | None = None
        self._stopping = False
        self._lock = asyncio.Lock()
        self._measuring: _Measuring | None = None
        self._counters: Counter[str] = Counter()

    def open(self) -> None:
        """Take the socket, in the network namespace of the calling thread.

        Raises:
            HostError: the port is in use, or the address is not one of this machine.
        """
        self._socket = BandwidthSocket(self._address, self._port, now_ns=self._now_ns)

    async def start(self) -> None:
        """Open the socket if `open` did not, and answer others until `close`.

        Raises:
            HostError: as `open`.
        """
        if self._socket is None:
            self.open()
        assert self._socket is not None
        self._stopping = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bandwidth")
        asyncio.get_running_loop().add_reader(self._socket, self._read, self._socket)

    async def close(self) -> None:
        """Stop at once, end a running estimate, and give the port back; may be called twice."""
        self._stopping = True
        if self._measuring:
            self._measuring.estimate.ended = self._measuring.estimate.ended or End.CLOSED
            self._measuring.changed.set()
        if self._socket:
            asyncio.get_running_loop().remove_reader(self._socket)
        if self._sending:
            await self._sending
        if self._thread:
            self._thread.shutdown()
            self._thread = None
        if self._socket:
            self._socket.close()
            self._socket = None

    async def measure(self, upstream: str) -> BandwidthOutcome:
        """Estimate the available bandwidth from a neighbor to this point; waits for an estimate under way.

        Returns:
            Always an outcome; `bound` and `end` say what it is worth. It takes `max_estimate_s` at most.
        """
        async with self._lock:
            now_ns = _loop_ns()
            estimate = BandwidthEstimate(self._settings, session=secrets.randbits(64), now_ns=now_ns)
            if self._socket is None or self._stopping:
                estimate.ended = End.CLOSED
            self._measuring = _Measuring(estimate, upstream, asyncio.Event())
            try:
                await self._run(self._measuring)
            finally:
                self._measuring = None
                self._counters.update(estimate.oddities)
                self._counters.update({f"stream-{verdict}": seen for verdict, seen in estimate.verdicts.items()})
            return estimate.outcome(upstream, _loop_ns(), self._now_ns() // NS_PER_MS)

    def counters(self) -> Mapping[str, int]:
        """Packets that were malformed or of no use, requests and their answers, streams by verdict; by kind."""
        total = Counter(self._counters)
        if self._socket and self._socket.unstamped:
            total["receive-stamp-missing"] += self._socket.unstamped
        return total

    async def _run(self, measuring: _Measuring) -> None:
        estimate = measuring.estimate
        while estimate.ended is None:
            request = estimate.due(_loop_ns())
            if request and self._socket:
                self._socket.send(request.to_bytes(), measuring.upstream, self._port)
            if estimate.ended is not None:
                return
            sleep_s = max(0, estimate.next_wakeup_ns() - _loop_ns()) / NS_PER_S
            measuring.changed.clear()
            try:
                async with asyncio.timeout(sleep_s):
                    await measuring.changed.wait()
            except TimeoutError:
                continue

    def _read(self, door: BandwidthSocket) -> None:
        for _ in range(DATAGRAMS_PER_WAKE_UP):
            datagram = door.receive()
            if datagram is None:
                return
            try:
                self._take(door, datagram)
            except ProbeError as error:
                self._counters[str(error)] += 1

    def _take(self, door: BandwidthSocket, datagram: Datagram) -> None:
        packet = packet_from_bytes(datagram.data)
        if isinstance(packet, StreamRequest):
            self._answer(door, packet, datagram.address, datagram.port)
            return
        measuring = self._measuring
        if measuring is None or (datagram.address, datagram.port) != (measuring.upstream, self._port):
            raise ProbeError("a bandwidth packet came from a point that is not measured")
        before = measuring.estimate.next_wakeup_ns()
        measuring.estimate.received(packet, datagram.received_at_ns, _loop_ns())
        if measuring.estimate.ended or measuring.estimate.next_wakeup_ns() != before:
            measuring.changed.set()

    def _answer(self, door: BandwidthSocket, request: StreamRequest, address: str, port: int) -> None:
        answer = self._gate.asked(request, address, port, _loop_ns())
        if isinstance(answer, StreamOrder):
            self._send_stream(door, answer)
        elif answer is None:
            self._counters["repeated-request"] += 1
        else:
            kind = f"refused-{answer.reason.name}" if isinstance(answer, StreamRefusal) else "challenges"
            self._counters[kind.lower().replace("_", "-")] += 1
            door.send(answer.to_bytes(), address, port)

    def _send_stream(self, door: BandwidthSocket, order: StreamOrder) -> None:
        assert self._thread is not None  # requests are read only while it runs
        loop = asyncio.get_running_loop()
        self._counters["streams-sent"] += 1
        self._counters["sent-octets"] += order.shape.total_bytes
        self._sending = loop.run_in_executor(self._thread, door.send_stream, order, lambda: self._stopping)
        self._sending.add_done_callback(lambda _: self._gate.ended())


def _loop_ns() -> int:
    """The loop's clock, which never steps."""
    return int(asyncio.get_running_loop().time() * NS_PER_S)
