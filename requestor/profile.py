"""What a purpose needs of a path: limits on its metrics, each with the source of its number (pure).

The built-in profiles:

`voice`  A conversation. 150 ms one way is what ITU-T G.114 finds acceptable for most; a delay variation of 50 ms
         is that of the classes 0 and 1 of Y.1541, but of 99 % of the packets instead of 99.9 %, and 1 % loss
         instead of 0.1 % is common practice for packet voice (either 0.1 % would take 3000 samples to tell); R 70
         is the lower end of medium quality in ITU-T G.109.
`video`  A video call. Delay and delay variation as for voice; 1 % loss is that of ITU-T G.1010 for videophones;
         2.5 Mbit/s is practice for one H.264 stream in 720p.
`game`   A shooter or another fast game. A round trip of 100 ms is twice the delay budget of 5QI 3, real time
         gaming, in 3GPP TS 23.501, and where players of first-person games begin to do worse (Claypool and
         Claypool, Latency and player actions in online games, 2006); 30 ms of delay variation and 1 % loss are
         practice.
`bulk`   A backup or a copy. 10 Mbit/s, that is 4.5 GB an hour, is a number to replace by one's own; 1280 octets
         are what RFC 8200 asks of every IPv6 link, and so what tunnels are made for; 1 % loss is practice: beyond
         it a TCP flow over 50 ms gets less than 3 Mbit/s (Mathis et al. 1997).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

from requestor.e_model import G711, Codec
from requestor.query import DEFAULT_MAX_AGE_S
from schemas.errors import UsageError
from schemas.metrics import METRICS, Composition, Registry
from schemas.verdict import Sense

R_FACTOR: Final = "r-factor"
"""A limit on the E-model's estimate; no metric that a point measures."""
R_UNIT: Final = "R"
QUANTILES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"delay": ("p50", "p95", "p99"), "jitter": ("p99",)}
)
"""Of a metric that has them. `jitter.p99` is the 99 % quantile of the delay less its minimum."""
CONFIGURED: Final = "configuration"
"""Source of a limit that an operator gives without saying more."""

_WHERE_MORE_IS_BETTER: Final = frozenset({"capacity", "mtu", "available-bandwidth"})
_MAX_AGE_S: Final = MappingProxyType(
    {
        # Measured all the time; older numbers say that it has stopped.
        **dict.fromkeys(("delay", "loss", "jitter", "rtt", "distribution", R_FACTOR), DEFAULT_MAX_AGE_S),
        "utilization": 60.0,
        # Measured on demand and at most once a minute; the load of a path changes within minutes.
        "available-bandwidth": 300.0,
    }
)
_MAX_AGE_OF_OTHERS_S: Final = 3600.0
"""They change with the route, and points forget them by themselves."""
_NAME_LENGTH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One bound on a value of the path, in the unit of the metric."""

    metric: str
    """Name in the registry, or R_FACTOR."""
    quantile: str | None = None
    """One of the metric's QUANTILES; None: the value of the metric."""
    sense: Sense
    bound: float
    source: str = CONFIGURED

    @property
    def name(self) -> str:
        """How people and documents call what is limited."""
        return self.metric if self.quantile is None else f"{self.metric}.{self.quantile}"

    @property
    def max_age_s(self) -> float:
        """How old the value may be and still decide."""
        return _MAX_AGE_S.get(self.metric, _MAX_AGE_OF_OTHERS_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """All limits of one purpose; at least one, each quantity once."""

    name: str
    limits: tuple[Limit, ...]
    codec: Codec = G711
    """Of the estimate, if the R-factor is limited."""

    def metrics(self, registry: Registry = METRICS) -> tuple[str, ...]:
        """What to ask for, in the order of the registry; metrics that it does not hold come last."""
        wanted = {name for limit in self.limits for name in _metrics_of(limit)}
        return (
            *(name for name in registry if name in wanted),
            *sorted(name for name in wanted if name not in registry),
        )

    @property
    def max_age_s(self) -> float:
        """The oldest data to accept in the question; each limit judges its own value's age."""
        return max(limit.max_age_s for limit in self.limits)


def _metrics_of(limit: Limit) -> tuple[str, ...]:
    if limit.metric == R_FACTOR:
        return ("delay", "loss", "jitter", "rtt", "distribution")
    if limit.metric == "delay":
        # Where clocks are not synchronized, the round-trip time still bounds the delay of one way.
        return ("delay", "rtt") if limit.quantile is None else ("delay", "distribution")
    if limit.metric == "jitter" and limit.quantile is not None:
        return ("delay", "distribution")
    if limit.metric == "jitter":
        # From the distributions of the segments it comes with a narrower interval.
        return ("jitter", "distribution")
    if limit.metric == "distribution":
        return ("delay", "distribution")  # delay alone says what the clocks are worth
    return (limit.metric,)


def is_composed(metric: str) -> bool:
    """Whether there is a value of the whole path; of a plug-in's metric nothing is known here."""
    return metric not in METRICS or METRICS[metric].composition is not Composition.LISTED


def senses_of(metric: str) -> tuple[Sense, ...]:
    """The senses in which a limit on it can be meant; of a plug-in's metric, both."""
    if metric == R_FACTOR or metric in _WHERE_MORE_IS_BETTER:
        return (Sense.AT_LEAST,)
    return (Sense.AT_MOST,) if metric in METRICS else (Sense.AT_MOST, Sense.AT_LEAST)


def profile_named(name: str, profiles: Mapping[str, Profile]) -> Profile:
    """The profile of that name.

    Raises:
        UsageError: there is none; names the known ones and suggests a near one.
    """
    if name in profiles:
        return profiles[name]
    near = get_close_matches(name[:_NAME_LENGTH], profiles, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UsageError("profile", name, f"one of {', '.join(sorted(profiles))}{hint}")


def _at_most(metric: str, bound: float, source: str, *, quantile: str | None = None) -> Limit:
    return Limit(metric=metric, quantile=quantile, sense=Sense.AT_MOST, bound=bound, source=source)


def _at_least(metric: str, bound: float, source: str) -> Limit:
    return Limit(metric=metric, sense=Sense.AT_LEAST, bound=bound, source=source)


BUILT_IN_PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            Profile(
                name="voice",
                limits=(
                    _at_most("delay", 150.0, "ITU-T G.114"),
                    _at_most("jitter", 50.0, "after ITU-T Y.1541 classes 0 and 1", quantile="p99"),
                    _at_most("loss", 0.01, "practice"),
                    _at_least(R_FACTOR, 70.0, "ITU-T G.109, medium quality"),
                ),
            ),
            Profile(
                name="video",
                limits=(
                    _at_most("delay", 150.0, "ITU-T G.114"),
                    _at_most("jitter", 50.0, "after ITU-T Y.1541 classes 0 and 1", quantile="p99"),
                    _at_most("loss", 0.01, "ITU-T G.1010, videophone"),
                    _at_least("available-bandwidth", 2.5, "practice, 720p"),
                ),
            ),
            Profile(
                name="game",
                limits=(
                    _at_most("rtt", 100.0, "3GPP TS 23.501, 5QI 3"),
                    _at_most("jitter", 30.0, "practice", quantile="p99"),
                    _at_most("loss", 0.01, "practice"),
                ),
            ),
            Profile(
                name="bulk",
                limits=(
                    _at_least("available-bandwidth", 10.0, "practice, 4.5 GB an hour"),
                    _at_least("mtu", 1280.0, "RFC 8200 section 5"),
                    _at_most("loss", 0.01, "practice"),
                ),
            ),
        )
    }
)
