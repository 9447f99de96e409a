"""The service's end of the bridge: starts the packet process, hears it, and starts it again when it fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

from mp import clock
from mp.bridge import MAX_EVENT_BYTES, Event, Failed, Heartbeat, Ready, Setup, event_from_bytes, event_to_bytes
from mp.child_process import ChildProcess, packet_process
from mp.interception import remove_rules
from mp.stall import STALL_MS, Silence
from schemas.errors import HostError, MessageError

logger = logging.getLogger(__name__)

START_LIMIT_S = 15.0
"""Forty points may start at once on a small machine; alone it takes a quarter of a second."""
HANG_LIMIT_MS = 5_000
"""The process speaks every second. One that is silent this long is ended, and the kernel forwards by itself."""
LOOK_S = 1.0
"""How often the service asks itself whether the process is silent, or whether it stood still itself."""
STOP_LIMIT_S = 1.0
RESTART_GAP_S = 0.5


class PacketLink:
    """Owns the packet process.

    Args:
        setup: gives the first event of each start, so that a restart knows the host as it is then.
        on_event: called with each event that is not about the process itself.
        begun: the first process, if it has begun already.
    """

    def __init__(
        self, setup: Callable[[], Setup], on_event: Callable[[Event], None], begun: ChildProcess | None = None
    ) -> None:
        self._setup = setup
        self._on_event = on_event
        self._begun = begun
        self._process: ChildProcess | None = None
        self._bridge: socket.socket | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._silence = Silence(STALL_MS)
        self.rules = ""
        """The back end by which the process put in the rule; empty when another process does that."""
        self.restarts = 0
        self.counters: dict[str, int] = {}

    @property
    def pid(self) -> int | None:
        """The packet process's id while it runs."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the process and wait until its rules and queue are in place.

        Raises:
            HostError: it could not begin; the text is its own.
        """
        await self._launch()
        self._supervisor = asyncio.create_task(self._supervise(), name="packet process supervisor")

    def send(self, event: Event) -> bool:
        """Tell the process something; False when it cannot listen now, so that it must be told again."""
        if self._bridge is None:
            return False
        try:
            self._bridge.send(event_to_bytes(event))
        except OSError as error:
            logger.debug("the packet process does not listen: %s", error.strerror)
            return False
        return True

    async def close(self) -> None:
        """End the process; it takes its rules away."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        if await self._end():
            await asyncio.to_thread(self._remove_rules)

    def _remove_rules(self) -> None:
        """A process that had to be killed could not take its rules away."""
        if not self.rules:
            return
        try:
            remove_rules(self.rules, self._setup())
        except HostError as error:
            logger.error("rules of the killed packet process stay: %s", error)

    async def _launch(self) -> None:
        try:
            await self._start_process()
        except (OSError, MessageError, TimeoutError, HostError) as error:
            await self._end()
            if isinstance(error, HostError):
                raise
            reason = str(error) or f"not ready within {START_LIMIT_S:g} s"
            raise HostError(f"packet process: {reason}") from error

    async def _start_process(self) -> None:
        process, self._begun = self._begun or packet_process(), None
        self._process = process
        self._bridge = ours = process.bridge
        ours.send(event_to_bytes(self._setup()))
        self.rules = await asyncio.wait_for(self._first_word(ours), START_LIMIT_S)
        self._silence.heard(clock.monotonic_ms())
        asyncio.get_running_loop().add_reader(ours.fileno(), self._listen)

    async def _first_word(self, bridge: socket.socket) -> str:
        data = await asyncio.get_running_loop().sock_recv(bridge, MAX_EVENT_BYTES)
        match event_from_bytes(data) if data else None:
            case Ready(rules=rules):
                return rules
            case Failed(text=text):
                raise HostError(text)
            case other:
                raise HostError(f"packet process: ended before it was ready (said {other})")

    def _listen(self) -> None:
        assert self._bridge is not None  # the reader is removed before the bridge goes
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while data := self._bridge.recv(MAX_EVENT_BYTES):
                self._silence.heard(clock.monotonic_ms())
                try:
                    event = event_from_bytes(data)
                except MessageError as error:
                    logger.error("%s", error)
                    continue
                if isinstance(event, Heartbeat):
                    self.counters = dict(event.counters)
                else:
                    self._on_event(event)
            # An end of file: nothing more will come, and a reader would be woken without end.
            asyncio.get_running_loop().remove_reader(self._bridge.fileno())

    async def _supervise(self) -> None:
        while True:
            await self._until_failed()
            logger.error("packet process %s failed; forwarding goes on without it until it is back", self.pid)
            await self._end()
            self.restarts += 1
            try:
                await asyncio.sleep(RESTART_GAP_S)
                await self._launch()
            except HostError as error:
                logger.error("packet process: %s", error)

    async def _until_failed(self) -> None:
        process = self._process
        while process is not None and process.returncode is None:
            patience_ms = HANG_LIMIT_MS - self._silence.look(clock.monotonic_ms())
            if patience_ms < 0:
                logger.error("packet process %d said nothing for %d ms", process.pid, HANG_LIMIT_MS)
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), min(LOOK_S, (patience_ms + 1) / 1000))

    async def _end(self) -> bool:
        """Says whether the process had to be killed."""
        if self._bridge is not None:
            asyncio.get_running_loop().remove_reader(self._bridge.fileno())
            self._bridge = None
        process, self._process = self._process, None
        return process is not None and await process.end(STOP_LIMIT_S)
