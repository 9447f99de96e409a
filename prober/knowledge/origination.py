"""When a point advertises itself anew (pure).

At once when its paths have changed, a while after the last time so that a link that flaps does not shake the area;
else now and then, since measured values grow old. How often follows from how much the area has to say: a link must
carry no more than its budget, as with the reports of RTCP (RFC 3550 section 6.2).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from types import MappingProxyType

from prober.knowledge.advertisement import MAX_LIFETIME_S, Advertisement, fragments_of
from schemas.message import SegmentRecord

DAMPING_MS = 1_000
"""Between two advertisements at the least."""
_JITTER = 0.2
"""Points must not fall into step."""
LIFETIME_REFRESHES = 4
"""An advertisement outlives so many that are lost."""
OVERHEAD = 1.5
"""Headers, acknowledgements, and copies that cross on their way, for each octet of the advertisements."""
DEFAULT_REFRESH_S = 15.0
DEFAULT_LIFETIME_S = 60
DEFAULT_OCTETS_PER_S = 2_000
"""On each link and direction: twice what the probes of one session take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a point has to say; fields as of `Advertisement`."""

    addresses: tuple[str, ...] = ()
    serves: tuple[IPv4Network, ...] = ()
    next_points: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    asked: frozenset[str] = frozenset()
    segments: tuple[SegmentRecord, ...] = ()

    def has_paths_of(self, other: Content) -> bool:
        """Whether all but the segments is the same, what is merely asked for aside."""
        mine = (self.addresses, self.serves, dict(self.next_points))
        return mine == (other.addresses, other.serves, dict(other.next_points))

    def has_segments_of(self, other: Content) -> bool:
        """Whether the same segments are measured, whatever their values."""
        return {one.upstream for one in self.segments} == {one.upstream for one in other.segments}

    def is_fresher_than(self, other: Content) -> bool:
        """Whether a segment has new samples, or something else is new."""
        mine, theirs = (
            {(one.upstream, one.recorded_at_ms - one.age_ms) for one in content.segments}
            for content in (self, other)
        )
        return mine != theirs or self.asked != other.asked


class Origination:
    """The advertisements of one point.

    Args:
        origin, area: of this point.
        first_sequence: milliseconds since the Unix epoch at the start: greater than any of an earlier run, since
            none advertises a thousand times a second.
        random_source: draws the times.
        refresh_s: between two advertisements, when nothing but measured values has changed.
        lifetime_s: how long others believe one; longer when they come less often than `refresh_s`.
        octets_per_s: what all advertisements of the area may take on a link.
    """

    def __init__(
        self,
        origin: str,
        area: str,
        *,
        first_sequence: int,
        random_source: random.Random,
        refresh_s: float = DEFAULT_REFRESH_S,
        lifetime_s: int = DEFAULT_LIFETIME_S,
        octets_per_s: int = DEFAULT_OCTETS_PER_S,
    ) -> None:
        self._origin = origin
        self._area = area
        self._sequence = first_sequence - 1
        self._revision = 0
        self._random = random_source
        self._refresh_ms = round(refresh_s * 1000)
        self._lifetime_s = lifetime_s
        self._octets_per_s = octets_per_s
        self._said: Content | None = None
        self._at_ms = 0
        """When the last was made."""
        self._interval_ms = 0
        """From then to the next."""
        self._must_repeat = False

    def jump(self, sequence: int) -> None:
        """Somebody has a later word of this point, from before its restart: the next one comes after that,
        soon."""
        self._sequence = max(self._sequence, sequence)
        self._must_repeat = True

    def make(
        self, content: Content, *, now_ms: int, created_at_ms: int, area_octets: int
    ) -> tuple[Advertisement, ...]:
        """The fragments of a new advertisement, if it is time for one.

        Args:
            content: what there is to say now.
            now_ms: on a clock that never steps.
            created_at_ms: the same moment, milliseconds since the Unix epoch.
            area_octets: what all advertisements of the area take together.
        """
        if self._said is not None and not self._is_due(self._said, content, now_ms):
            return ()
        is_changed = self._must_repeat or self._said is None or not content.has_paths_of(self._said)
        self._sequence += 1
        self._revision = self._sequence if is_changed else self._revision
        self._said, self._at_ms, self._must_repeat = content, now_ms, False
        interval_ms = max(self._refresh_ms, round(area_octets * OVERHEAD / self._octets_per_s * 1000))
        interval_ms = min(interval_ms, MAX_LIFETIME_S * 1000 // LIFETIME_REFRESHES)
        self._interval_ms = round(interval_ms * self._random.uniform(1 - _JITTER, 1))
        lifetime_s = max(self._lifetime_s, -(-LIFETIME_REFRESHES * interval_ms // 1000))
        return fragments_of(self._advertisement(created_at_ms, lifetime_s, content))

    def withdraw(self, created_at_ms: int) -> Advertisement:
        """The last one, which takes all back."""
        self._sequence += 1
        self._revision = self._sequence
        last = self._advertisement(created_at_ms, self._lifetime_s, Content())
        return replace(last, withdrawn=True)

    def _is_due(self, said: Content, content: Content, now_ms: int) -> bool:
        since_ms = now_ms - self._at_ms
        if since_ms < DAMPING_MS:
            return False
        if self._must_repeat or not content.has_paths_of(said) or not content.has_segments_of(said):
            return True
        if content.is_fresher_than(said):
            return since_ms >= self._interval_ms
        return since_ms >= max(self._interval_ms, self._lifetime_s * 1000 // 2)

    def _advertisement(self, created_at_ms: int, lifetime_s: int, content: Content) -> Advertisement:
        return Advertisement(
            origin=self._origin,
            sequence=self._sequence,
            revision=self._revision,
            created_at_ms=created_at_ms,
            lifetime_s=lifetime_s,
            area=self._area,
            addresses=content.addresses,
            serves=content.serves,
            next_points=content.next_points,
            asked=content.asked,
            segments=content.segments,
        )
