"""The command `scripts/bench`: run benchmarks, show what they found, hold it against the baseline."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from benchmarks.suite.baseline import FILE, Verdict, baseline_from_text, changes
from benchmarks.suite.benchmark import Effort, Outcome
from benchmarks.suite.catalog import ALONE, FULL_ONLY, SUITE
from benchmarks.suite.chart import write_chart
from benchmarks.suite.display import progress_bar, show_outcome, show_ratios
from benchmarks.suite.ratio import Spread
from benchmarks.suite.workshop import Workshop
from schemas.errors import InpathError

DEFAULT_OUTPUT = Path("build/bench")
LOG_WIDTH = 160


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="How fast a measurement point is.")
    parser.add_argument("name", nargs="?", choices=[*SUITE, *ALONE], metavar="NAME", help="one; see --list")
    parser.add_argument("--list", action="store_true", help="say which benchmarks there are")
    parser.add_argument("--short", action="store_true", help="about a minute, with fewer and shorter readings")
    parser.add_argument("--json", action="store_true", help="print one object instead of tables")
    parser.add_argument(
        "--output", type=Path, default=DEFAULT_OUTPUT, help=f"directory of the pictures [{DEFAULT_OUTPUT}]"
    )
    return parser


def main() -> int:
    """Run what is asked for.

    Returns:
        0; 1 when a ratio has half the speed of the baseline; else what kept a benchmark from running.
    """
    options, others = _parser().parse_known_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and take the networks away
    if options.list:
        for name, summary in (*((one.name, one.summary) for one in SUITE.values()), *ALONE.items()):
            print(f"{name:22} {summary}")
        return 0
    if options.name in ALONE:
        flags = [f"--{flag}" for flag in ("short", "json") if getattr(options, flag)]
        module = f"benchmarks.{options.name.replace('-', '_')}"
        return subprocess.run([sys.executable, "-m", module, *flags, *others]).returncode
    if others:
        _parser().error(f"unknown: {' '.join(others)}")
    try:
        return _run(options)
    except InpathError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def _run(options: argparse.Namespace) -> int:
    effort = Effort.SHORT if options.short else Effort.FULL
    console = _console(to_stderr=options.json)
    outcomes: dict[str, Outcome] = {}
    ratios: dict[str, Spread] = {}
    with Workshop() as workshop:
        if effort.is_short and not options.name:
            workshop.start_all()
        for name in [options.name] if options.name else _names(effort):
            with progress_bar(name) as progress:
                outcomes[name] = SUITE[name].run(effort, progress, workshop)
            ratios |= outcomes[name].ratios
            show_outcome(console, outcomes[name])
            picture = write_chart(outcomes[name], options.output / f"{name}.svg")
            console.print(f"- picture: {picture}", style="dim", highlight=False)
    judged = changes(ratios, baseline_from_text(FILE.read_text()) if FILE.exists() else {})
    if ratios:
        show_ratios(console, ratios, judged)
    if options.json:
        print(json.dumps(_document(effort, outcomes, ratios), indent=1))
    return 1 if any(change.verdict is Verdict.HALVED for change in judged.values()) else 0


def _console(*, to_stderr: bool) -> Console:
    """The terminal as wide as it is; a log has room for the widest table."""
    console = Console(stderr=to_stderr)
    return console if console.is_terminal else Console(stderr=to_stderr, width=LOG_WIDTH)


def _names(effort: Effort) -> list[str]:
    """All of the suite; in the short form those that give the ratios of the baseline."""
    return [name for name in SUITE if not effort.is_short or name not in FULL_ONLY]


def _document(effort: Effort, outcomes: Mapping[str, Outcome], ratios: Mapping[str, Spread]) -> dict[str, object]:
    return {
        "effort": effort.value,
        "machine": {
            "kernel": platform.release(),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
        },
        "ratios": {name: spread.to_json() for name, spread in ratios.items()},
        "benchmarks": {
            name: {"tables": [table.to_json() for table in outcome.tables], "notes": list(outcome.notes)}
            for name, outcome in outcomes.items()
        },
    }
