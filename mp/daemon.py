"""The service process: wires prober, requestor, receiver and store together, and owns the packet process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from mp import clock
from mp.answers import Answers
from mp.archive import Archive
from mp.bridge import (
    CredentialsChanged,
    Event,
    HostChanged,
    PathAsked,
    RelayReady,
    ReportReady,
    SegmentGone,
    SegmentKnown,
    Setup,
    UpstreamSeen,
)
from mp.child_process import ChildProcess
from mp.greeter import Greeter
from mp.host import HostState, read_host_state
from mp.http.link import HttpLink
from mp.keys.credentials import Credentials
from mp.keys.probe_keys import ProbeKeys
from mp.knowledge.far_paths import FarPaths
from mp.measurements import Measurements
from mp.packet_links import PacketLinks
from mp.plugins import plugins_of
from mp.privileges import settle_service
from mp.reporter import Reporter
from mp.reports.tls import report_contexts
from mp.segments import USUAL_PATH_BYTES, Known, Segments, Told
from mp.service_manager import ServiceManager
from mp.settings import Configuration, PointSettings
from mp.stall import STALL_MS, StallWatch
from mp.status import status_document
from mp.verification import Verification
from prober.discovery import Discovery
from prober.stamp.authentication import StampKey
from processor.decision import Report
from receiver.server import ReportServer
from requestor.query import PathQuery, way_back
from requestor.sender import RequestSender
from requestor.service import Service
from schemas.authentication import signed_request
from schemas.errors import ConfigurationError, HostError, InpathError, UsageError
from schemas.message import Carrier, MeasureRequest, Message
from schemas.metrics import registry_with
from schemas.payload import message_from_payload
from schemas.xml_writer import message_to_xml

logger = logging.getLogger(__name__)

HOUSEKEEPING_S = 1.0
"""How often the packet process hears of the segments that are asked for; of the others, at every third turn."""

COLLECTION_THRESHOLDS = (50_000, 10, 10)
"""Of the garbage collector: probes leave no cycles behind, and looking for some costs as much as probing."""

LEAST_MTU_BYTES = 576
"""What every host must take (RFC 1122 section 3.3.2): a neighbor behind a narrower path is no reason to cut all
messages into crumbs."""

DATABASE_DELAY_MS = 30_000
"""Without a result to store, the database is looked for this late: that costs as much again as the rest of the
start, and many points may start at once."""


class Daemon:
    """One measurement point; a context in which everything that it starts is ended again.

    Args:
        configuration: checked; `point` is its `point`.
        manager: told when all is in place.
        begun: packet processes that have begun already; the others are started.

    Raises:
        ConfigurationError: the configuration does not fit this host, or names a plug-in that is not there.
        HostError: a key file cannot be read.
    """

    def __init__(
        self,
        configuration: Configuration,
        point: PointSettings,
        manager: ServiceManager,
        begun: Sequence[ChildProcess] = (),
    ) -> None:
        self.configuration = configuration
        self.point = point
        self.started_ms = clock.monotonic_ms()
        self.host = _own_host(point)
        self._room = self.host.room
        plugins = plugins_of(configuration)
        self.registry = registry_with(plugin.metric for plugin in plugins)
        key_file = configuration.probe.key_file
        fixed = None if key_file is None else StampKey.from_file(key_file)
        self._credentials = Credentials.read(configuration.security)
        self._probe_keys = ProbeKeys(self._credentials.keyring, fixed)
        self.archive = Archive(configuration.store_url, point.state_dir, configuration.retention)
        self.link = PacketLinks(self._setup, self._on_packet_event, configuration.measurement.processes, begun)
        self._report_tls = report_contexts(configuration.reports.tls)
        self.reporter = Reporter(point.address, configuration.measurement.port, self._report_tls.client)
        self.segments = Segments(
            configuration, point, self.host, plugins=plugins, registry=self.registry, keys=self._probe_keys
        )
        self.http = HttpLink(configuration, self.registry)
        self.manager = manager
        self._told: dict[str, Told] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set.

        Raises:
            HostError: something that the point needs cannot be had.
        """
        async with AsyncExitStack() as stack:
            stack.callback(self.manager.close)
            stack.push_async_callback(self.archive.close)
            self.archive.open()
            await self._open_requests(stack)
            await self.segments.open(stack)
            await self.far_paths.start(stack)
            stack.push_async_callback(self.reporter.close)
            await self.http.start(stack)
            await self._serve_metrics(stack)
            service = Service(self.answers.answer, self.configuration.service.allow)
            stack.push_async_callback(service.close)
            await self._listen_tcp(service)
            settle_service(self.configuration)  # all ports are open, and no thread runs yet
            stack.push_async_callback(self.link.close)
            for outcome in await asyncio.gather(self.link.start(), self.segments.start(), return_exceptions=True):
                if outcome is not None:
                    raise outcome
            await service.listen_unix(self.configuration.service.socket)
            tasks = [asyncio.create_task(self._keep_house(), name="housekeeping")]
            verify = self.configuration.verification
            if verify.interval_s:
                checks = self.verification.run_on_schedule(
                    verify.destinations, interval_s=verify.interval_s, duration_s=verify.duration_s
                )
                tasks.append(asyncio.create_task(checks, name="verification"))
            for task in tasks:
                stack.callback(task.cancel)
            self.manager.ready(f"point {self.point.name} at {self.point.address}")
            logger.info("point %s at %s is ready", self.point.name, self.point.address)
            gc.freeze()  # what is alive now stays: no need to look at it again at each collection
            gc.set_threshold(*COLLECTION_THRESHOLDS)
            await _first(stop, tasks)
            self.manager.stopping()
            logger.info("point %s stops", self.point.name)

    async def _open_requests(self, stack: AsyncExitStack) -> None:
        """What sends requests and hellos, and takes reports."""
        port = self.configuration.measurement.port
        self.sender = RequestSender(self.point.address, port, self._on_unreachable)
        stack.callback(self.sender.close)
        self.measurements = Measurements(
            self._send,
            self.archive.record,
            self.registry,
            credentials=self._credentials,
            room=lambda: self._room,
            known=lambda request: self.far_paths.known(request),
        )
        discovery = self.configuration.discovery
        self.greeter = Greeter(
            Discovery(random_source=random.SystemRandom(), interval_ms=round(discovery.interval_s * 1000)),
            address=self.point.address,
            send=self._send_signed,
            on_neighbor=self.segments.met,
            believes=self._credentials.believes,
        )
        for destination in discovery.destinations:
            self._seek(destination, configured=True)
        self.verification = Verification(
            self.point.address,
            port=self.configuration.probe.port,
            key_of=self._probe_keys.toward,
            clock_state=self.segments.clock_state,
            measurements=self.measurements,
            keep=self.archive.record_check,
        )
        self.far_paths = FarPaths(
            self.configuration,
            self.point,
            credentials=self._credentials,
            greeter=self.greeter,
            seek=self._seek,
            want=self._keep_measured,
            send=self.link.send,
        )
        self.answers = Answers(
            self.configuration,
            self.point,
            self.registry,
            host=lambda: self.host,
            measurements=self.measurements,
            verification=self.verification,
            on_query=self._on_query,
            status=self._status,
        )
        server = ReportServer(
            self.point.address, port, self._on_report, is_open=self._is_open, tls=self._report_tls.server
        )
        stack.push_async_callback(server.close)
        await server.start()

    def _setup(self) -> Setup:
        measurement = self.configuration.measurement
        self._told.clear()
        self.far_paths.knowledge.forget_told()
        return Setup(
            address=self.point.address,
            own_addresses=self.host.addresses,
            serves=tuple(str(network) for network in self.point.serves),
            port=measurement.port,
            queue=measurement.queue,
            rate_per_s=measurement.rate_per_s,
            burst=measurement.burst,
            rules=measurement.rules,
            room=self._room,
            log_level=self.configuration.log.level,
            log_format=self.configuration.log.format,
            credentials=self._credentials.to_document(self.configuration.security),
            queues=measurement.processes,
            processors=measurement.processors,
            plain_udp=measurement.plain_udp,
            source_rate_per_s=measurement.source_rate_per_s,
            source_burst=measurement.source_burst,
        )

    def reload(self) -> None:
        """Read the keys again; when that fails, those that were read before stay in use."""
        try:
            read = Credentials.read(self.configuration.security)
        except InpathError as error:
            logger.error("keys not read again: %s", error)
            return
        self._credentials.keyring = read.keyring
        self.segments.keys_changed(read.keyring)
        self.far_paths.keys_changed()
        self.link.send(CredentialsChanged(credentials=read.to_document(self.configuration.security)))
        logger.info("keys read again: %d", len(read.keyring))

    async def _listen_tcp(self, service: Service) -> None:
        settings = self.configuration.service
        if settings.listen is not None:
            await service.listen_tcp(settings.listen, settings.port)

    async def _serve_metrics(self, stack: AsyncExitStack) -> None:
        if self.configuration.metrics.listen is not None:
            from mp.metrics_endpoint import MetricsEndpoint  # its library takes long to import

            await MetricsEndpoint(self.configuration.metrics, self._status).start(stack)

    def _on_packet_event(self, event: Event) -> None:
        match event:
            case ReportReady(report=report):
                self.reporter.submit(report)
                if report.wants_return:
                    self._send_way_back(report)
            case UpstreamSeen(upstream=upstream, metrics=metrics, hello=hello):
                self.segments.asked(upstream, metrics, hello=hello)
            case RelayReady():
                self._relay(event)
            case PathAsked(destination=destination):
                self.far_paths.knowledge.asked(destination)
            case _:
                logger.error("bridge: got %s, expected what the packet process sends", type(event).__name__)

    def _send_way_back(self, report: Report) -> None:
        request = message_from_payload(report.payload).request
        back = way_back(request, source=self.point.address, now_ms=clock.now_ms())
        try:
            self._send_signed(back, report.carrier)
        except HostError as error:
            logger.warning("way back to %s: %s", back.destination, error)

    def _send_signed(self, request: MeasureRequest, carrier: Carrier = Carrier.ROUTER_ALERT) -> None:
        signed = signed_request(request, self._credentials.keyring)
        self._send(message_to_xml(Message(request=signed)), request.destination, carrier)

    def _send(self, payload: bytes, destination: str, carrier: Carrier) -> None:
        if carrier is not Carrier.RELAY:
            self.sender.send(payload, destination, carrier)
            return
        next_point = self.greeter.discovery.neighbors().get(destination)
        if next_point is None:
            self._seek(destination)  # for a later copy
            raise HostError(f"destination {destination}: no neighbor is known on the way")
        self.sender.send(payload, next_point, Carrier.UDP)

    def _relay(self, relay: RelayReady) -> None:
        try:
            self._send(relay.payload, relay.destination, Carrier.RELAY)
        except HostError as error:
            logger.info("a request was not relayed: %s", error)

    def _on_unreachable(self, destination: str, reason: str) -> None:
        self.measurements.on_unreachable(destination, reason)

    def _is_open(self, identifier: str) -> bool:
        return self.greeter.discovery.is_waiting(identifier) or self.measurements.is_open(identifier)

    async def _on_report(self, message: Message, final: bool) -> bool:
        before = self.greeter.discovery.neighbors()
        if self.greeter.take(message, clock.monotonic_ms()):
            if self.greeter.discovery.neighbors() != before:
                self.far_paths.neighbors_changed()
            return True
        return await self.measurements.on_report(message, final)

    def _status(self) -> dict[str, Any]:
        return status_document(
            point=self.point,
            uptime_s=(clock.monotonic_ms() - self.started_ms) / 1000,
            host=self.host,
            registry=self.registry,
            segments=self.segments,
            greeter=self.greeter,
            link=self.link,
            http=self.http,
            measurements=self.measurements,
            reporter=self.reporter,
            archive=self.archive,
            verification=self.verification,
            knowledge=self.far_paths.knowledge,
        )

    def _on_query(self, query: PathQuery) -> None:
        self._seek(query.destination)
        if query.max_age_s and not query.both_directions:
            self.far_paths.knowledge.asked(query.destination)
        self.verification.asked_for(query.destination)

    def _seek(self, destination: str, *, configured: bool = False) -> None:
        if self.configuration.discovery.interval_s:
            self.greeter.discovery.seek(destination, clock.monotonic_ms(), configured=configured)

    async def _keep_house(self) -> None:
        stalls = StallWatch("the service process", STALL_MS)
        while True:
            self.manager.alive(f"{len(self._told)} segments measured")
            stalls.look(clock.monotonic_ms())
            try:
                self.segments.look()
                self._look_at_host()
                known = self.segments.known()
                self._tell_segments(known)
                self.far_paths.look(known, self.host.addresses)
                self.greeter.greet(clock.monotonic_ms(), created_at_ms=clock.now_ms())
                if self.archive.waiting or self._is_time_for_database():
                    self.archive.drain_soon()
            except (InpathError, OSError) as error:  # the latter when there are no file descriptors left
                logger.error("%s", error)
            await asyncio.sleep(HOUSEKEEPING_S)

    def _is_time_for_database(self) -> bool:
        """Whether to open it though nothing waits: one that is away is noticed before it is needed."""
        return self.archive.state is None and clock.monotonic_ms() - self.started_ms >= DATABASE_DELAY_MS

    def _keep_measured(self, upstream: str) -> None:
        with contextlib.suppress(UsageError):  # a forged advertisement may name any address
            self.segments.udp.want(upstream)

    def _look_at_host(self) -> None:
        host = read_host_state()
        if host != self.host:
            logger.info("host changed: addresses %s, smallest MTU %d", host.addresses, host.smallest_mtu_bytes)
        room = _room(host, self.segments.path_mtus())
        if (host, room) == (self.host, self._room):
            return
        if self.link.send(HostChanged(own_addresses=host.addresses, room=room)):
            self.host, self._room = host, room

    def _tell_segments(self, segments: Known) -> None:
        for peer in self._told.keys() - segments.keys():
            if self.link.send(SegmentGone(upstream=peer)):
                del self._told[peer]
        for peer, told in segments.items():
            newest_sample_at_ms, metrics = told
            if told is not self._told.get(peer) and self.link.send(
                SegmentKnown(upstream=peer, newest_sample_at_ms=newest_sample_at_ms, metrics=metrics)
            ):
                self._told[peer] = told


