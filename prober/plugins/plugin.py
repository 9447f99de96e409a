"""A metric that something else measures: what a plug-in gives, and how those that are installed are found.

A plug-in measures one segment when it is asked to and returns a `Sample`. It is a Python object that a
distribution registers as an entry point of the group `inpath.metrics`, or a program that the configuration names
(`prober.plugins.command_metric`). `docs/plugins.md` is the manual for those who write one.
"""

from __future__ import annotations

import inspect
import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Final, Protocol, TypeGuard, runtime_checkable

from schemas.errors import ConfigurationError, HostError, UsageError
from schemas.intervals import t_quantile
from schemas.metrics import METRIC_NAME, METRICS, Composition, Metric, ScalarStatistics

ENTRY_POINT_GROUP: Final = "inpath.metrics"
RATIO: Final = "ratio"
"""The one unit that says where its values lie: 0 to 1."""
VALUE_LIMIT: Final = 1e15
"""A record has room for 15 digits before the point."""
COUNT_LIMIT: Final = 10**15
LEAST_INTERVAL_S: Final = 1.0
GREATEST_INTERVAL_S: Final = 86_400.0
LEAST_TIMEOUT_S: Final = 0.1
GREATEST_TIMEOUT_S: Final = 600.0
_UNIT = re.compile(r"[A-Za-z0-9%/^.-]{1,16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One result of a measurement, in the metric's unit.

    Raises:
        UsageError: a number that is not finite or not in order, or that no record has room for.
    """

    count: int
    """Single measurements, or packets, that the value rests on; 1 means that nothing is known of the spread."""
    value: float
    low: float
    high: float
    """Of the 95 % interval; both are the value itself where it has none."""

    def __post_init__(self) -> None:
        if not _is_whole(self.count) or not 1 <= self.count < COUNT_LIMIT:
            raise UsageError("count", self.count, "a whole number from 1 to 10^15 - 1")
        for field in ("value", "low", "high"):
            number = getattr(self, field)
            if not _is_number(number) or not -VALUE_LIMIT < number < VALUE_LIMIT:
                raise UsageError(field, number, "a finite number between -10^15 and 10^15")
        if not self.low <= self.value <= self.high:
            raise UsageError("low, value, high", f"{self.low}, {self.value}, {self.high}", "ascending order")

    @classmethod
    def exact(cls, value: float) -> Sample:
        """A single value of which no interval is known."""
        return cls(count=1, value=value, low=value, high=value)

    @classmethod
    def mean_of(cls, values: Sequence[float], *, least: float = -math.inf, most: float = math.inf) -> Sample:
        """The mean of independent values, with Student's t interval.

        Args:
            least, most: where values can lie at all, which cuts the interval.

        Raises:
            UsageError: fewer than two values, which tell nothing of their spread, or a mean beyond the bounds.
        """
        if len(values) < 2 or not all(math.isfinite(value) for value in values):
            raise UsageError("values", list(values), "at least 2 finite numbers")
        mean = statistics.fmean(values)
        half_width = t_quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
        return cls(
            count=len(values), value=mean, low=max(least, mean - half_width), high=min(most, mean + half_width)
        )

    def to_statistics(self, metric: Metric, *, measured_at_ms: int) -> ScalarStatistics:
        """What a record carries.

        Raises:
            UsageError: a ratio beyond 0 to 1.
        """
        if metric.unit == RATIO and not 0 <= self.low <= self.high <= 1:
            raise UsageError("low, high", f"{self.low}, {self.high}", "a ratio from 0 to 1")
        return ScalarStatistics(
            count=self.count,
            value=float(self.value),
            low=float(self.low),
            high=float(self.high),
            measured_at_ms=measured_at_ms,
        )


@runtime_checkable
class MetricPlugin(Protocol):
    """What measures one metric of any segment."""

    @property
    def metric(self) -> Metric:
        """Name, unit and composition; its statistics are `ScalarStatistics`."""

    @property
    def interval_s(self) -> float:
        """Expected time from one measurement of a segment to the next, seconds."""

    @property
    def timeout_s(self) -> float:
        """The longest that one measurement may take, seconds; then it is cancelled."""

    async def measure(self, own: str, peer: str) -> Sample:
        """Measure the segment between this point and a neighboring one, once.

        It runs on the event loop of the daemon, so it must never block. Any exception is a measurement that
        failed; its text goes to the log.

        Args:
            own: IPv4 address of this point.
            peer: IPv4 address of the neighbor.
        """


def check_plugin(plugin: MetricPlugin, field: str) -> None:
    """Check what a plug-in says of itself.

    Args:
        field: what to call it in errors.

    Raises:
        ConfigurationError: it cannot be meant.
    """
    metric = plugin.metric
    if not isinstance(metric, Metric) or metric.statistics is not ScalarStatistics:
        raise ConfigurationError(f"{field}.metric", metric, "a Metric whose statistics are ScalarStatistics")
    if METRIC_NAME.fullmatch(metric.name) is None:
        raise ConfigurationError(f"{field}.name", metric.name, "lower-case letters, digits, hyphens, at most 32")
    if metric.name in METRICS:
        raise ConfigurationError(f"{field}.name", metric.name, "a name that no metric of inpath has")
    if _UNIT.fullmatch(metric.unit) is None:
        raise ConfigurationError(f"{field}.unit", metric.unit, "1 to 16 letters, digits, or % / ^ . -")
    _check_composition(metric, field)
    _check_time(f"{field}.interval_s", plugin.interval_s, LEAST_INTERVAL_S, GREATEST_INTERVAL_S)
    most_s = min(plugin.interval_s, GREATEST_TIMEOUT_S)
    _check_time(f"{field}.timeout_s", plugin.timeout_s, LEAST_TIMEOUT_S, most_s)


def load_plugins(enabled: Sequence[str], commands: Sequence[MetricPlugin] = ()) -> tuple[MetricPlugin, ...]:
    """The enabled Python plug-ins and the configured programs, in this order.

    Args:
        enabled: names of entry points of the group `inpath.metrics`; each is its metric's name too.
        commands: plug-ins that the configuration describes itself, each checked.

    Raises:
        ConfigurationError: a name that is unknown or taken, or a plug-in that cannot be meant.
        HostError: a plug-in that cannot be imported.
    """
    plugins: dict[str, MetricPlugin] = {}
    for name in enabled:
        if name in plugins:
            raise ConfigurationError("plugins.enabled", name, "each name once")
        plugins[name] = _load(name)
    for command in commands:
        if command.metric.name in plugins:
            raise ConfigurationError("plugins.commands", command.metric.name, "a name that no other plug-in has")
        plugins[command.metric.name] = command
    return tuple(plugins.values())


def _load(name: str) -> MetricPlugin:
    installed = entry_points(group=ENTRY_POINT_GROUP)
    found = {point.value: point for point in installed.select(name=name)}
    if not found:
        known = ", ".join(sorted(installed.names)) or "none"
        raise ConfigurationError("plugins.enabled", name, f"names of installed plug-ins ({known})")
    if len(found) > 1:
        raise ConfigurationError("plugins.enabled", name, f"one plug-in of that name, not {', '.join(found)}")
    ((value, point),) = found.items()
    where = f"plug-in {name} ({value})"
    try:
        plugin: Any = point.load()
    except Exception as error:  # importing runs code of others
        raise HostError(f"{where}: cannot be loaded: {type(error).__name__}: {error}") from error
    if not _is_plugin(plugin):
        expected = "an object with metric, interval_s, timeout_s and async measure(own, peer)"
        raise ConfigurationError(where, plugin, expected)
    check_plugin(plugin, where)
    if plugin.metric.name != name:
        raise ConfigurationError(where, plugin.metric.name, f"a metric of the entry point's name, {name}")
    return plugin


def _is_plugin(loaded: object) -> TypeGuard[MetricPlugin]:
    if isinstance(loaded, type) or not isinstance(loaded, MetricPlugin):
        return False  # a class has the attributes of its objects, too
    return inspect.iscoroutinefunction(loaded.measure)


def _check_composition(metric: Metric, field: str) -> None:
    match metric.composition:
        case Composition.SUM | Composition.MINIMUM | Composition.MAXIMUM | Composition.LISTED:
            return
        case Composition.COMPLEMENT_PRODUCT if metric.unit == RATIO:
            return
    expected = "sum, minimum, maximum, listed, or for the unit ratio complement-product"
    raise ConfigurationError(f"{field}.composition", str(metric.composition), expected)


def _check_time(field: str, value: object, least: float, most: float) -> None:
    if not _is_number(value) or not least <= value <= most:
        raise ConfigurationError(field, value, f"a number from {least:g} to {most:g}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
