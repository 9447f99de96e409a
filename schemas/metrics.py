"""Each metric once: name, unit, the statistics that a segment carries, how a path composes them, and the source.

A new metric is one new entry in a registry: `METRICS` holds those that every point knows, a plug-in adds its own.
Numbers of another shape than `ScalarStatistics` are a new statistics class and a new element in `measurement.xsd`.
Statistics travel as attributes; `wire(...)` gives a field its short name there and its number of decimals.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, get_args

from schemas.errors import ConfigurationError

METRIC_NAME: Final = re.compile(r"[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?")
"""Of metrics known here and of those that another version or a plug-in adds."""


class Composition(StrEnum):
    """How the values of disjoint segments make the value of the path (RFC 6049)."""

    SUM = "sum"
    """Means and minima add (RFC 6049 sections 4.2.5 and 4.3.5)."""
    COMPLEMENT_PRODUCT = "complement-product"
    """1 - product of (1 - ratio) (RFC 6049 section 5.1.5)."""
    DISTRIBUTION = "distribution"
    """A quantile of the sum: by convolution where all segments carry their distribution (RFC 6049 section 6.1.5),
    else from the cumulants of the segments (ITU-T Y.1541 clause 8); never a plain sum."""
    MINIMUM = "minimum"
    """The narrowest segment decides (RFC 5136, RFC 2215)."""
    MAXIMUM = "maximum"
    """The busiest segment decides."""
    LISTED = "listed"
    """Not combined: how the values of segments make one of the path is not known (RFC 5835 section 3)."""


def wire(name: str, *, decimals: int = 0) -> Any:
    """Declare a statistic's attribute name in the message and its digits after the point."""
    return field(metadata={"wire": name, "decimals": decimals})


