"""What an estimate of available bandwidth may take: rates, octets, time."""

from __future__ import annotations

from dataclasses import dataclass

from prober.timestamp import NS_PER_MS
from schemas.errors import UsageError

BANDWIDTH_PORT = 49864
"""UDP port of requests and streams: in the dynamic range, beside the measurement port."""
MAX_PACKETS = 400
LEAST_PACKET_BYTES = 100
"""Header, and some room; below it the IP header is most of what is measured."""
MOST_PACKET_BYTES = 1968
"""What the receiver's buffer and an emulated link take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BandwidthSettings:
    """One set for both roles: the measuring point asks for nothing beyond it, and the other end sends no more.

    Raises:
        UsageError: a value outside its range.
    """

    min_rate_mbit_s: float = 1.0
    """The slowest stream. Below it, only an upper bound is told."""
    max_rate_mbit_s: float = 100.0
    """The fastest stream. Above it, only a lower bound is told."""
    min_packet_bytes: int = 200
    """At the IP layer, as all octets here."""
    max_packet_bytes: int = 1500
    """No more than the smallest MTU on the way: packets are sent with DF set."""
    min_interval_us: int = 100
    """Between two packets of a stream: what a thread of this host can keep."""
    stream_duration_ms: float = 50.0
    """Of one stream; a longer one averages over more of the other traffic."""
    packets_per_stream: int = 100
    """At low rates; a fast stream has up to 400, so that it lasts `stream_duration_ms`."""
    streams_per_fleet: int = 10
    load_ratio: float = 0.1
    """Share of the time in which a stream is under way, so the mean load is this share of its rate."""
    resolution_ratio: float = 0.15
    """The search ends when its interval is no wider than this share of its upper end."""
    max_estimate_s: float = 14.0
    max_octets_per_estimate: int = 20_000_000
    max_octets_per_hour_and_neighbor: int = 100_000_000
    max_octets_per_hour: int = 400_000_000

    def __post_init__(self) -> None:
        self._check("min_rate_mbit_s", 0.1, 100)
        self._check("max_rate_mbit_s", self.min_rate_mbit_s, 1000)
        self._check("min_packet_bytes", LEAST_PACKET_BYTES, MOST_PACKET_BYTES)
        self._check("max_packet_bytes", self.min_packet_bytes, MOST_PACKET_BYTES)
        self._check("min_interval_us", 20, 10_000)
        self._check("stream_duration_ms", 5, 500)
        self._check("packets_per_stream", 50, MAX_PACKETS)
        self._check("streams_per_fleet", 3, 50)
        self._check("load_ratio", 0.01, 0.5)
        self._check("resolution_ratio", 0.01, 1)
        self._check("max_estimate_s", 1, 600)
        for budget in ("max_octets_per_estimate", "max_octets_per_hour_and_neighbor", "max_octets_per_hour"):
            self._check(budget, 100_000, 10**12)

    @property
    def stream_duration_ns(self) -> int:
        """`stream_duration_ms`, for arithmetic."""
        return round(self.stream_duration_ms * NS_PER_MS)

    @property
    def fastest_rate_mbit_s(self) -> float:
        """The greatest rate that packets and intervals allow too."""
        return min(self.max_rate_mbit_s, self.max_packet_bytes * 8 / self.min_interval_us)

    def _check(self, field: str, minimum: float, maximum: float) -> None:
        value = getattr(self, field)
        if not minimum <= value <= maximum:
            raise UsageError(field, value, f"a number from {minimum:g} to {maximum:g}")
