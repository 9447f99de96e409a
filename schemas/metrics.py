"""Each metric once: name, unit, the statistics that a segment carries, how a path composes them, and the source.

A new metric is one new statistics class, one new entry in `METRICS`, and its element in `measurement.xsd`.
Statistics travel as attributes; `wire(...)` gives a field its short name there and its number of decimals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any


class Composition(StrEnum):
    """How the values of disjoint segments make the value of the path (RFC 6049)."""

    SUM = "sum"
    """Means and minima add (RFC 6049 sections 4.2.5 and 4.3.5)."""
    COMPLEMENT_PRODUCT = "complement-product"
    """1 - product of (1 - ratio) (RFC 6049 section 5.1.5)."""
    DISTRIBUTION = "distribution"
    """A quantile of the sum, from the cumulants of the segments (ITU-T Y.1541 clause 8); never a plain sum."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class JitterStatistics:
    """Delay variation of one direction of a segment (RFC 3393, RFC 5481, RFC 3550)."""

    count: int = wire("n")
    pdv_ms: float = wire("v", decimals=4)
    """PDV: 99.9 % quantile of the delay less its minimum (RFC 5481 section 4.2)."""
    ipdv_ms: float = wire("i", decimals=4)
    """Mean absolute IPDV of packets sent one after the other (RFC 3393); not composed."""
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


Statistics = DelayStatistics | LossStatistics | JitterStatistics | RoundTripStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What is known of a metric before anything is measured."""

    name: str
    unit: str
    statistics: type[Statistics]
    composition: Composition
    source: str


METRICS: Mapping[str, Metric] = MappingProxyType(
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
        )
    }
)
"""All metrics by name, in the order in which a record lists them."""


def headline(statistics: Statistics) -> float:
    """The one value that people mean by the metric's name, in the metric's unit."""
    match statistics:
        case DelayStatistics() | RoundTripStatistics():
            return statistics.mean_ms
        case JitterStatistics():
            return statistics.pdv_ms
        case LossStatistics():
            return statistics.lost / statistics.sent if statistics.sent else 0.0


def sample_count(statistics: Statistics) -> int:
    """How many packets the value rests on."""
    return statistics.sent if isinstance(statistics, LossStatistics) else statistics.count


def statistic_fields(kind: type[Statistics]) -> tuple[tuple[str, str, int, type], ...]:
    """The statistics of a kind in wire order: (field name, attribute name, decimals, int | float | bool)."""
    types: dict[str, type] = {"int": int, "float": float, "bool": bool}
    return tuple(
        (one.name, one.metadata["wire"], one.metadata["decimals"], types[str(one.type)]) for one in fields(kind)
    )
