from __future__ import annotations

import importlib
import math
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.plugins.command_metric import command_metric
from prober.plugins.plugin import MetricPlugin, Sample, check_plugin, load_plugins
from schemas.errors import ConfigurationError, HostError, UsageError
from schemas.metrics import (
    METRICS,
    Composition,
    DelayStatistics,
    Metric,
    ScalarStatistics,
    registry_with,
)

METRIC = Metric(
    name="greeting", unit="ms", statistics=ScalarStatistics, composition=Composition.SUM, source="a test"
)
RATIO = replace(METRIC, unit="ratio")
MODULE = """
from dataclasses import dataclass
from prober.plugins.plugin import Sample
from schemas.metrics import Composition, Metric, ScalarStatistics

@dataclass(frozen=True)
class Plugin:
    name: str
    interval_s: float = 60.0
    timeout_s: float = 5.0

    @property
    def metric(self):
        return Metric(
            name=self.name, unit="ms", statistics=ScalarStatistics, composition=Composition.SUM, source=""
        )

    async def measure(self, own, peer):
        return Sample.exact(1.0)

class Blocking(Plugin):
    def measure(self, own, peer):
        return Sample.exact(1.0)

GOOD, OTHER, BUILT_IN = Plugin("good"), Plugin("other"), Plugin("delay")
NEVER_DONE = Plugin("good", interval_s=10.0, timeout_s=11.0)
BLOCKING = Blocking("good")
"""

Install = Callable[[Mapping[str, str]], None]


