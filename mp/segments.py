"""Everything that measures the segments of this point, and what is known of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace

from mp import clock
from mp.host import HostState
from mp.keys.probe_keys import ProbeKeys
from mp.neighbor_memory import NeighborMemory
from mp.settings import Configuration, PointSettings
from prober.bandwidth.schedule import BandwidthSchedule
from prober.bandwidth.service import BandwidthService
from prober.challenge import Challenges
from prober.clock_state import ClockState
from prober.interfaces.monitor import InterfaceMonitor
from prober.interfaces.report import InterfaceReport
from prober.path_mtu.codec import StampMtuCodec
from prober.path_mtu.driver import MtuProber
from prober.plugins.plugin import MetricPlugin
from prober.plugins.runner import PluginRunner
from prober.prober import Prober
from prober.segment import Event as SegmentEvent
from prober.segment import Segment
from prober.timestamp import NS_PER_S
from prober.udp import UdpProber
from schemas.errors import ProbeError, UsageError
from schemas.keyring import Keyring
from schemas.metrics import Registry, ScalarStatistics, Statistics, headline

logger = logging.getLogger(__name__)

BANDWIDTH = "available-bandwidth"
MTU = "mtu"

ASKED_NS = 10 * NS_PER_S
"""A segment that a request asked for within this time is told anew at each turn, with its newest statistics."""
QUIET_TURNS = 3
"""Any other one at every third turn: to compute and to tell the statistics of a segment takes as long as all its
packets of a second. What is told stays younger than `processor.segment_table.FRESH_MS`."""

USUAL_PATH_BYTES = 1280
"""What nearly every path lets through, tunnels too, since IPv6 asks for it of every link (RFC 8200 section 5)."""

Told = tuple[int, Mapping[str, Statistics]]
"""Time of the newest sample (ms, own clock), and all metrics that can be told."""
Known = Mapping[str, Told]
"""By upstream."""


class Segments:
    """The prober and all that measures beside it.

    Args:
        configuration: checked.
        point: its `point`.
        host: this host as it is now.
        plugins: what else measures.
        registry: the metrics that this point knows.
        keys: of STAMP's authenticated mode; changed by `keys_changed` alone.
    """

    def __init__(
        self,
        configuration: Configuration,
        point: PointSettings,
        host: HostState,
        *,
        plugins: tuple[MetricPlugin, ...],
        registry: Registry,
        keys: ProbeKeys,
    ) -> None:
        probe = configuration.probe
        self._configuration = configuration
        self._keys = keys
        self._registry = registry
        self.prober = Prober(
            point.address,
            random_source=random.Random(),  # times of probes are no secret
            clock=self.clock_state(),
            rate_per_s=probe.rate_per_s,
            key_of=keys.toward,
            stateless=not probe.is_stateful,
            loss_threshold_ms=probe.loss_threshold_ms,
            sleep_after_s=probe.sleep_after_s,
            challenges=Challenges(random_source=random.SystemRandom(), key_of=keys.toward),
        )
        self.udp = UdpProber(self.prober, port=probe.port, now_ns=clock.now_ns, monotonic_ns=clock.monotonic_ns)
        self._monitor = InterfaceMonitor(
            point.address,
            configured=configuration.capacities,
            give=self._give,
            withdraw=self._withdraw,
            now_ms=clock.now_ms,
            monotonic_ns=clock.monotonic_ns,
        )
        self._mtu = MtuProber(
            point.address,
            codec=StampMtuCodec(now_ns=clock.now_ns, error=self.prober.own_error, key_of=keys.toward),
            limit_of=self._monitor.mtu_toward,
            seen=self._monitor.seen,
            give=self._give,
            withdraw=self._withdraw,
            now_ms=clock.now_ms,
            monotonic_ns=clock.monotonic_ns,
            random_source=random.SystemRandom(),
            port=probe.port,
        )
        self._plugins = PluginRunner(
            point.address,
            plugins,
            peers=self._peers,
            give=self._give,
            withdraw=self._withdraw,
            now_ns=clock.now_ns,
            random_source=random.Random(),
        )
        policy = configuration.bandwidth
        self._bandwidth = BandwidthService(
            point.address,
            policy.port,
            settings=replace(
                policy.settings,
                max_packet_bytes=min(host.smallest_mtu_bytes, USUAL_PATH_BYTES),
            ),
            is_neighbor=self.prober.is_neighbor,
            now_ns=clock.now_ns,
        )
        self._memory = NeighborMemory(point.state_dir, keep_s=probe.sleep_after_s)
        self._schedule = BandwidthSchedule(interval_s=policy.interval_s or None)
        self._estimating: asyncio.Task[None] | None = None
        self._asked_at_ns: dict[str, int] = {}
        """When a request last asked for a segment, on the clock that never steps."""
        self._known: dict[str, Told] = {}
        """As last computed; the one that was computed longest ago comes first."""
        self._steps: dict[str, int] = {}
        """How many steps of a clock were logged of each segment."""

    def clock_state(self) -> ClockState:
        """How far this host's clock is to be trusted now."""
        return clock.read_clock(self._configuration.clock_assumed_error_ms)

    def keys_changed(self, keyring: Keyring) -> None:
        """The keys are others now; replies that were made by those before are read by those before."""
        self.udp.take_replies()
        self._keys.changed(keyring)
        self.prober.keys_changed(clock.now_ns())

    async def open(self, stack: AsyncExitStack) -> None:
        """Take all ports, and begin with what needs no time stamps; `stack` ends all.

        Raises:
            HostError: a port is in use, or the kernel refuses.
        """
        stack.push_async_callback(self.udp.close)
        self.udp.open()
        for neighbor in self._configuration.probe.neighbors:
            self.udp.want(neighbor, configured=True)
        for neighbor in self._memory.recall(clock.now_ms()):
            with contextlib.suppress(UsageError):  # this point may have another address now
                self.udp.want(neighbor)
        stack.callback(lambda: self._memory.close(clock.now_ms()))
        stack.push_async_callback(self._monitor.close)
        await self._monitor.start()
        stack.push_async_callback(self._mtu.close)
        await self._mtu.start()
        stack.push_async_callback(self._plugins.close)
        self._plugins.start()
        if self._configuration.bandwidth.is_enabled:
            stack.push_async_callback(self._bandwidth.close)
            await self._bandwidth.start()
            stack.push_async_callback(self._end_estimate)

    async def start(self) -> None:
        """Probe and answer probes, as soon as the kernel's time stamps are reliable: a tenth of a second later."""
        await self.udp.start()

    def asked(self, upstream: str, metrics: tuple[str, ...], *, hello: bool) -> None:
        """A request asked for the segment from `upstream`, or a hello only looked for its neighbor."""
        try:
            if hello:
                self.udp.meet(upstream)
            else:
                self.udp.want(upstream)
                if self.prober.segment(upstream) is not None:  # the table may be full
                    self._asked_at_ns[upstream] = clock.monotonic_ns()
        except UsageError as error:  # a forged message may name any address
            logger.debug("segment not measured: %s", error)
        if BANDWIDTH in metrics and not hello:
            self._schedule.demand(upstream)

    def met(self, neighbor: str) -> None:
        """A hello of this point was answered by `neighbor`."""
        with contextlib.suppress(UsageError):  # an answer may name any address
            self.udp.meet(neighbor)

    def look(self) -> None:
        """What is due about once a second: clock, interfaces, the next estimate."""
        clock_state = self.clock_state()
        if clock_state != self.prober.clock:  # what follows from it is computed for each new object
            self.prober.clock = clock_state
        measured = {segment.peer: segment for segment in self.prober.measured(clock.now_ns(), asked_for=True)}
        self._monitor.follow(measured)
        self._mtu.follow(measured)
        for peer, segment in measured.items():
            self._exchange_interfaces(peer, segment)
            self._look_for_step(segment)
        self._steps = {peer: self._steps[peer] for peer in measured}
        self._memory.used(measured.keys() - self._configuration.probe.neighbors, clock.now_ms())
        self._schedule.set_upstreams(frozenset(measured))
        self._estimate_next()

    def known(self) -> Known:
        """The segments that are measured; each call is a turn (QUIET_TURNS), at best once a second.

        What is not computed anew is the same object as before, so that it need not be told again.
        """
        now_ns = clock.now_ns()
        measured = {segment.peer: segment for segment in self.prober.measured(now_ns)}
        self._known = {peer: told for peer, told in self._known.items() if peer in measured}
        for peer in self._due(measured):
            self._known.pop(peer, None)
            self._known[peer] = self._told(measured[peer], now_ns)
        return self._known

    def _due(self, measured: Iterable[str]) -> list[str]:
        """Whose statistics are computed now: the new ones, those that are asked for, and a part of the others."""
        since_ns = clock.monotonic_ns() - ASKED_NS
        self._asked_at_ns = {peer: at_ns for peer, at_ns in self._asked_at_ns.items() if at_ns >= since_ns}
        quiet = [peer for peer in self._known if peer not in self._asked_at_ns]
        waiting = set(quiet[-(-len(quiet) // QUIET_TURNS) :])
        return [peer for peer in measured if peer not in waiting]

    def _told(self, segment: Segment, now_ns: int) -> Told:
        assert segment.newest_sample_at_ns is not None  # a measured segment has samples
        statistics = segment.statistics(self._registry, now_ns=now_ns, clock=self.prober.clock)
        return segment.newest_sample_at_ns // 1_000_000, statistics

    def path_mtus(self) -> list[int | None]:
        """Of the segments that somebody asked for, in octets; None while a search has not ended."""
        now_ns = clock.now_ns()
        known = (
            segment.statistics((MTU,), now_ns=now_ns, clock=self.prober.clock).get(MTU)
            for segment in self.prober.measured(now_ns, asked_for=True)
        )
        return [None if mtu is None else int(headline(mtu)) for mtu in known]

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        """What went wrong, and how much was done, by who measures."""
        return {
            "probes": dict(self.udp.counters()),
            "mtu": {"probes": self._mtu.sent_probes, "octets": self._mtu.sent_octets},
            "bandwidth": dict(self._bandwidth.counters()),
            **{
                f"plugin {name}": {str(kind): count for kind, count in counts.items()}
                for name, counts in self._plugins.counters().items()
            },
        }

    def _peers(self) -> list[str]:
        return [segment.peer for segment in self.prober.measured(clock.now_ns(), asked_for=True)]

    def _give(self, peer: str, metric: str, statistics: ScalarStatistics) -> None:
        segment = self.prober.segment(peer)
        if segment is not None:
            segment.give(metric, statistics)

    def _withdraw(self, peer: str, metric: str) -> None:
        segment = self.prober.segment(peer)
        if segment is not None:
            segment.withdraw(metric)

    def _exchange_interfaces(self, peer: str, segment: Segment) -> None:
        """Tell the peer of our interfaces toward it with the next packets, and take what it told of its own."""
        segment.told_interfaces = self._monitor.report(peer).to_value()
        heard, segment.heard_interfaces = segment.heard_interfaces, None
        if heard is not None:
            try:
                self._monitor.take_report(peer, InterfaceReport.from_value(heard))
            except ProbeError as error:
                logger.debug("interface report of %s: %s", peer, error)

    def _look_for_step(self, segment: Segment) -> None:
        steps = segment.events[SegmentEvent.CLOCK_STEP]
        if steps > self._steps.get(segment.peer, 0) and segment.last_step_ns is not None:
            logger.warning(
                "the clock of %s or of this host was set, by %+.6f s as seen from here: one-way delays begin anew",
                segment.peer,
                segment.last_step_ns / 1e9,
            )
        self._steps[segment.peer] = steps

    def _estimate_next(self) -> None:
        if not self._configuration.bandwidth.is_enabled or self._estimating is not None:
            return
        upstream = self._schedule.start(clock.monotonic_ns())
        if upstream is not None:
            self._estimating = asyncio.create_task(self._estimate(upstream), name=f"bandwidth of {upstream}")

    async def _estimate(self, upstream: str) -> None:
        statistics = None
        try:
            outcome = await self._bandwidth.measure(upstream)
            statistics = outcome.statistics()
        finally:
            self._estimating = None
            self._schedule.finish(clock.monotonic_ns(), is_told=statistics is not None)
        if statistics is None:
            logger.info("available bandwidth from %s: none told, %s", upstream, outcome.end.value)
            self._withdraw(upstream, BANDWIDTH)
        else:
            logger.info(
                "available bandwidth from %s: %.3g to %.3g Mbit/s", upstream, statistics.low, statistics.high
            )
            self._give(upstream, BANDWIDTH, statistics)

    async def _end_estimate(self) -> None:
        if self._estimating is not None:
            self._estimating.cancel()
            await asyncio.gather(self._estimating, return_exceptions=True)
