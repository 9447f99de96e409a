from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from prober.plugins.command_metric import command_metric
from prober.plugins.plugin import MetricPlugin, Sample
from prober.plugins.runner import Outcome, PluginRunner
from schemas.errors import NoAnswerError
from schemas.metrics import Composition, Metric, ScalarStatistics

METRIC = Metric(
    name="greeting", unit="ms", statistics=ScalarStatistics, composition=Composition.SUM, source="a test"
)
OWN = "192.0.2.1"
Measure = Callable[[str, str], Awaitable[Sample]]


@dataclass(frozen=True)
class Scripted:
    """A plug-in that does what the test says; it is faster than a real one may be."""

    script: Measure
    metric: Metric = METRIC
    interval_s: float = 0.05
    timeout_s: float = 0.05

    async def measure(self, own: str, peer: str) -> Sample:
        return await self.script(own, peer)


@dataclass
class Daemon:
    """What the runner tells."""

    peers: list[str] = field(default_factory=lambda: ["192.0.2.2"])
    values: dict[tuple[str, str], ScalarStatistics] = field(default_factory=dict)
    given: int = 0
    withdrawn: list[tuple[str, str]] = field(default_factory=list)

    def give(self, peer: str, metric: str, statistics: ScalarStatistics) -> None:
        self.values[peer, metric] = statistics
        self.given += 1

    def withdraw(self, peer: str, metric: str) -> None:
        del self.values[peer, metric]
        self.withdrawn.append((peer, metric))

    def runner(self, *plugins: MetricPlugin) -> PluginRunner:
        return PluginRunner(
            OWN,
            plugins,
            peers=lambda: self.peers,
            give=self.give,
            withdraw=self.withdraw,
            now_ns=lambda: 1_700_000_000_123_456_789,
            random_source=random.Random(1),
        )


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_true():
            await asyncio.sleep(0.01)


def run(plugin: MetricPlugin, is_done: Callable[[Daemon, PluginRunner], bool]) -> tuple[Daemon, PluginRunner]:
    daemon = Daemon()
    runner = daemon.runner(plugin)

    async def main() -> None:
        runner.start()
        try:
            await until(lambda: is_done(daemon, runner))
        finally:
            await runner.close()
            await runner.close()

    asyncio.run(main())
    return daemon, runner


def counted(runner: PluginRunner, outcome: Outcome) -> int:
    return runner.counters()["greeting"].get(outcome, 0)


def test_a_value_is_given_for_each_segment_with_its_time() -> None:
    asked = []

    async def measure(own: str, peer: str) -> Sample:
        asked.append((own, peer))
        return Sample(count=5, value=float(peer[-1]), low=1.0, high=9.0)

    daemon = Daemon(peers=["192.0.2.2", "192.0.2.3"])

    async def main() -> None:
        runner = daemon.runner(Scripted(measure, interval_s=1))
        runner.start()
        await until(lambda: len(daemon.values) == 2)
        await runner.close()

    asyncio.run(main())
    assert set(asked) == {(OWN, "192.0.2.2"), (OWN, "192.0.2.3")}
    assert daemon.values["192.0.2.3", "greeting"] == ScalarStatistics(
        count=5, value=3.0, low=1.0, high=9.0, measured_at_ms=1_700_000_000_123
    )


async def raise_no_answer(own: str, peer: str) -> Sample:
    raise NoAnswerError("nobody\nspoke")


async def raise_key_error(own: str, peer: str) -> Sample:
    raise KeyError("tool")


async def raise_timeout(own: str, peer: str) -> Sample:
    raise TimeoutError("a time-out of its own")


async def give_number(own: str, peer: str) -> Sample:
    return 7.0  # type: ignore[return-value]  # as a plug-in that nobody type-checked


async def give_ratio_of_2(own: str, peer: str) -> Sample:
    return Sample.exact(2.0)


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (raise_no_answer, "nobody spoke"),
        (raise_key_error, "KeyError: 'tool'"),
        (raise_timeout, "TimeoutError: a time-out of its own"),
        (give_number, "got float, expected a Sample"),
        (give_ratio_of_2, "expected a ratio from 0 to 1"),
    ],
)
def test_whatever_goes_wrong_is_counted_and_said_once(
    caplog: pytest.LogCaptureFixture, script: Measure, text: str
) -> None:
    plugin = Scripted(script, metric=replace(METRIC, unit="ratio"))
    daemon, runner = run(plugin, lambda _, runner: counted(runner, Outcome.FAILED) >= 2)
    assert daemon.given == 0
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith("plug-in greeting, segment to 192.0.2.2: ")
    assert text in warnings[0]


def test_a_measurement_that_takes_too_long_is_cancelled_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    cancelled = []

    async def hang(own: str, peer: str) -> Sample:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(peer)
            raise
        raise AssertionError

    _, runner = run(Scripted(hang), lambda _, runner: counted(runner, Outcome.TIMED_OUT) >= 1)
    assert cancelled[0] == "192.0.2.2"
    assert "got nothing within 0.05 s, expected a value by then" in caplog.text


def test_failures_withdraw_the_value_and_a_success_gives_it_again() -> None:
    calls = 0

    async def flicker(own: str, peer: str) -> Sample:
        nonlocal calls
        calls += 1
        if calls in range(2, 5):
            raise NoAnswerError("not now")
        return Sample.exact(calls)

    daemon, runner = run(Scripted(flicker, interval_s=0.3), lambda daemon, _: calls >= 5 and bool(daemon.values))
    assert set(daemon.withdrawn) == {("192.0.2.2", "greeting")}
    assert counted(runner, Outcome.WITHDRAWN) == len(daemon.withdrawn)
    assert counted(runner, Outcome.FAILED) == 3
    assert daemon.values["192.0.2.2", "greeting"].value >= 5


def test_a_segment_that_is_gone_loses_its_value() -> None:
    async def measure(own: str, peer: str) -> Sample:
        return Sample.exact(1.0)

    daemon = Daemon()

    async def main() -> None:
        runner = daemon.runner(Scripted(measure, interval_s=2))
        runner.start()
        await until(lambda: daemon.given > 0)
        daemon.peers.clear()
        await until(lambda: not daemon.values)
        await runner.close()

    asyncio.run(main())
    assert daemon.withdrawn == [("192.0.2.2", "greeting")]


def test_a_runner_without_plug_ins_does_nothing_and_can_be_closed() -> None:
    daemon = Daemon()

    async def main() -> None:
        runner = daemon.runner()
        runner.start()
        await runner.close()
        assert runner.counters() == {}
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_a_program_is_run_like_any_other_plug_in() -> None:
    command = ["echo", '{"value": 3, "count": 2}']
    program = command_metric(
        "greeting", unit="ms", composition=Composition.SUM, command=command, interval_s=1, timeout_s=1
    )
    daemon, runner = run(program, lambda daemon, _: daemon.given >= 1)
    assert daemon.values["192.0.2.2", "greeting"].value == 3.0
    assert counted(runner, Outcome.MEASURED) >= 1


def test_closing_ends_a_program_that_runs(tmp_path: Path) -> None:
    daemon = Daemon()
    pid = tmp_path / "pid"
    command = ["sh", "-c", f"echo $$ > {pid}; exec sleep 61"]
    program = command_metric(
        "greeting", unit="ms", composition=Composition.SUM, command=command, interval_s=1, timeout_s=1
    )

    async def main() -> float:
        runner = daemon.runner(program)
        runner.start()
        await until(lambda: pid.exists() and pid.read_text().endswith("\n"))
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await runner.close()
        return loop.time() - began_s

    assert asyncio.run(main()) < 0.5
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()