def _own_host(point: PointSettings) -> HostState:
    host = read_host_state()
    if point.address not in host.addresses:
        raise ConfigurationError(
            "point.address", point.address, f"one of this host's: {', '.join(host.addresses)}"
        )
    return host


def _room(host: HostState, path_mtus: Sequence[int | None]) -> int:
    """The UDP payload, in octets, that fits the interfaces and the paths to all neighbors.

    Where a request goes on to is not known before it goes, so it must fit the narrowest of them.
    """
    paths = (USUAL_PATH_BYTES if octets is None else octets for octets in path_mtus)
    narrowest = min(paths, default=host.smallest_mtu_bytes)
    mtu_bytes = min(host.smallest_mtu_bytes, max(LEAST_MTU_BYTES, narrowest))
    return replace(host, smallest_mtu_bytes=mtu_bytes).room


async def _first(stop: asyncio.Event, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Return when `stop` is set; raise what ends one of the tasks before."""
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((stopping, *tasks), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    for task in tasks:
        if task.done():
            task.result()


async def serve(
    configuration: Configuration, point: PointSettings, manager: ServiceManager, begun: Sequence[ChildProcess]
) -> None:
    """Run a measurement point until SIGTERM or SIGINT; the arguments are those of `Daemon`.

    Raises:
        ConfigurationError: the configuration does not fit this host.
        HostError: something that the point needs cannot be had.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    daemon = Daemon(configuration, point, manager, begun)
    loop.add_signal_handler(signal.SIGHUP, daemon.reload)
    await daemon.run(stop)
