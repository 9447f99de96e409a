"""Fuzz targets in processes of their own, two at a time: `python -m tests.fuzz.campaign [TARGET ...]`."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.registry import TARGETS

AT_ONCE = 2
ANY_SEED = 0
"""The fuzzer draws one."""
GRACE_S = 60
"""For importing, for the inputs to begin with, and for the last input."""
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one target."""

    name: str
    executions: int
    slowest_ms: float
    """Processor time of the slowest input, with coverage woven in."""
    found: int
    """Inputs that reached something new."""
    fault: str
    """Empty, or what went wrong and with which input."""


def run(names: Sequence[str], *, seconds: int, folder: Path, seed: int = ANY_SEED) -> Iterator[Outcome]:
    """Fuzz each target for so long; outcomes in the order of the names.

    Args:
        names: of TARGETS.
        seconds: for each.
        folder: takes a folder for each.
        seed: of what is tried; the same one tries the same, as far as the time allows.
    """
    with ThreadPoolExecutor(AT_ONCE) as runners:
        yield from runners.map(lambda name: _fuzz(name, seconds, folder / name, seed), names)


def _fuzz(name: str, seconds: int, folder: Path, seed: int) -> Outcome:
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    command = [sys.executable, "-m", "tests.fuzz.run_target", name, str(folder), str(seconds), str(seed)]
    with log.open("wb") as output:
        try:
            code = subprocess.run(
                command, cwd=REPOSITORY, stdout=output, stderr=output, timeout=seconds + GRACE_S, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
    return _outcome(name, code, log.read_text(errors="replace"), folder)


def _outcome(name: str, code: int, log: str, folder: Path) -> Outcome:
    progress = folder / "progress"
    counted = re.search(r"stat::number_of_executed_units: (\d+)", log)
    broken = [repr(path.read_bytes()) for path in (folder / "broken").glob("*")]
    fault = "" if code == 0 and not broken else "\n".join((f"exit code {code}", log[-3000:], *broken))
    return Outcome(
        name=name,
        executions=int(counted[1]) if counted else 0,
        slowest_ms=json.loads(progress.read_text())["slowest_ms"] if progress.exists() else 0.0,
        found=sum(1 for _ in (folder / "new").glob("*")),
        fault=fault,
    )


def main() -> None:
    """Fuzz what the command line names, print a line for each target, and fail if one broke."""
    parser = argparse.ArgumentParser(description="Fuzz the decoders, driven by coverage.")
    parser.add_argument("target", nargs="*", metavar="TARGET", help=f"one of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--seconds", type=int, default=300, help="for each target [default: 300]")
    parser.add_argument("--folder", type=Path, help="keep what was found here, and go on from it the next time")
    wanted = parser.parse_args()
    names = wanted.target or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as temporary:
        outcomes = []
        for outcome in run(names, seconds=wanted.seconds, folder=wanted.folder or Path(temporary)):
            outcomes.append(outcome)
            _print(outcome)
    print(f"{sum(outcome.executions for outcome in outcomes)} executions")  # noqa: T201
    sys.exit(any(outcome.fault for outcome in outcomes))


def _print(outcome: Outcome) -> None:
    line = f"{outcome.name:14} {outcome.executions:10} executions, slowest {outcome.slowest_ms:7.3f} ms"
    print(f"{line}, {outcome.found} new inputs", outcome.fault, sep="\n" if outcome.fault else "", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
