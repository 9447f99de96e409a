"""The service process: wires prober, requestor, receiver and store together, and owns the packet process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
from contextlib import AsyncExitStack
from ipaddress import IPv4Address
from typing import Any

from mp import clock
from mp.archive import Archive
from mp.bridge import Event, HostChanged, ReportReady, SegmentGone, SegmentKnown, Setup, UpstreamSeen
from mp.host import HostState, read_host_state, require_capabilities
from mp.logs import configure_logs
from mp.measurements import Measurements
from mp.packet_link import PacketLink
from mp.reporter import Reporter
from mp.settings import Configuration, PointSettings
from mp.status import status_document
from prober.clock_state import ClockState
from prober.prober import Prober
from prober.segment import Segment
from prober.udp import UdpProber
from receiver.server import ReportServer
from requestor.query import PathQuery
from requestor.sender import RequestSender
from requestor.service import Service
from schemas.errors import ConfigurationError, HostError, InpathError, UsageError
from schemas.metrics import METRICS
from schemas.result import PathResult

logger = logging.getLogger(__name__)

HOUSEKEEPING_S = 1.0
"""How often the packet process hears of the segments: the most that a record's age grows unseen."""

DATABASE_DELAY_MS = 30_000
"""Without a result to store, the database is looked for this late: that costs as much again as the rest of the
start, and many points may start at once."""