@dataclass(frozen=True)
class Plain:
    metric: Metric = METRIC
    interval_s: float = 60.0
    timeout_s: float = 5.0

    async def measure(self, own: str, peer: str) -> Sample:
        return Sample.exact(1.0)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Makes a module with plug-ins importable, and a distribution that registers some of them."""
    (tmp_path / "some_plugins.py").write_text(MODULE)
    (tmp_path / "broken_plugins.py").write_text("raise RuntimeError('out of ink')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "some_plugins", raising=False)

    def register(entries: Mapping[str, str]) -> None:
        number = sum(1 for _ in tmp_path.glob("*.dist-info"))
        directory = tmp_path / f"some_{number}-1.0.dist-info"
        directory.mkdir()
        (directory / "METADATA").write_text(f"Metadata-Version: 2.1\nName: some-{number}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in entries.items()]
        (directory / "entry_points.txt").write_text("\n".join(["[inpath.metrics]", *lines, ""]))
        importlib.invalidate_caches()

    return register


@given(
    st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=80),
)
def test_the_mean_of_any_values_has_them_around_it(values: list[float]) -> None:
    sample = Sample.mean_of(values)
    assert sample.count == len(values)
    assert sample.low <= sample.value <= sample.high
    assert sample.value == pytest.approx(statistics.fmean(values))


def test_the_interval_of_a_mean_is_that_of_student() -> None:
    # Tables of the t distribution: 2.776 with 4 degrees of freedom; standard error 1.58114 / sqrt(5).
    sample = Sample.mean_of([1.0, 2.0, 3.0, 4.0, 5.0])
    assert sample.high - sample.value == pytest.approx(2.776 * 0.70711, rel=1e-3)
    assert sample.value - sample.low == pytest.approx(2.776 * 0.70711, rel=1e-3)


def test_an_interval_ends_where_values_cannot_lie() -> None:
    sample = Sample.mean_of([0.0, 0.0, 1.0], least=0.0, most=1.0)
    assert (sample.low, sample.high) == (0.0, 1.0)


def test_a_mean_where_values_cannot_lie_is_refused_and_not_bent() -> None:
    with pytest.raises(UsageError, match="ascending"):
        Sample.mean_of([1.5, 1.6], most=1.0)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [1.0, math.inf]])
def test_a_mean_needs_two_finite_values(values: list[float]) -> None:
    with pytest.raises(UsageError, match="values: got .*expected at least 2 finite numbers"):
        Sample.mean_of(values)


@pytest.mark.parametrize(
    ("count", "value", "low", "high", "field"),
    [
        (0, 1.0, 1.0, 1.0, "count"),
        (1.0, 1.0, 1.0, 1.0, "count"),
        (True, 1.0, 1.0, 1.0, "count"),
        (10**15, 1.0, 1.0, 1.0, "count"),
        (1, math.nan, 1.0, 1.0, "value"),
        (1, 1.0, -math.inf, 1.0, "low"),
        (1, 1.0, 1.0, 1e15, "high"),
        (1, "1", 1.0, 1.0, "value"),
        (1, True, 1.0, 1.0, "value"),
        (1, 10**400, 1.0, 1.0, "value"),
        (1, 1.0, 1.1, 2.0, "low, value, high"),
        (1, 1.0, 0.1, 0.9, "low, value, high"),
    ],
)
def test_a_sample_that_cannot_be_names_what_is_wrong(
    count: Any, value: Any, low: Any, high: Any, field: str
) -> None:
    with pytest.raises(UsageError) as raised:
        Sample(count=count, value=value, low=low, high=high)
    assert raised.value.field == field


def test_a_sample_becomes_the_statistics_of_a_record() -> None:
    sample = Sample(count=3, value=2, low=1.5, high=4)
    assert sample.to_statistics(METRIC, measured_at_ms=17) == ScalarStatistics(
        count=3, value=2.0, low=1.5, high=4.0, measured_at_ms=17
    )


@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.5), (0.5, 1.1)])
def test_a_ratio_lies_from_0_to_1(low: float, high: float) -> None:
    sample = Sample(count=1, value=0.5, low=low, high=high)
    with pytest.raises(UsageError, match="a ratio from 0 to 1"):
        sample.to_statistics(RATIO, measured_at_ms=0)


@pytest.mark.parametrize(
    ("plugin", "field"),
    [
        (Plain(replace(METRIC, name="Greeting")), "p.name"),
        (Plain(replace(METRIC, name="rtt")), "p.name"),
        (Plain(replace(METRIC, unit="")), "p.unit"),
        (Plain(replace(METRIC, unit="m s")), "p.unit"),
        (Plain(replace(METRIC, statistics=DelayStatistics)), "p.metric"),
        (Plain(replace(METRIC, composition=Composition.DISTRIBUTION)), "p.composition"),
        (Plain(replace(METRIC, composition=Composition.COMPLEMENT_PRODUCT)), "p.composition"),
        (Plain(interval_s=0.9), "p.interval_s"),
        (Plain(interval_s=math.nan), "p.interval_s"),
        (Plain(interval_s=86_401), "p.interval_s"),
        (Plain(timeout_s=0.05), "p.timeout_s"),
        (Plain(interval_s=4.0), "p.timeout_s"),
    ],
)
def test_a_plug_in_that_cannot_be_meant_names_what_is_wrong(plugin: MetricPlugin, field: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        check_plugin(plugin, "p")
    assert raised.value.field == field


@pytest.mark.parametrize("composition", sorted(set(Composition) - {Composition.DISTRIBUTION}))
def test_a_ratio_may_have_any_composition_but_the_one_that_needs_a_distribution(composition: Composition) -> None:
    plugin = Plain(replace(RATIO, composition=composition))
    check_plugin(plugin, "p")
    assert registry_with([plugin.metric])["greeting"].composition is composition


def test_enabled_plug_ins_and_programs_are_found_and_make_a_registry(install: Install) -> None:
    install({"good": "some_plugins:GOOD", "other": "some_plugins:OTHER"})
    program = command_metric("program", unit="ms", composition=Composition.LISTED, command=["true"])
    plugins = load_plugins(["other", "good"], [program])
    assert [plugin.metric.name for plugin in plugins] == ["other", "good", "program"]
    registry = registry_with(plugin.metric for plugin in plugins)
    assert list(registry) == [*METRICS, "other", "good", "program"]


def test_nothing_that_is_not_enabled_is_even_imported(install: Install) -> None:
    install({"broken": "broken_plugins:PLUGIN"})
    assert load_plugins([]) == ()
    assert "broken_plugins" not in sys.modules


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ("no_such_module:PLUGIN", HostError, "cannot be loaded: ModuleNotFoundError"),
        ("some_plugins:MISSING", HostError, "cannot be loaded: AttributeError"),
        ("broken_plugins:PLUGIN", HostError, "cannot be loaded: RuntimeError: out of ink"),
        ("some_plugins:Plugin", ConfigurationError, "an object with metric"),
        ("some_plugins:MODULE", HostError, "cannot be loaded"),
        ("math:pi", ConfigurationError, "an object with metric"),
        ("some_plugins:BLOCKING", ConfigurationError, "async measure"),
        ("some_plugins:NEVER_DONE", ConfigurationError, "timeout_s: got 11.0"),
        ("some_plugins:OTHER", ConfigurationError, "a metric of the entry point's name"),
        ("some_plugins:BUILT_IN", ConfigurationError, "a name that no metric of inpath has"),
    ],
)
def test_a_plug_in_that_cannot_be_used_is_named_with_its_entry_point(
    install: Install, value: str, error: type[Exception], text: str
) -> None:
    install({"good": value})
    with pytest.raises(error, match=text) as raised:
        load_plugins(["good"])
    assert f"good ({value})" in str(raised.value)


def test_a_name_that_nobody_registers_is_refused_with_those_that_are(install: Install) -> None:
    install({"good": "some_plugins:GOOD"})
    with pytest.raises(ConfigurationError, match=r"plugins.enabled: got 'god', expected .*good"):
        load_plugins(["god"])


def test_two_plug_ins_of_one_name_are_refused(install: Install) -> None:
    program = command_metric("good", unit="ms", composition=Composition.SUM, command=["true"])
    install({"good": "some_plugins:GOOD"})
    with pytest.raises(ConfigurationError, match="each name once"):
        load_plugins(["good", "good"])
    with pytest.raises(ConfigurationError, match="plugins.commands: got 'good'"):
        load_plugins(["good"], [program])
    install({"good": "some_plugins:OTHER"})
    with pytest.raises(ConfigurationError, match="some_plugins:GOOD.*some_plugins:OTHER|OTHER.*GOOD"):
        load_plugins(["good"])
