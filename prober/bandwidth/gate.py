"""The upstream end: whether a stream that somebody asks for is sent.

Nothing larger than the request goes to an address that has not proven, by a cookie, that it receives what is sent
to it. The cookie is stateless: a keyed hash of address, port and time (as in RFC 4987 section 3.6).
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from prober.bandwidth.packet import COOKIE_BYTES, Challenge, Refusal, StreamId, StreamRefusal, StreamRequest
from prober.bandwidth.settings import MAX_PACKETS, BandwidthSettings
from prober.bandwidth.trend import StreamShape
from prober.timestamp import NS_PER_S

COOKIE_LIFETIME_NS = 30 * NS_PER_S
"""A cookie is good until the end of the next such period."""
LEAST_STREAM_PACKETS = 10
RATE_TOLERANCE = 1.01
"""An interval is a whole number of ns and a packet of octets; both are rounded."""
MAX_STREAM_NS = 2_500_000_000
"""The longest stream that the settings allow to ask for, stretched twice, and a little."""
NS_PER_MINUTE = 60 * NS_PER_S
_MINUTES_PER_HOUR = 60
_REMEMBERED = 256
"""Addresses of which the newest stream is remembered; as many as there can be neighbors."""


@dataclass(frozen=True, slots=True)
class StreamOrder:
    """A stream to send."""

    stream: StreamId
    shape: StreamShape
    address: str
    port: int


class StreamGate:
    """Decides about requests, and keeps account of what was sent.

    Args:
        settings: limits of what is sent.
        is_neighbor: whether a stream may be sent to an address at all.
        secret: random octets that only this process knows.
    """

    def __init__(self, settings: BandwidthSettings, *, is_neighbor: Callable[[str], bool], secret: bytes) -> None:
        self._settings = settings
        self._is_neighbor = is_neighbor
        self._secret = secret
        self._busy = False
        self._sent: dict[int, Counter[str]] = {}
        """Octets per address, by minute of the clock."""
        self._newest: dict[str, StreamId] = {}

    def asked(
        self, request: StreamRequest, address: str, port: int, now_ns: int
    ) -> StreamOrder | Challenge | StreamRefusal | None:
        """What to do; None for a copy of a request that was obeyed. After an order, `ended` must be called.

        Args:
            request: what is asked for.
            address: who asks, and gets the stream.
            port: its port.
            now_ns: any clock that never steps.
        """
        if not self._is_neighbor(address):
            return StreamRefusal(request.stream, Refusal.NO_NEIGHBOR)
        period = now_ns // COOKIE_LIFETIME_NS
        if not self._is_proven(request.cookie, address, port, period):
            return Challenge(request.stream, self._cookie(address, port, period))
        newest = self._newest.get(address)
        if newest and newest.session == request.stream.session and newest.number >= request.stream.number:
            return None
        minute = now_ns // NS_PER_MINUTE
        refusal = self._refusal(request, address, minute)
        if refusal:
            return refusal
        self._note(request, address, minute)
        return StreamOrder(request.stream, request.shape, address, port)

    def ended(self) -> None:
        """The stream that was ordered has been sent, or cannot be."""
        self._busy = False

    def _refusal(self, request: StreamRequest, address: str, minute: int) -> StreamRefusal | None:
        beyond = self._beyond_limit(request.shape)
        if beyond:
            return StreamRefusal(request.stream, *beyond)
        if self._busy:
            return StreamRefusal(request.stream, Refusal.BUSY)
        settings, octets = self._settings, request.shape.total_bytes
        self._forget_before(minute - _MINUTES_PER_HOUR)
        if self._sent_to(address) + octets > settings.max_octets_per_hour_and_neighbor:
            return StreamRefusal(request.stream, Refusal.NEIGHBOR_BUDGET)
        if sum(sent.total() for sent in self._sent.values()) + octets > settings.max_octets_per_hour:
            return StreamRefusal(request.stream, Refusal.BUDGET)
        return None

    def _beyond_limit(self, shape: StreamShape) -> tuple[Refusal, int] | None:
        """Which limit of one stream is exceeded, and that limit."""
        settings = self._settings
        if shape.packet_bytes > settings.max_packet_bytes:
            return Refusal.PACKET_BYTES, settings.max_packet_bytes
        if shape.rate_mbit_s > settings.max_rate_mbit_s * RATE_TOLERANCE:
            return Refusal.RATE, round(settings.max_rate_mbit_s * 1_000)
        if shape.interval_ns < settings.min_interval_us * 1_000:
            return Refusal.INTERVAL, settings.min_interval_us * 1_000
        if not LEAST_STREAM_PACKETS <= shape.packets <= MAX_PACKETS or shape.duration_ns > MAX_STREAM_NS:
            return Refusal.LENGTH, MAX_PACKETS
        return None

    def _note(self, request: StreamRequest, address: str, minute: int) -> None:
        self._busy = True
        self._sent.setdefault(minute, Counter())[address] += request.shape.total_bytes
        self._newest.pop(address, None)
        self._newest[address] = request.stream
        if len(self._newest) > _REMEMBERED:
            del self._newest[next(iter(self._newest))]

    def _forget_before(self, minute: int) -> None:
        for old in [one for one in self._sent if one < minute]:
            del self._sent[old]

    def _sent_to(self, address: str) -> int:
        return sum(sent[address] for sent in self._sent.values())

    def _is_proven(self, cookie: bytes, address: str, port: int, period: int) -> bool:
        good = (self._cookie(address, port, one) for one in (period, period - 1))
        return any(hmac.compare_digest(cookie, one) for one in good)

    def _cookie(self, address: str, port: int, period: int) -> bytes:
        message = f"{address} {port} {period}".encode()
        return hmac.digest(self._secret, message, "sha256")[:COOKIE_BYTES]
