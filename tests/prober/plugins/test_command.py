from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.plugins.command_metric import CommandMetric, command_metric, sample_from_json
from prober.plugins.plugin import Sample
from schemas.errors import ConfigurationError, HostError, UsageError
from schemas.metrics import Composition

OWN, PEER = "192.0.2.1", "192.0.2.2"


def program(*command: str, **options: Any) -> CommandMetric:
    return command_metric("tool", unit="ms", composition=Composition.SUM, command=command, **options)


def python(source: str, *arguments: str) -> CommandMetric:
    return program(sys.executable, "-I", "-c", source, *arguments)


def measure(metric: CommandMetric, *, limit_s: float = 20) -> Sample:
    async def main() -> Sample:
        async with asyncio.timeout(limit_s):
            return await metric.measure(OWN, PEER)

    return asyncio.run(main())


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_what_a_program_prints_is_the_sample() -> None:
    metric = program("echo", '{"value": 2.5, "low": 2, "high": 3, "count": 7}')
    assert measure(metric) == Sample(count=7, value=2.5, low=2, high=3)


def test_a_value_alone_is_one_measurement_without_an_interval() -> None:
    assert measure(program("echo", '{"value": 4}')) == Sample(count=1, value=4, low=4, high=4)


def test_the_addresses_stand_where_the_placeholders_were_and_other_braces_stay(tmp_path: Path) -> None:
    got = tmp_path / "got"
    source = "import json, sys; json.dump(sys.argv[2:], open(sys.argv[1], 'w')); print('{\"value\": 1}')"
    others = ["%{time_connect}", "$HOME; `id`", "{other}"]
    measure(python(source, str(got), "--from={own}", "{peer}", "{peer}:{peer}", *others))
    assert json.loads(got.read_text()) == [f"--from={OWN}", PEER, f"{PEER}:{PEER}", *others]


def test_a_program_gets_no_input_and_two_variables() -> None:
    source = """
import json, os, sys
assert sys.stdin.read() == "" and os.getcwd() == "/"
assert set(os.environ) - {"LC_CTYPE"} == {"PATH", "LC_ALL"}, os.environ
assert os.getsid(0) == os.getpid()
json.dump({"value": len(os.listdir("/proc/self/fd"))}, sys.stdout)
"""
    # Standard input and outputs, and the directory itself.
    assert measure(python(source)).value == 4


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("no-such-program-of-ours",), "no-such-program-of-ours: cannot be started (No such file or directory)"),
        (("/etc/passwd",), "/etc/passwd: cannot be started (Permission denied), expected an executable program"),
        (("sh", "-c", "echo no way >&2; exit 3"), "sh: end: got 'exit code 3: no way', expected exit code 0 and"),
        (("sh", "-c", 'echo {"value": 1}; exit 1'), "got 'exit code 1: {value: 1}'"),
        (("sh", "-c", "kill -SEGV $$"), "got 'signal 11: '"),
        (("true",), "true: output: got '', expected exit code 0 and one JSON object"),
        (("echo", "12 ms"), "got '12 ms'"),
        (("echo", "[1]"), "got '[1]'"),
        (("echo", '{"value": 1}{"value": 2}'), "expected exit code 0 and one JSON object"),
        (("echo", '{"value": 1, "unit": "ms"}'), "expected exit code 0 and one JSON object"),
        (("echo", '{"count": 1}'), "expected exit code 0 and one JSON object"),
        (("echo", '{"value": NaN}'), "expected exit code 0 and one JSON object"),
        (("echo", '{"value": 1e999}'), "value: got inf, expected a finite number"),
        (("echo", '{"value": null}'), "value: got None"),
        (("echo", '{"value": 1, "low": 0}'), "expected low and high, or neither"),
        (("echo", '{"value": 1, "low": 2, "high": 3}'), "expected ascending order"),
        (("printf", r"\377"), "expected exit code 0 and one JSON object"),
    ],
)
def test_a_program_that_gives_no_sample_is_told_what_was_expected(command: tuple[str, ...], text: str) -> None:
    with pytest.raises(HostError) as raised:
        measure(program(*command))
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_output_is_a_sample_or_refused(data: bytes) -> None:
    try:
        assert sample_from_json(data).count >= 1
    except UsageError as error:
        assert "expected" in str(error)


