"""The daemon's end of the HTTP service: opens its sockets, starts the process when somebody comes, watches it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib.metadata import version

from mp import clock
from mp.child_process import ChildProcess
from mp.http.history import StoredHistory
from mp.http.listeners import close_listeners, local_policy, open_listeners
from mp.http.setup import (
    CONNECT,
    CONNECTION,
    FAILED,
    HISTORY,
    MAX_WORD_BYTES,
    NO_HISTORY,
    READY,
    TOKENS,
    HttpSetup,
    file_of,
    query_from_text,
)
from mp.http.token_file import read_token_text
from mp.privileges import user_entry
from mp.settings import Configuration
from mp.stall import STALL_MS, Silence
from schemas.errors import InpathError
from schemas.metrics import Registry

logger = logging.getLogger(__name__)

HANG_LIMIT_MS = 20_000
"""The process speaks every five seconds."""
STOP_LIMIT_S = 3.0
LOOK_S = 2.0
"""How soon a new token is known and a revoked one is not."""
FIRST_BACK_OFF_S = 0.5
MAX_BACK_OFF_S = 60.0
STEADY_MS = 60_000
"""A process that ran for so long began well: after it the back-off is the first one again."""
MAX_PAGES = 64
"""Of stored results that wait to be read: a process that asks for more at once is broken."""


class HttpLink:
    """Owns the HTTP process, which runs from the first client to come until nobody has asked for a while.

    Args:
        configuration: its tables `http`, `service`, `store`, `names` and `profiles` matter.
        registry: the metrics that the point knows.
    """

    def __init__(self, configuration: Configuration, registry: Registry) -> None:
        self._configuration = configuration
        self._settings = configuration.http
        self._registry = registry
        self._listeners: list[socket.socket] = []
        self._process: ChildProcess | None = None
        self._bridge: socket.socket | None = None
        self._silence = Silence(STALL_MS + round(LOOK_S * 1000))
        self._tokens = ""
        self._history = StoredHistory(configuration.store_url)
        self._pages: set[asyncio.Task[None]] = set()
        """Those that are being read, for whichever process asked."""
        self.restarts = 0
        """After failures; an idle process that ended itself is none."""

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        return None if self._process is None else self._process.pid

    async def start(self, stack: AsyncExitStack) -> None:
        """Open the sockets; all ends with `stack`.

        Raises:
            ConfigurationError: a user or group that this host does not have.
            HostError: a socket, the certificate or the token file cannot be had.
        """
        if not self._settings.is_enabled:
            return
        if os.geteuid() == 0:
            user_entry(self._settings.user)
        self._policy = local_policy(self._settings)
        self._tokens = self._token_text()
        self._listeners = open_listeners(self._settings)
        stack.callback(close_listeners, self._listeners)
        stack.callback(self._history.close)
        supervisor = asyncio.create_task(self._supervise(), name="http process supervisor")
        stack.push_async_callback(_cancelled, supervisor)

    async def _supervise(self) -> None:
        back_off_s = FIRST_BACK_OFF_S
        while True:
            await _readable(self._listeners)
            began_ms = clock.monotonic_ms()
            if await self._run_once():
                continue
            self.restarts += 1
            if clock.monotonic_ms() - began_ms > STEADY_MS:
                back_off_s = FIRST_BACK_OFF_S
            logger.error("http process ended; it is started again in %g s at the earliest", back_off_s)
            await asyncio.sleep(back_off_s)
            back_off_s = min(MAX_BACK_OFF_S, 2 * back_off_s)

    async def _run_once(self) -> bool:
        """One process from start to end; whether it ended of its own accord."""
        try:
            self._launch()
            return await self._until_ended() == 0
        except OSError as error:
            logger.error("http process: %s", error.strerror or error)
            return False
        finally:
            await self._end()

    def _launch(self) -> None:
        setup = file_of(self._setup())
        try:
            process = ChildProcess("mp.http.process", setup, *(listener.fileno() for listener in self._listeners))
        finally:
            os.close(setup)
        self._process, self._bridge = process, process.bridge
        self._silence.heard(clock.monotonic_ms())
        asyncio.get_running_loop().add_reader(process.bridge.fileno(), self._listen)

    def _setup(self) -> HttpSetup:
        configuration = self._configuration
        return HttpSetup(
            settings=self._settings,
            policy=self._policy,
            names=dict(configuration.names),
            registry=dict(self._registry),
            profiles=dict(configuration.profiles),
            tokens=self._tokens,
            version=version("inpath"),
            log_level=configuration.log.level,
            log_format=configuration.log.format,
        )

    async def _until_ended(self) -> int | None:
        """The exit code; None when it is silent for too long."""
        process = self._process
        assert process is not None  # it has just been started
        while self._silence.look(clock.monotonic_ms()) < HANG_LIMIT_MS:
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(process.wait(), LOOK_S)
            self._tell_tokens()
        logger.error("http process %d said nothing for %d ms", process.pid, HANG_LIMIT_MS)
        return None

    def _listen(self) -> None:
        assert self._bridge is not None  # the reader is removed before the bridge goes
        with contextlib.suppress(BlockingIOError):
            with contextlib.suppress(ConnectionError):
                while word := self._bridge.recv(MAX_WORD_BYTES):
                    self._silence.heard(clock.monotonic_ms())
                    self._take(word)
            # An end of file: nothing more will come, and a reader would be woken without end.
            asyncio.get_running_loop().remove_reader(self._bridge.fileno())

    def _take(self, word: bytes) -> None:
        if word == CONNECT:
            self._hand_connection()
        elif word.startswith(HISTORY):
            self._ask_history(word.removeprefix(HISTORY))
        elif word == READY:
            logger.info("http process %s serves on %s", self.pid, self._settings.socket)
        elif word.startswith(FAILED):
            logger.error("http process: %s", word.removeprefix(FAILED).decode(errors="replace"))

    def _hand_connection(self) -> None:
        """A connection to the service socket: the process has no right to open one."""
        assert self._bridge is not None  # the word came over it
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
            error_number = connection.connect_ex(str(self._configuration.service.socket))
            opened = [] if error_number else [connection.fileno()]
            with contextlib.suppress(OSError):  # it does not listen: whoever waits there has a time limit
                socket.send_fds(self._bridge, [CONNECTION], opened)

    def _ask_history(self, question: bytes) -> None:
        """A page of stored results: the process neither knows the database nor carries what opens it."""
        assert self._bridge is not None  # the word came over it
        number, _, query = question.partition(b" ")
        if len(self._pages) >= MAX_PAGES:
            _refuse_page(self._bridge, number, "history: too many pages are wanted at once")
            return
        reading = asyncio.create_task(self._hand_page(self._bridge, number, query), name="history")
        self._pages.add(reading)
        reading.add_done_callback(self._pages.discard)

    async def _hand_page(self, bridge: socket.socket, number: bytes, query: bytes) -> None:
        try:
            page = await self._history.page_file(query_from_text(query))
        except InpathError as error:
            _refuse_page(bridge, number, str(error))
            return
        with contextlib.suppress(OSError):  # it has ended
            socket.send_fds(bridge, [HISTORY + number], [page])
        os.close(page)

    def _token_text(self) -> str:
        return "" if self._settings.listen is None else read_token_text(self._settings.token_file)

    def _tell_tokens(self) -> None:
        """Hand the file's content on when it has changed."""
        try:
            text = self._token_text()
        except InpathError as error:
            logger.error("%s", error)
            return
        if text != self._tokens and self._bridge is not None:
            with contextlib.suppress(OSError):
                self._bridge.send(TOKENS + text.encode())
                self._tokens = text

    async def _end(self) -> None:
        if self._bridge is not None:
            self._listen()  # its last word may not have been read yet
            asyncio.get_running_loop().remove_reader(self._bridge.fileno())
            self._bridge = None
        process, self._process = self._process, None
        if process is not None:
            await process.end(STOP_LIMIT_S)


def _refuse_page(bridge: socket.socket, number: bytes, reason: str) -> None:
    with contextlib.suppress(OSError):  # it has ended
        bridge.send(NO_HISTORY + number + b" " + reason.encode()[: MAX_WORD_BYTES // 2])


async def _readable(listeners: Sequence[socket.socket]) -> None:
    """Return when a client waits at one of the sockets."""
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    for listener in listeners:
        loop.add_reader(listener.fileno(), came.set)
    try:
        await came.wait()
    finally:
        for listener in listeners:
            loop.remove_reader(listener.fileno())


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
