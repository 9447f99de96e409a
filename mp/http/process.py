"""The HTTP process: a client of the point's service that needs no privilege; see `setup.py`.

It ends when the daemon is gone, on SIGTERM, and when nobody has asked anything for a while: the daemon starts it
again at the next connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import encodings.idna  # noqa: F401  # names are resolved after the rights to read files may be gone
import gc
import itertools
import logging
import os
import signal
import socket
import sys
from collections import deque

import anyio
import uvicorn
from starlette.types import ASGIApp

from mp import clock
from mp.http.settings import HttpSettings
from mp.http.setup import (
    BEAT,
    BEAT_S,
    CONNECT,
    CONNECTION,
    FAILED,
    HISTORY,
    MAX_WORD_BYTES,
    NO_HISTORY,
    READY,
    TOKENS,
    HttpSetup,
    from_file,
    query_to_text,
)
from mp.logs import configure_logs
from mp.priority import stand_back
from mp.privileges import confine_http_process
from requestor.dialogue import MAX_LINE_BYTES
from requestor.http.app import application
from requestor.http.callers import Doorkeeper
from requestor.http.connection import BoundedProtocol
from requestor.http.desk import Desk
from requestor.http.history import HistoryPage, HistoryQuery
from requestor.http.limits import RateLimit
from requestor.http.point import Point, Stream
from requestor.http.tokens import tokens_from_text
from schemas.errors import HostError, InpathError, StoreError, UsageError

logger = logging.getLogger(__name__)

IDLE_LIMIT_S = 900.0
"""Longer than a measurement is kept to be fetched."""
KEEP_ALIVE_S = 15
STOP_LIMIT_S = 1
PAGE_LIMIT_S = 60.0
"""More than the statements take that a database which hangs is given, for all that may wait in front."""
MAX_HEAD_BYTES = 16_384
BACKLOG = 128


class DaemonBridge:
    """The process's end of the socket to the daemon.

    Args:
        bridge: SOCK_SEQPACKET, non-blocking.
        doorkeeper: gets new tokens.
    """

    def __init__(self, bridge: socket.socket, doorkeeper: Doorkeeper) -> None:
        self._bridge = bridge
        self._doorkeeper = doorkeeper
        self._waiting: deque[asyncio.Future[socket.socket]] = deque()
        self._pages: dict[int, asyncio.Future[HistoryPage]] = {}
        self._numbers = itertools.count()
        self.daemon_gone = asyncio.Event()

    def say(self, word: bytes) -> None:
        """Tell the daemon something."""
        try:
            self._bridge.send(word)
        except BlockingIOError:
            logger.debug("the daemon does not listen now")
        except OSError:
            self.daemon_gone.set()

    async def connect(self) -> Stream:
        """A connection to the point's service; one is as good as another, whoever asked for it.

        Raises:
            HostError: the daemon has none.
        """
        future: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self.say(CONNECT)
        return await asyncio.open_unix_connection(sock=await future, limit=MAX_LINE_BYTES)

    async def page(self, query: HistoryQuery) -> HistoryPage:
        """Stored results, which the daemon reads.

        Raises:
            StoreError: the database is away or refuses.
        """
        number = next(self._numbers)
        future = self._pages[number] = asyncio.get_running_loop().create_future()
        try:
            self.say(b"%b%d %b" % (HISTORY, number, query_to_text(query)))
            return await asyncio.wait_for(future, PAGE_LIMIT_S)
        except TimeoutError:
            raise StoreError(f"result store: nothing was read within {PAGE_LIMIT_S:g} s") from None
        finally:
            del self._pages[number]

    def listen(self) -> None:
        """Take in what the daemon says, without waiting."""
        with contextlib.suppress(BlockingIOError):
            try:
                while True:
                    word, descriptors, _, _ = socket.recv_fds(self._bridge, MAX_WORD_BYTES, 1)
                    if not word:
                        break
                    self._take(word, descriptors)
            except ConnectionError:
                logger.debug("the daemon went away")
            asyncio.get_running_loop().remove_reader(self._bridge.fileno())
            self.daemon_gone.set()

    def _take(self, word: bytes, descriptors: list[int]) -> None:
        if word == CONNECTION:
            self._hand_out([socket.socket(fileno=descriptor) for descriptor in descriptors])
        elif word.startswith(HISTORY):
            (file,) = descriptors
            self._hand_page(word.removeprefix(HISTORY), from_file(file, HistoryPage))
        elif word.startswith(NO_HISTORY):
            number, _, reason = word.removeprefix(NO_HISTORY).partition(b" ")
            self._hand_page(number, StoreError(reason.decode(errors="replace")))
        elif word.startswith(TOKENS):
            try:
                self._doorkeeper.tokens = tokens_from_text(word.removeprefix(TOKENS).decode())
            except (UsageError, UnicodeDecodeError) as error:
                logger.error("tokens stay as they were: %s", error)

    def _hand_page(self, number: bytes, page: HistoryPage | StoreError) -> None:
        future = self._pages.get(int(number))
        if future is None or future.done():  # whoever asked went away
            return
        if isinstance(page, StoreError):
            future.set_exception(page)
        else:
            future.set_result(page)

    def _hand_out(self, opened: list[socket.socket]) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if future.done():  # whoever asked went away
                continue
            if opened:
                opened[0].setblocking(False)
                future.set_result(opened[0])
            else:
                future.set_exception(HostError("point: its service takes no connection now"))
            return
        for one in opened:
            one.close()


class HttpServer:
    """uvicorn on an open socket, without its clock: nothing wakes an idle process ten times a second.

    Args:
        config: loaded.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        self._config = config
        self._server = uvicorn.Server(config)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._server.server_state.connections)

    @property
    def requests(self) -> int:
        """How many were answered."""
        return self._server.server_state.total_requests

    async def start(self, listener: socket.socket) -> None:
        """Begin to accept."""
        self._server.lifespan = self._config.lifespan_class(self._config)
        await self._server.startup(sockets=[listener])

    async def close(self) -> None:
        """Stop accepting; what is under way has STOP_LIMIT_S."""
        await self._server.shutdown()