class Daemon:
    """One measurement point; a context in which everything that it starts is ended again.

    Args:
        configuration: checked; `point` is its `point`.
    """

    def __init__(self, configuration: Configuration, point: PointSettings) -> None:
        self.configuration = configuration
        self.point = point
        self.started_ms = clock.monotonic_ms()
        self.host = _own_host(point)
        self.archive = Archive(configuration.store_url, point.state_dir)
        self.link = PacketLink(self._setup, self._on_packet_event)
        self.reporter = Reporter(point.address, configuration.measurement.port)
        self.prober = Prober(
            point.address,
            random_source=random.Random(),  # times of probes are no secret
            clock=self.clock_state(),
            rate_per_s=configuration.probe.rate_per_s,
        )
        self.udp_prober = UdpProber(self.prober, port=configuration.probe.port, now_ns=clock.now_ns)
        self._told: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set.

        Raises:
            HostError: something that the point needs cannot be had.
        """
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.archive.close)
            self.archive.open()
            sender = RequestSender(self.point.address, self.configuration.measurement.port, self._on_unreachable)
            stack.callback(sender.close)
            self.measurements = Measurements(sender.send, self.archive.record)
            server = ReportServer(
                self.point.address, self.configuration.measurement.port, self.measurements.on_report
            )
            stack.push_async_callback(server.close)
            await server.start()
            stack.push_async_callback(self.udp_prober.close)
            await self.udp_prober.start()
            for neighbor in self.configuration.probe.neighbors:
                self.udp_prober.want(neighbor, configured=True)
            stack.push_async_callback(self.reporter.close)
            stack.push_async_callback(self.link.close)
            await self.link.start()
            service = Service(self._answer, self.configuration.service.allow)
            stack.push_async_callback(service.close)
            await self._listen(service)
            housekeeping = asyncio.create_task(self._keep_house(), name="housekeeping")
            stack.callback(housekeeping.cancel)
            logger.info("point %s at %s is ready", self.point.name, self.point.address)
            await _first(stop, housekeeping)
            logger.info("point %s stops", self.point.name)

    def clock_state(self) -> ClockState:
        """How far this host's clock is to be trusted now."""
        return clock.read_clock(self.configuration.clock_assumed_error_ms)

    def _setup(self) -> Setup:
        measurement = self.configuration.measurement
        self._told.clear()
        return Setup(
            address=self.point.address,
            own_addresses=self.host.addresses,
            serves=tuple(str(network) for network in self.point.serves),
            port=measurement.port,
            queue=measurement.queue,
            rate_per_s=measurement.rate_per_s,
            burst=measurement.burst,
            rules=measurement.rules,
            room=self.host.room,
            log_level=self.configuration.log.level,
            log_format=self.configuration.log.format,
        )

    async def _listen(self, service: Service) -> None:
        settings = self.configuration.service
        await service.listen_unix(settings.socket)
        if settings.listen is not None:
            await service.listen_tcp(settings.listen, settings.port)

    def _on_packet_event(self, event: Event) -> None:
        match event:
            case ReportReady(report=report):
                self.reporter.submit(report)
            case UpstreamSeen(upstream=upstream):
                try:
                    self.udp_prober.want(upstream)
                except UsageError as error:  # a forged message may name any address
                    logger.warning("segment not measured: %s", error)
            case _:
                logger.error("bridge: got %s, expected what the packet process sends", type(event).__name__)

    def _on_unreachable(self, destination: str, reason: str) -> None:
        self.measurements.on_unreachable(destination, reason)

    async def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        match question.get("ask"):
            case "path":
                return {"result": (await self._measure(question.get("query"))).to_json()}
            case "status":
                return {"status": self._status()}
            case other:
                raise UsageError("ask", other, "path or status")

    def _status(self) -> dict[str, Any]:
        return status_document(
            point=self.point,
            uptime_s=(clock.monotonic_ms() - self.started_ms) / 1000,
            host=self.host,
            clock_state=self.clock_state(),
            prober=self.udp_prober,
            link=self.link,
            measurements=self.measurements,
            reporter=self.reporter,
            archive=self.archive,
        )

    async def _measure(self, document: object) -> PathResult:
        query = PathQuery.from_json(document, self.configuration.names)
        if query.source not in (self.point.address, *self.host.addresses):
            raise UsageError("source", query.source, f"this point's address, {self.point.address}")
        if query.destination in (self.point.address, *self.host.addresses):
            raise UsageError("destination", query.destination, "an address of another host")
        if any(IPv4Address(query.destination) in network for network in self.point.serves):
            raise UsageError("destination", query.destination, "a host that this point does not serve itself")
        return await self.measurements.measure(query.starting_at(self.point.address))

    async def _keep_house(self) -> None:
        while True:
            try:
                self.prober.clock = self.clock_state()
                self._look_at_host()
                self._tell_segments()
                if self.archive.waiting or clock.monotonic_ms() - self.started_ms >= DATABASE_DELAY_MS:
                    self.archive.drain_soon()
            except InpathError as error:
                logger.error("%s", error)
            await asyncio.sleep(HOUSEKEEPING_S)

    def _look_at_host(self) -> None:
        host = read_host_state()
        if host != self.host:
            logger.info("host changed: addresses %s, smallest MTU %d", host.addresses, host.smallest_mtu_bytes)
            if self.link.send(HostChanged(own_addresses=host.addresses, room=host.room)):
                self.host = host

    def _tell_segments(self) -> None:
        now_ns = clock.now_ns()
        measured = {segment.peer: segment for segment in self.prober.measured(now_ns)}
        gone = {peer for peer in self._told - measured.keys() if self.link.send(SegmentGone(upstream=peer))}
        known = {peer for peer, segment in measured.items() if self.link.send(self._known(segment, now_ns))}
        self._told = (self._told | known) - gone

    def _known(self, segment: Segment, now_ns: int) -> SegmentKnown:
        assert segment.newest_sample_at_ns is not None  # a measured segment has samples
        return SegmentKnown(
            upstream=segment.peer,
            newest_sample_at_ms=segment.newest_sample_at_ns // 1_000_000,
            metrics=segment.statistics(METRICS, now_ns=now_ns, clock=self.prober.clock),
        )


def _own_host(point: PointSettings) -> HostState:
    host = read_host_state()
    if point.address not in host.addresses:
        raise ConfigurationError(
            "point.address", point.address, f"one of this host's: {', '.join(host.addresses)}"
        )
    return host


async def _first(stop: asyncio.Event, task: asyncio.Task[None]) -> None:
    """Return when `stop` is set; raise what ends `task` before."""
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((stopping, task), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if task.done():
        task.result()


async def _serve(configuration: Configuration, point: PointSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Daemon(configuration, point).run(stop)


def run_daemon(configuration: Configuration) -> None:
    """Run a measurement point in the foreground until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: the configuration does not fit this host.
        HostError: a capability, port or program is missing.
    """
    if configuration.point is None:
        raise ConfigurationError("point", None, "a table [point] with this point's address")
    configure_logs(configuration.log.level, configuration.log.format)
    require_capabilities(configuration.probe.port)
    try:
        configuration.point.state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(f"point.state_dir {configuration.point.state_dir}: {error.strerror}") from error
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(configuration, configuration.point))
