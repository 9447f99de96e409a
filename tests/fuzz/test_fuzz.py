"""Every decoder is fuzzed for a while, two at a time; `scripts/fuzz` does it for longer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import bounds
from tests.fuzz.bounds import Bounded, BoundsError
from tests.fuzz.campaign import Outcome, _outcome, run
from tests.fuzz.registry import TARGETS, target_named
from tests.fuzz.stamp import one_input as stamp_packets
from tests.fuzz.target import corpus

SECONDS = 20
SEED = 1
"""A test that passed once must not fail by chance; the campaign tries something else each time."""
LEAST_EXECUTIONS = 200
"""The sessions of STAMP are the slowest, on a busy machine with coverage woven in."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Outcome]]:
    folder = tmp_path_factory.mktemp("fuzz")
    yield {outcome.name: outcome for outcome in run(list(TARGETS), seconds=SECONDS, folder=folder, seed=SEED)}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_breaks_a_decoder_hangs_it_or_makes_it_grow(outcomes: dict[str, Outcome], name: str) -> None:
    outcome = outcomes[name]
    assert not outcome.fault, outcome.fault
    assert outcome.executions > LEAST_EXECUTIONS


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_before_does_no_harm_any_more(name: str) -> None:
    target = target_named(name)
    bounded = Bounded(target.one_input)
    inputs = [*target.seeds()[:100], *corpus(name), b"", b"\0", b"<", b"\xff" * 64]
    for data in inputs:
        bounded(data)
    assert bounded.executions == len(inputs)


@given(st.integers(0, 63), st.integers(0, 255), st.binary(max_size=300))
def test_any_octets_cause_nothing_but_probe_errors(control: int, kept: int, data: bytes) -> None:
    stamp_packets(bytes((control, kept)) + data)


def test_an_input_that_is_slow_every_time_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "LIMIT_MS", 1)

    def one_input(data: bytes) -> None:
        for _ in range(2000):
            sum(range(len(data)))

    slow = Bounded(one_input)
    slow(b"")
    with pytest.raises(BoundsError, match="5000 octets took"):
        slow(bytes(5000))


def test_an_input_that_was_slow_once_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "LIMIT_MS", 50)
    times: list[bytes] = []

    def slow_once(data: bytes) -> None:
        times.append(data)
        if len(times) == 1:
            sum(range(20_000_000))

    bounded = Bounded(slow_once)
    bounded(b"x")
    assert times == [b"x"] * bounds.ATTEMPTS
    assert bounded.slowest_ms < 50


def test_memory_that_grows_from_input_to_input_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(bounds, "MOST_NEW_BLOCKS", 1000)
    kept: list[list[object]] = []
    growing = Bounded(lambda data: kept.extend([object()] for _ in range(200)))
    with pytest.raises(BoundsError, match="blocks of memory more"):
        for _ in range(20):
            growing(b"x")
    steady = Bounded(lambda data: None)
    for _ in range(20):
        steady(b"x")


def test_a_broken_target_is_reported_with_the_input_that_broke_it(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "crash-1").write_bytes(b"\x00bad")
    outcome = _outcome("message", 77, "stat::number_of_executed_units: 12\nAssertionError", tmp_path)
    assert outcome.executions == 12
    assert outcome.fault == "exit code 77\nstat::number_of_executed_units: 12\nAssertionError\nb'\\x00bad'"


def test_a_target_that_ends_without_a_word_is_a_fault(tmp_path: Path) -> None:
    assert _outcome("message", -9, "", tmp_path).fault.startswith("exit code -9")
