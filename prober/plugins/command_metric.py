"""A program of any language as a metric: it prints one JSON object on its standard output."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from prober.plugins.plugin import Sample, check_plugin
from prober.plugins.process import MOST_OUTPUT_BYTES, FinishedProgram, run_program
from schemas.errors import ConfigurationError, HostError, UsageError
from schemas.metrics import Composition, Metric, ScalarStatistics

DEFAULT_INTERVAL_S: Final = 60.0
DEFAULT_TIMEOUT_S: Final = 10.0
MOST_ARGUMENTS: Final = 64
_EXPECTED = 'exit code 0 and one JSON object {"value": .., "low": .., "high": .., "count": ..}'
_KEYS = frozenset({"value", "low", "high", "count"})
_SHOWN = 160


@dataclass(frozen=True, slots=True)
class CommandMetric:
    """A plug-in that starts a program for each measurement, never a shell.

    Args:
        command: the program, as a path or as a name that is looked for in the standard directories, and its
            arguments. Everywhere in it `{own}` and `{peer}` stand for the addresses of the segment's ends; other
            braces stay as they are.

    Raises:
        ConfigurationError: something that cannot be meant.
    """

    metric: Metric
    command: tuple[str, ...]
    interval_s: float = DEFAULT_INTERVAL_S
    timeout_s: float = DEFAULT_TIMEOUT_S

    def __post_init__(self) -> None:
        field = f"plugins.commands.{self.metric.name}"
        check_plugin(self, field)
        _check_command(self.command, f"{field}.command")

    async def measure(self, own: str, peer: str) -> Sample:
        """Run the program once.

        Raises:
            HostError: it gave no sample; names the program, what was got, and what was expected.
        """
        command = [argument.replace("{own}", own).replace("{peer}", peer) for argument in self.command]
        try:
            return _sample(await run_program(command))
        except UsageError as error:
            raise HostError(f"{command[0]}: {error}") from error


def command_metric(
    name: str,
    *,
    unit: str,
    composition: Composition,
    command: Sequence[str],
    interval_s: float = DEFAULT_INTERVAL_S,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> CommandMetric:
    """A plug-in from what the configuration says of it.

    Raises:
        ConfigurationError: see `CommandMetric`.
    """
    source = " ".join(map(str, command))  # checked below
    metric = Metric(name=name, unit=unit, statistics=ScalarStatistics, composition=composition, source=source)
    return CommandMetric(metric, tuple(command), interval_s, timeout_s)


def sample_from_json(data: bytes) -> Sample:
    """Read what a program printed; without `low` and `high` the interval is the value, without `count` it is 1.

    Raises:
        UsageError: anything else than one such object.
    """
    try:
        document = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # no UTF-8, no JSON, NaN, a number of thousands of digits
        raise UsageError("output", _shown(data), _EXPECTED) from None
    if not isinstance(document, dict) or "value" not in document or not document.keys() <= _KEYS:
        raise UsageError("output", _shown(data), _EXPECTED)
    if ("low" in document) != ("high" in document):
        raise UsageError("output", _shown(data), "low and high, or neither")
    return _sample_of(document)


def _sample_of(document: dict[str, Any]) -> Sample:
    value = document["value"]
    return Sample(
        count=document.get("count", 1),
        value=value,
        low=document.get("low", value),
        high=document.get("high", value),
    )


def _sample(finished: FinishedProgram) -> Sample:
    if finished.is_cut:
        raise UsageError("output", f"more than {MOST_OUTPUT_BYTES} octets", _EXPECTED)
    if finished.exit_code != 0:
        # What a program says last is mostly what it died of.
        got = f"{_end(finished.exit_code)}: {_shown((finished.complaint or finished.output)[-_SHOWN:])}"
        raise UsageError("end", got, _EXPECTED)
    return sample_from_json(finished.output)


def _end(exit_code: int) -> str:
    return f"exit code {exit_code}" if exit_code > 0 else f"signal {-exit_code}"


def _shown(data: bytes) -> str:
    return data[:_SHOWN].decode(errors="replace").strip()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _check_command(command: object, field: str) -> None:
    expected = f"a list of 1 to {MOST_ARGUMENTS} texts, the program and its arguments"
    if not isinstance(command, tuple) or not 1 <= len(command) <= MOST_ARGUMENTS:
        raise ConfigurationError(field, command, expected)
    if not all(isinstance(argument, str) and "\0" not in argument for argument in command) or not command[0]:
        raise ConfigurationError(field, list(command), expected)
