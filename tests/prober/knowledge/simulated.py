"""A network of points in memory: links that delay and lose, clocks that disagree, and the truth about paths."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from prober.knowledge.exchange import ExchangeSettings, KnowledgeExchange, Measured
from prober.knowledge.tails import FarPath
from schemas.keyring import NO_KEYS, Keyring
from schemas.metrics import (
    DelayStatistics,
    JitterStatistics,
    LossStatistics,
    RoundTripStatistics,
    ScalarStatistics,
    Statistics,
)

_ABILENE = (
    (0, 1, 5.729),
    (0, 2, 1.642),
    (1, 10, 1.317),
    (2, 9, 4.36),
    (3, 4, 5.693),
    (3, 6, 8.206),
    (4, 5, 2.516),
    (4, 6, 7.518),
    (5, 8, 11.034),
    (6, 7, 4.459),
    (7, 8, 5.21),
    (7, 10, 3.653),
    (8, 9, 5.638),
    (9, 10, 3.438),
)
"""A network of the Internet Topology Zoo (CC BY 4.0), as `lab.graphml` reads it: two nodes and a delay in ms."""
ABILENE = {(f"10.0.0.{a + 1}", f"10.0.0.{b + 1}"): delay_ms for a, b, delay_ms in _ABILENE}

UPDATE_MS = 1_000
WALL_AT_START_MS = 1_763_751_312_000
SAMPLE_AGE_MS = 40
"""How old the newest sample of a segment is whenever it is read."""
HEADER_BYTES = 28
"""IP and UDP."""


def statistics_of(delay_ms: float, source: random.Random, measured_at_ms: int) -> Mapping[str, Statistics]:
    """What a segment says that is measured all the time: values with as many digits as real ones."""
    value = source.random
    return {
        "delay": DelayStatistics(
            count=source.randint(550, 600),
            mean_ms=round(delay_ms + value(), 4),
            minimum_ms=round(delay_ms, 4),
            variance_ms2=round(value(), 6),
            third_moment_ms3=round(value(), 6),
            upstream_clock_error_ms=0.1,
            current_clock_error_ms=0.1,
            synchronized=True,
        ),
        "loss": LossStatistics(sent=600, lost=source.randint(0, 9), threshold_ms=1000, runs=1, longest_run=1),
        "jitter": JitterStatistics(
            count=590,
            pdv_ms=round(value(), 4),
            ipdv_ms=round(value(), 4),
            signed_ipdv_ms=round(value(), 4),
            least_ipdv_ms=round(-value(), 4),
            greatest_ipdv_ms=round(value(), 4),
            interarrival_ms=round(value(), 4),
            mean_pdv_ms=round(value(), 4),
            variance_ms2=round(value(), 6),
            third_moment_ms3=round(value(), 6),
        ),
        "rtt": RoundTripStatistics(
            count=590,
            mean_ms=round(2 * delay_ms + value(), 4),
            minimum_ms=round(2 * delay_ms, 4),
            variance_ms2=round(value(), 6),
            third_moment_ms3=round(value(), 6),
        ),
        "mtu": ScalarStatistics(count=1, value=1500, low=1500, high=1500, measured_at_ms=measured_at_ms),
    }


@dataclass(slots=True)
class Point:
    """One point and the part of the truth that it can see."""

    address: str
    area: str
    wall_offset_ms: int
    exchange: KnowledgeExchange
    is_up: bool = True
    sought: set[str] = field(default_factory=set)
    """Destinations that it greets."""
    wanted: Counter[str] = field(default_factory=Counter)
    """Upstreams whose segments others told, by how often it was heard."""
    generation: int = 0
    planned_ms: int | None = None
    """When the datagrams that are due are looked at next."""


class SimulatedNetwork:
    """Points, links and the time.

    Args:
        links: delay in ms by pair of addresses; both directions alike.
        areas: by address; the others are in `""`.
        settings: of all points; `borders` are added by `borders`.
        keyring_of: by address.
        loss_ratio: of datagrams on each link.
    """

    def __init__(
        self,
        links: Mapping[tuple[str, str], float],
        *,
        areas: Mapping[str, str] | None = None,
        borders: Mapping[str, tuple[str, ...]] | None = None,
        settings: ExchangeSettings | None = None,
        keyring_of: Callable[[str], Keyring] = lambda _: NO_KEYS,
        loss_ratio: float = 0.0,
        seed: int = 7,
    ) -> None:
        self.links = dict(links)
        self.loss_ratio = loss_ratio
        self.now_ms = 0
        self.down: set[tuple[str, str]] = set()
        self.octets: Counter[tuple[str, str]] = Counter()
        self.traffic: list[tuple[str, str, bytes]] = []
        """(from, to, datagram) of the last deliveries."""
        self.random = random.Random(seed)
        self._settings = settings or ExchangeSettings()
        self._borders = borders or {}
        self._keyring_of = keyring_of
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._event_number = 0
        self._known_distances: dict[str, dict[str, float]] = {}
        self._metrics = {pair: statistics_of(delay, self.random, 1_000) for pair, delay in links.items()}
        addresses = sorted({address for pair in links for address in pair})
        self.points = {address: self._point(address, (areas or {}).get(address, "")) for address in addresses}
        for point in self.points.values():
            self._plan_updates(point)

    # What happens

    def run(self, for_ms: int) -> None:
        """Let time pass."""
        end_ms = self.now_ms + for_ms
        while self._events and self._events[0][0] <= end_ms:
            self.now_ms, _, happen = heapq.heappop(self._events)
            happen()
        self.now_ms = end_ms

    def run_until(self, is_so: Callable[[], bool], *, at_most_ms: int, step_ms: int = 250) -> int:
        """Let time pass until something is so; how long it took."""
        start_ms = self.now_ms
        while not is_so():
            assert self.now_ms - start_ms < at_most_ms, "it did not come true in time"
            self.run(step_ms)
        return self.now_ms - start_ms

    def fail(self, a: str, b: str) -> None:
        """Take a link down; the points at its ends see their routes change at once, the others too."""
        self.down |= {(a, b), (b, a)}
        self._reroute()

    def heal(self, a: str, b: str) -> None:
        """Bring a link up again."""
        self.down -= {(a, b), (b, a)}
        self._reroute()

    def stop(self, address: str) -> None:
        """Kill a point without a farewell; its host goes on to forward."""
        self.points[address].is_up = False

    def restart(self, address: str, *, clock_ms: int | None = None) -> None:
        """Start it anew, knowing nothing; its clock may show another time."""
        old = self.points[address]
        new = self._point(address, old.area)
        new.sought, new.generation = old.sought, old.generation + 1
        if clock_ms is not None:
            new.wall_offset_ms = clock_ms
            new.exchange = self._exchange(address, old.area, self.now_ms + clock_ms)
        self.points[address] = new
        self._plan_updates(new)

    def inject(self, data: bytes, source: str, to: str) -> None:
        """Somebody sends a datagram under the address of another."""
        self._deliver(source, to, data)

    # What is true

    def far_path(self, source: str, destination: str, *, at: str | None = None) -> FarPath | None:
        """What `at` (or the source itself) can tell."""
        asked = self.points[at or source]
        return asked.exchange.far_path(
            destination, now_ms=self.now_ms, wall_ms=self.wall_ms(asked.address), point=source
        )

    def told(self, source: str, destination: str, *, at: str | None = None) -> list[str] | None:
        """The points of that path."""
        path = self.far_path(source, destination, at=at)
        return None if path is None else [segment.current for segment in path]

    def true_path(self, source: str, destination: str) -> list[str] | None:
        """The points that packets meet after the source."""
        after, at = [], source
        while at != destination:
            following = self.next_point(at, destination)
            if following is None:
                return None
            at = following
            after.append(at)
        return after

    def next_point(self, point: str, destination: str) -> str | None:
        """The first neighbor on the shortest way, over links that are up."""
        distances = self._distances(destination)
        ways = [
            (self.delay_ms(point, other) + distances[other], other)
            for other in self.neighbors(point)
            if other in distances
        ]
        return min(ways)[1] if ways else None

    def neighbors(self, point: str) -> list[str]:
        """Over links that are up."""
        pairs = [pair for pair in self.links if point in pair and pair not in self.down]
        return sorted(a if b == point else b for a, b in pairs)

    def delay_ms(self, a: str, b: str) -> float:
        return self.links[a, b] if (a, b) in self.links else self.links[b, a]

    def wall_ms(self, address: str) -> int:
        """What the clock of a point shows."""
        return self.now_ms + self.points[address].wall_offset_ms

    def seek(self, sources: Iterable[str], destinations: Iterable[str]) -> None:
        """Applications at the sources are interested in the destinations."""
        for source in sources:
            self.points[source].sought |= set(destinations) - {source}

    def counted(self, kind: str) -> int:
        return sum(point.exchange.counters[kind] for point in self.points.values())

    def _distances(self, destination: str) -> dict[str, float]:
        if destination in self._known_distances:
            return self._known_distances[destination]
        found = self._known_distances[destination] = {}
        heap = [(0.0, destination)]
        while heap:
            distance, at = heapq.heappop(heap)
            if at not in found:
                found[at] = distance
                for other in self.neighbors(at):
                    heapq.heappush(heap, (distance + self.delay_ms(at, other), other))
        return found

    # How it is done

    def _point(self, address: str, area: str) -> Point:
        offset_ms = WALL_AT_START_MS + self.random.randint(-10_000_000, 10_000_000)
        return Point(address, area, offset_ms, self._exchange(address, area, self.now_ms + offset_ms))

    def _exchange(self, address: str, area: str, wall_ms: int) -> KnowledgeExchange:
        return KnowledgeExchange(
            address,
            area,
            settings=replace(self._settings, borders=self._borders.get(address, ())),
            keyring=self._keyring_of(address),
            random_source=self.random,
            wall_ms=wall_ms,
        )

    def _measured(self, point: Point) -> Measured:
        newest_at_ms = self.wall_ms(point.address) - SAMPLE_AGE_MS
        pairs = {other: (other, point.address) for other in self.neighbors(point.address)}
        return {
            other: (newest_at_ms, self._metrics[pair if pair in self._metrics else pair[::-1]])
            for other, pair in pairs.items()
            if self.points[other].is_up
        }

    def _update(self, point: Point) -> None:
        toward = {other: self.next_point(point.address, other) for other in point.sought}
        point.exchange.update(
            self._measured(point),
            neighbors=self.neighbors(point.address),
            next_points=toward,
            addresses=(point.address,),
            serves=(),
            now_ms=self.now_ms,
            wall_ms=self.wall_ms(point.address),
        )
        point.sought |= point.exchange.demand.destinations
        point.wanted.update(point.exchange.demand.upstreams)
        self._plan_due(point)

    def _plan_updates(self, point: Point) -> None:
        generation = point.generation

        def happen() -> None:
            if point.is_up and self.points[point.address].generation == generation:
                self._update(point)
                self._at(self.now_ms + UPDATE_MS, happen)

        self._at(self.now_ms + self.random.randint(0, UPDATE_MS), happen)

    def _plan_due(self, point: Point) -> None:
        wakeup_ms = point.exchange.next_wakeup_ms()
        if wakeup_ms is None or (point.planned_ms is not None and point.planned_ms <= wakeup_ms):
            return
        at_ms = point.planned_ms = max(self.now_ms + 1, wakeup_ms)

        def happen() -> None:
            if point.planned_ms == at_ms:
                point.planned_ms = None
            if point.is_up and self.points[point.address] is point:
                self._send(point.address, point.exchange.due(self.now_ms))
                self._plan_due(point)

        self._at(at_ms, happen)

    def _send(self, source: str, datagrams: Iterable[tuple[bytes, str]]) -> None:
        for data, to in datagrams:
            link = (source, to)
            self.octets[link] += len(data) + HEADER_BYTES
            self.traffic.append((source, to, data))
            if link not in self.down and self.random.random() >= self.loss_ratio:
                arrives_ms = self.now_ms + max(1, round(self.delay_ms(source, to)))
                self._at(arrives_ms, lambda data=data, to=to: self._deliver(source, to, data))  # type: ignore[misc]

    def _deliver(self, source: str, to: str, data: bytes) -> None:
        point = self.points[to]
        if point.is_up:
            self._send(to, point.exchange.receive(data, source, self.now_ms))
            self._plan_due(point)

    def _reroute(self) -> None:
        """As the kernel's word of changed routes makes each point greet anew."""
        self._known_distances.clear()
        for point in self.points.values():
            if point.is_up:
                self._at(self.now_ms + 50, lambda point=point: self._update(point))  # type: ignore[misc]

    def _at(self, at_ms: int, happen: Callable[[], None]) -> None:
        self._event_number += 1
        heapq.heappush(self._events, (at_ms, self._event_number, happen))


def chain(*addresses: str, delay_ms: float = 2.0) -> dict[tuple[str, str], float]:
    """Links from each address to the next."""
    return dict.fromkeys(zip(addresses, addresses[1:], strict=False), delay_ms)
