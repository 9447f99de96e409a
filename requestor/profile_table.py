"""Profiles of the configuration: the tables `[profiles.NAME]` as values, checked once (pure).

[profiles.trading]
rtt = { at_most = 20 }
delay = { at_most = 8, p95 = { at_most = 12, source = "contract 17" } }
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from requestor.e_model import CODECS, G711
from requestor.profile import (
    BUILT_IN_PROFILES,
    CONFIGURED,
    QUANTILES,
    R_FACTOR,
    Limit,
    Profile,
    is_composed,
    senses_of,
)
from schemas.errors import ConfigurationError
from schemas.metrics import METRIC_NAME, METRICS
from schemas.verdict import Sense

_KEYS: Final = {Sense.AT_MOST: "at_most", Sense.AT_LEAST: "at_least"}
MAX_BOUND: Final = 1e12
"""More than any unit of a metric needs."""
MAX_R: Final = 93.0
"""Just below what a path without any impairment reaches."""


def profiles_from_configuration(content: Mapping[str, Any]) -> dict[str, Profile]:
    """The built-in profiles and those of a whole configuration; one of the same name replaces a built-in one.

    Args:
        content: the tables of the file; `plugins` names the metrics that there are besides the registry's.

    Raises:
        ConfigurationError: naming the key, the value, and what was expected.
    """
    tables = content.get("profiles", {})
    if not isinstance(tables, dict):
        raise ConfigurationError("profiles", tables, "a table")
    metrics = {*METRICS, R_FACTOR, *_plugin_metrics(content.get("plugins"))}
    own = {name: _profile(name, table, metrics) for name, table in tables.items()}
    return {**BUILT_IN_PROFILES, **own}


def _plugin_metrics(plugins: object) -> Iterator[str]:
    if not isinstance(plugins, dict):
        return
    for key in ("enabled", "commands"):  # a list of names, and tables by name
        names = plugins.get(key)
        if isinstance(names, list | dict):
            yield from (name for name in names if isinstance(name, str))


def _profile(name: str, table: object, metrics: set[str]) -> Profile:
    path = f"profiles.{name}"
    if METRIC_NAME.fullmatch(name) is None:
        raise ConfigurationError("profiles", name, "lower-case letters, digits and hyphens, at most 32")
    if not isinstance(table, dict):
        raise ConfigurationError(path, table, "a table")
    codec = table.get("codec", G711.name)
    if not isinstance(codec, str) or codec not in CODECS:
        raise ConfigurationError(f"{path}.codec", codec, f"one of {', '.join(CODECS)}")
    limits = tuple(
        limit
        for metric, values in table.items()
        if metric != "codec"
        for limit in _limits(path, metric, values, metrics)
    )
    if not limits:
        raise ConfigurationError(path, table, "at least one limit, as in delay = { at_most = 150 }")
    return Profile(name=name, limits=limits, codec=CODECS[codec])


def _limits(path: str, metric: str, values: object, metrics: set[str]) -> Iterator[Limit]:
    here = f"{path}.{metric}"
    if metric not in metrics:
        raise ConfigurationError(here, "...", f"codec, or one of the metrics {', '.join(sorted(metrics))}")
    if not is_composed(metric):
        raise ConfigurationError(
            here, "...", "a metric that has a value of the whole path; this one is only listed"
        )
    if not isinstance(values, dict):
        raise ConfigurationError(here, values, f"a limit such as {{ {_KEYS[senses_of(metric)[0]]} = 10 }}")
    quantiles = [quantile for quantile in QUANTILES.get(metric, ()) if quantile in values]
    rest = {key: value for key, value in values.items() if key not in quantiles}
    if rest or not quantiles:
        yield _limit(here, metric, None, rest)
    for quantile in quantiles:
        yield _limit(f"{here}.{quantile}", metric, quantile, values[quantile])


def _limit(path: str, metric: str, quantile: str | None, values: object) -> Limit:
    senses = senses_of(metric)
    expected = " or ".join(_KEYS[sense] for sense in senses)
    if not isinstance(values, dict):
        raise ConfigurationError(path, values, f"a table with {expected}")
    source = values.get("source", CONFIGURED)
    if not isinstance(source, str) or not source:
        raise ConfigurationError(f"{path}.source", source, "text that says where the number comes from")
    given = [key for key in values if key != "source"]
    sense = next((sense for sense in senses if given == [_KEYS[sense]]), None)
    if sense is None:
        raise ConfigurationError(path, ", ".join(given), f"{expected}, once, and source if you like")
    key = _KEYS[sense]
    bound = _bound(f"{path}.{key}", values[key], *_greatest(metric))
    return Limit(metric=metric, quantile=quantile, sense=sense, bound=bound, source=source)


def _greatest(metric: str) -> tuple[float, str]:
    """The greatest bound that makes sense, and the unit, if it is known."""
    if metric == R_FACTOR:
        return MAX_R, ""
    unit = METRICS[metric].unit if metric in METRICS else ""
    return (1.0 if unit == "ratio" else MAX_BOUND), unit


def _bound(path: str, value: object, most: float, unit: str) -> float:
    # The comparison is false for NaN, and takes integers that would overflow as a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        of_unit = f", in {unit}" if unit else ""
        raise ConfigurationError(path, value, f"a number above 0 and up to {most:g}{of_unit}")
    return float(value)