def test_deep_or_long_output_is_refused_too() -> None:
    for data in (b"[" * 60_000, b'{"value": ' + b"9" * 60_000 + b"}"):
        with pytest.raises(UsageError):
            sample_from_json(data)


@pytest.mark.parametrize("descriptor", [1, 2])
def test_a_program_that_never_stops_writing_is_stopped(descriptor: int) -> None:
    began_s = time.monotonic()
    with pytest.raises(HostError, match="got 'more than 65536 octets'"):
        measure(program("sh", "-c", f"exec yes >&{descriptor}"))
    assert time.monotonic() - began_s < 5


def test_output_to_the_last_octet_of_the_bound_is_taken() -> None:
    padding = 65_536 - len('{"value": 1}')
    assert measure(python(f"print(' ' * {padding} + '{{\"value\": 1}}', end='')")).value == 1
    with pytest.raises(HostError, match="more than 65536"):
        measure(python(f"print(' ' * {padding + 1} + '{{\"value\": 1}}', end='')"))


def test_a_program_that_takes_too_long_is_killed_with_all_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sleep 62 & echo $$ $! > {pids}; wait"
    with pytest.raises(TimeoutError):
        measure(program("sh", "-c", script), limit_s=0.7)
    leader, child = (int(pid) for pid in pids.read_text().split())
    assert not is_alive(leader)
    assert not is_alive(child)
    with pytest.raises(ProcessLookupError):
        os.kill(leader, 0)  # not even a zombie is left


def test_a_child_that_stays_behind_with_the_output_open_holds_up_nothing_and_is_killed(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"sleep 63 & echo $! > {pid}; echo '{{\"value\": 1}}'"
    began_s = time.monotonic()
    assert measure(program("sh", "-c", script)).value == 1
    assert time.monotonic() - began_s < 5
    give_up_at_s = time.monotonic() + 5
    while is_alive(int(pid.read_text())) and time.monotonic() < give_up_at_s:
        time.sleep(0.01)  # the kernel ends it after the signal, in its own time
    assert not is_alive(int(pid.read_text()))


def test_a_hundred_runs_leave_no_descriptor_open() -> None:
    async def main() -> tuple[int, int]:
        good, bad = program("echo", '{"value": 1}'), program("false")
        counts = []
        for _ in range(2):
            for _ in range(25):
                await good.measure(OWN, PEER)
                with pytest.raises(HostError):
                    await bad.measure(OWN, PEER)
            counts.append(len(os.listdir("/proc/self/fd")))
        return counts[0], counts[1]

    first, second = asyncio.run(main())
    assert first == second


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"command": []}, "plugins.commands.tool.command"),
        ({"command": [""]}, "plugins.commands.tool.command"),
        ({"command": ["a", 1]}, "plugins.commands.tool.command"),
        ({"command": ["a\0b"]}, "plugins.commands.tool.command"),
        ({"command": ["a"] * 65}, "plugins.commands.tool.command"),
        ({"unit": "a b"}, "plugins.commands.tool.unit"),
        ({"composition": Composition.DISTRIBUTION}, "plugins.commands.tool.composition"),
        ({"interval_s": 0.5}, "plugins.commands.tool.interval_s"),
        ({"timeout_s": 61}, "plugins.commands.tool.timeout_s"),
    ],
)
def test_a_program_that_cannot_be_meant_names_the_key(changes: dict[str, Any], field: str) -> None:
    whole = {"unit": "ms", "composition": Composition.SUM, "command": ["true"], **changes}
    with pytest.raises(ConfigurationError) as raised:
        command_metric("tool", **whole)
    assert raised.value.field == field
