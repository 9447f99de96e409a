"""One neighbor of a point: who wants its segment, who probes, and since when."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from prober.segment import Event, Segment
from prober.stamp.session import SenderSession
from prober.timestamp import NS_PER_S
from schemas.errors import UsageError

_THIS_NETWORK = IPv4Network("0.0.0.0/8")
PROBED_NS = 3 * NS_PER_S
"""A peer heard within this time probes us; also how long the higher of two configured peers waits for that."""
LEAST_SILENCE_NS = 2 * NS_PER_S
SILENT_GAPS = 20
"""A peer that probed us has stopped when it is silent for as many expected gaps between probes, and no less than
the time above. Of Poisson gaps one in 500 million is longer; and whoever asks meanwhile finds samples that are
young enough (`processor.segment_table.FRESH_MS`)."""
UNANSWERED_NS = 20 * NS_PER_S
"""A learned peer that has not answered a single probe for so long is forgotten: it may be no point at all."""
FORGOTTEN_NS = 900 * NS_PER_S
"""A learned peer of which nothing was heard for so long, by probe or by hello, is forgotten."""


@dataclass(slots=True)
class Neighbor:
    """What is known of a peer, on the own clock."""

    segment: Segment
    is_lower: bool
    """Its address is below ours, so its session is the one that stays."""
    configured: bool = False
    start_at_ns: int = 0
    """Not before this do we start a session of our own."""
    wanted_at_ns: int | None = None
    """When a request last asked for the segment."""
    met_at_ns: int | None = None
    """When a hello last said that the peer is a neighbor."""
    heard_at_ns: int | None = None
    """When the peer last probed us."""
    session: SenderSession | None = None
    started_at_ns: int = 0
    """When our session began."""

    @property
    def is_asked_for(self) -> bool:
        """An operator, a request or a hello named it; an address that was merely heard may be forged."""
        return self.configured or self.wanted_at_ns is not None

    def is_awake(self, now_ns: int, sleep_after_ns: int) -> bool:
        """Whether the segment is to be measured: an operator or a request of late asks for it."""
        return self.configured or _is_within(self.wanted_at_ns, now_ns, sleep_after_ns)

    def is_probing(self, now_ns: int) -> bool:
        """Whether the peer has probed us just now."""
        return _is_within(self.heard_at_ns, now_ns, PROBED_NS)

    def is_known(self, now_ns: int) -> bool:
        """Whether the peer has given a sign of being a neighbor that is not too old."""
        return any(_is_within(at_ns, now_ns, FORGOTTEN_NS) for at_ns in (self.met_at_ns, self.heard_at_ns))

    def is_mute(self, now_ns: int) -> bool:
        """Whether it was learned and has never answered or probed us."""
        return (
            not self.configured
            and self.session is not None
            and self.heard_at_ns is None
            and self.segment.events[Event.RECEIVED] == 0
            and now_ns - self.started_at_ns > UNANSWERED_NS
        )

    def last_use_ns(self) -> int:
        """When it was last of any use."""
        return max(self.wanted_at_ns or 0, self.met_at_ns or 0, self.heard_at_ns or 0)

    def clock_stepped(self, now_ns: int, *, step_ns: int) -> None:
        """The own clock was set: what was noted by it moves with it.

        Args:
            now_ns: own clock, after the step.
            step_ns: how far it was set, forward positive.
        """
        self.start_at_ns += step_ns
        self.started_at_ns += step_ns
        self.wanted_at_ns = _moved(self.wanted_at_ns, step_ns)
        self.met_at_ns = _moved(self.met_at_ns, step_ns)
        self.heard_at_ns = _moved(self.heard_at_ns, step_ns)
        self.segment.clock_stepped(now_ns, step_ns=step_ns)
        if self.session:
            self.session.clock_stepped(now_ns, step_ns=step_ns)


def _is_within(at_ns: int | None, now_ns: int, span_ns: int) -> bool:
    return at_ns is not None and now_ns - at_ns <= span_ns


def _moved(at_ns: int | None, step_ns: int) -> int | None:
    return None if at_ns is None else at_ns + step_ns


def address_number(field: str, address: str) -> int:
    """The address as a number.

    Raises:
        UsageError: it is no IPv4 address; names the field.
    """
    try:
        return int(IPv4Address(address))
    except AddressValueError as error:
        raise UsageError(field, address, "an IPv4 address") from error


def is_unicast(address: str) -> bool:
    """Whether one host can have the address: a forged message must not have us probe a whole network."""
    one = IPv4Address(address)
    return not (one.is_multicast or one.is_reserved or one in _THIS_NETWORK)