@dataclass(frozen=True, slots=True, kw_only=True)
class DelayStatistics:
    """One-way delay of one direction of a segment, conditional on arrival (RFC 7679, RFC 6049 section 4.1.3)."""

    count: int = wire("n")
    mean_ms: float = wire("v", decimals=4)
    minimum_ms: float = wire("l", decimals=4)
    variance_ms2: float = wire("s2", decimals=6)
    third_moment_ms3: float = wire("s3", decimals=6)
    """Third central moment: adds over independent segments as the variance does."""
    upstream_clock_error_ms: float = wire("eu", decimals=4)
    """Bound on the clock error of the segment's first point (RFC 7679 section 3.7)."""
    current_clock_error_ms: float = wire("ec", decimals=4)
    synchronized: bool = wire("y")
    """Both clocks are synchronized to an external source; otherwise the value says little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossStatistics:
    """One-way loss of one direction of a segment (RFC 7680)."""

    sent: int = wire("n")
    lost: int = wire("k")
    threshold_ms: int = wire("w")
    """Waiting time after which a packet counts as lost: a parameter of the metric (RFC 7680 section 2.5)."""
    runs: int = wire("r")
    """How often one or more packets were lost in a row."""
    longest_run: int = wire("x")
    """Packets of the longest such row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JitterStatistics:
    """Delay variation of one direction of a segment (RFC 3393, RFC 5481, RFC 3550)."""

    count: int = wire("n")
    pdv_ms: float = wire("v", decimals=4)
    """PDV: 99.9 % quantile of the delay less its minimum (RFC 5481 section 4.2)."""
    ipdv_ms: float = wire("i", decimals=4)
    """Mean absolute IPDV of packets sent one after the other (RFC 3393); not composed."""
    signed_ipdv_ms: float = wire("m", decimals=4)
    """Mean signed IPDV; far from 0 only when the delay drifts. Not composed."""
    least_ipdv_ms: float = wire("il", decimals=4)
    greatest_ipdv_ms: float = wire("ih", decimals=4)
    interarrival_ms: float = wire("j", decimals=4)
    """Interarrival jitter of RFC 3550 section 6.4.1, in the order of arrival; not composed."""
    mean_pdv_ms: float = wire("a", decimals=4)
    variance_ms2: float = wire("s2", decimals=6)
    third_moment_ms3: float = wire("s3", decimals=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTripStatistics:
    """Two-way delay of a segment without the time inside the reflector (RFC 2681)."""

    count: int = wire("n")
    mean_ms: float = wire("v", decimals=4)
    minimum_ms: float = wire("l", decimals=4)
    variance_ms2: float = wire("s2", decimals=6)
    third_moment_ms3: float = wire("s3", decimals=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributionStatistics:
    """The one-way delay's whole distribution, as a histogram above its minimum (RFC 6049 section 6.1.5)."""

    count: int = wire("n")
    minimum_ms: float = wire("l", decimals=4)
    p50_ms: float = wire("p50", decimals=4)
    p95_ms: float = wire("p95", decimals=4)
    p99_ms: float = wire("p99", decimals=4)
    """Quantiles of the delay itself, from finer bins than those that travel (RFC 2330 section 11.3)."""
    bins: str = wire("b")
    """`schemas.histogram.Histogram` as text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalarStatistics:
    """One number with its 95 % interval, whatever made it."""

    count: int = wire("n")
    """Samples, or packets, that the value rests on."""
    value: float = wire("v", decimals=6)
    low: float = wire("l", decimals=6)
    high: float = wire("h", decimals=6)
    measured_at_ms: int = wire("t")
    """On the point's own clock, milliseconds since the Unix epoch: not every metric is measured all the time."""


Statistics = (
    DelayStatistics
    | LossStatistics
    | JitterStatistics
    | RoundTripStatistics
    | DistributionStatistics
    | ScalarStatistics
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What is known of a metric before anything is measured."""

    name: str
    unit: str
    statistics: type[Statistics]
    composition: Composition
    source: str


Registry = Mapping[str, Metric]
"""Metrics by name, in the order in which a record lists them."""


def _scalar(name: str, unit: str, composition: Composition, source: str) -> Metric:
    return Metric(name=name, unit=unit, statistics=ScalarStatistics, composition=composition, source=source)


METRICS: Registry = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric(
                name="delay",
                unit="ms",
                statistics=DelayStatistics,
                composition=Composition.SUM,
                source="RFC 7679, RFC 6049 section 4",
            ),
            Metric(
                name="loss",
                unit="ratio",
                statistics=LossStatistics,
                composition=Composition.COMPLEMENT_PRODUCT,
                source="RFC 7680, RFC 6049 section 5",
            ),
            Metric(
                name="jitter",
                unit="ms",
                statistics=JitterStatistics,
                composition=Composition.DISTRIBUTION,
                source="RFC 5481 section 4.2, RFC 6049 section 6",
            ),
            Metric(
                name="rtt",
                unit="ms",
                statistics=RoundTripStatistics,
                composition=Composition.SUM,
                source="RFC 2681",
            ),
            Metric(
                name="distribution",
                unit="ms",
                statistics=DistributionStatistics,
                composition=Composition.DISTRIBUTION,
                source="RFC 6049 section 6.1.5",
            ),
            _scalar("reordering", "ratio", Composition.LISTED, "RFC 4737 section 4.1"),
            _scalar("duplication", "ratio", Composition.LISTED, "RFC 5560 section 4.2"),
            _scalar("hops", "hops", Composition.SUM, "RFC 2215, from the TTL (RFC 8762 section 4.3.1)"),
            _scalar("mtu", "octets", Composition.MINIMUM, "RFC 8899, RFC 2215"),
            _scalar("capacity", "Mbit/s", Composition.MINIMUM, "RFC 5136 section 2.3"),
            _scalar("utilization", "ratio", Composition.MAXIMUM, "RFC 5136 section 2.4"),
            _scalar("available-bandwidth", "Mbit/s", Composition.MINIMUM, "RFC 5136 section 2.5"),
        )
    }
)
"""The metrics that every point knows; a registry with plug-ins begins with them."""


def registry_with(added: Iterable[Metric]) -> Registry:
    """`METRICS` and the given ones.

    Raises:
        ConfigurationError: a name that is taken, or that is none.
    """
    registry = dict(METRICS)
    for metric in added:
        if METRIC_NAME.fullmatch(metric.name) is None:
            raise ConfigurationError(
                "metric.name", metric.name, "lower-case letters, digits and hyphens, at most 32"
            )
        if metric.name in registry:
            raise ConfigurationError("metric.name", metric.name, "a name that no other metric has")
        registry[metric.name] = metric
    return MappingProxyType(registry)


def headline(statistics: Statistics) -> float:
    """The one value that people mean by the metric's name, in the metric's unit."""
    match statistics:
        case DelayStatistics() | RoundTripStatistics():
            return statistics.mean_ms
        case JitterStatistics():
            return statistics.pdv_ms
        case DistributionStatistics():
            return statistics.p99_ms
        case ScalarStatistics():
            return statistics.value
        case LossStatistics():
            return statistics.lost / statistics.sent if statistics.sent else 0.0


def sample_count(statistics: Statistics) -> int:
    """How many packets the value rests on."""
    return statistics.sent if isinstance(statistics, LossStatistics) else statistics.count


def statistic_fields(kind: type[Statistics]) -> tuple[tuple[str, str, int, type], ...]:
    """The statistics of a kind in wire order: (field name, attribute name, decimals, int | float | bool | str)."""
    return _FIELDS[kind]


_TYPES: Mapping[str, type] = MappingProxyType({"int": int, "float": float, "bool": bool, "str": str})
_FIELDS: Mapping[type, tuple[tuple[str, str, int, type], ...]] = MappingProxyType(
    {
        kind: tuple(
            (one.name, one.metadata["wire"], one.metadata["decimals"], _TYPES[str(one.type)])
            for one in fields(kind)
        )
        for kind in get_args(Statistics)
    }
)