def server_config(settings: HttpSettings, app: ASGIApp, listener: socket.socket) -> uvicorn.Config:
    """The server's configuration, with its certificate read.

    Raises:
        HostError: certificate or key cannot be read or do not belong together.
    """
    is_local = listener.family == socket.AF_UNIX
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_LIMIT_S,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        ssl_certfile=None if is_local else settings.certificate,
        ssl_keyfile=None if is_local else settings.key,
    )
    try:
        config.load()
    except OSError as error:  # also what the TLS library says
        raise HostError(f"http.certificate {settings.certificate}: {error.strerror or error}") from error
    return config


async def _serve(
    bridge: DaemonBridge, opened: socket.socket, desk: Desk, servers: list[tuple[HttpServer, socket.socket]]
) -> None:
    """Until SIGTERM, until the daemon is gone, or until nobody asks any more."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, bridge.daemon_gone.set)
    loop.add_reader(opened.fileno(), bridge.listen)
    for server, listener in servers:
        await server.start(listener)
    gc.freeze()  # what is alive now stays: no need to look at it again at each collection
    bridge.say(READY)
    used_at_s, answered = loop.time(), 0
    while not bridge.daemon_gone.is_set() and loop.time() - used_at_s < IDLE_LIMIT_S:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(bridge.daemon_gone.wait(), BEAT_S)
        bridge.say(BEAT)
        total = sum(server.requests for server, _ in servers)
        if total != answered or any(server.connections for server, _ in servers):
            used_at_s, answered = loop.time(), total
    await asyncio.gather(*(server.close() for server, _ in servers))
    await desk.close()


def _prepare(setup: HttpSetup, opened: socket.socket, listeners: list[socket.socket]) -> None:
    """All that needs a right to read, then no more rights, then serve."""
    doorkeeper = Doorkeeper(setup.policy, tokens_from_text(setup.tokens))
    bridge = DaemonBridge(opened, doorkeeper)
    desk = Desk(
        point=Point(bridge.connect),
        history=bridge,
        names=setup.names,
        registry=setup.registry,
        profiles=setup.profiles,
        rate=RateLimit(setup.settings.rate_per_s, setup.settings.burst),
        now_ms=clock.now_ms,
    )
    app = application(desk, doorkeeper, version=setup.version)
    servers = [(HttpServer(server_config(setup.settings, app, listener)), listener) for listener in listeners]
    anyio.run(anyio.sleep, 0)  # else it loads the most of itself with the first question
    confine_http_process(setup.settings.user)
    asyncio.run(_serve(bridge, opened, desk, servers))


def main() -> None:
    """Run on inherited descriptors, whose numbers are the arguments: bridge, setup, listeners."""
    opened, *listeners = (socket.socket(fileno=int(number)) for number in (sys.argv[1], *sys.argv[3:]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C goes to the daemon, which ends us
    os.umask(0o077)
    stand_back()
    opened.setblocking(False)
    setup = from_file(int(sys.argv[2]), HttpSetup)
    configure_logs(setup.log_level, setup.log_format)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # what strangers send is no event of ours
    try:
        _prepare(setup, opened, listeners)
    except InpathError as error:
        with contextlib.suppress(OSError):
            opened.send(FAILED + str(error).encode()[: MAX_WORD_BYTES // 2])
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
