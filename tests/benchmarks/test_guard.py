"""The guard against a slower point: the suite's short form, held against what was accepted last."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.suite.baseline import FILE, LIMITS, Verdict, baseline_from_text, changes
from benchmarks.suite.ratio import Spread

ROOT = Path(__file__).parents[2]
LIMIT_S = 280


@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_figure_has_become_half_as_good(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    # What scripts/bench runs, without its look for packages: these tests are run by what has just looked.
    command = [sys.executable, "-m", "benchmarks", "--short", "--json", "--output", str(tmp_path)]
    with capsys.disabled():  # the tables and the warnings are for whoever reads the log
        run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S, check=False)
    assert run.stdout, "the suite could not be run; its reason is above"
    document = json.loads(run.stdout)
    ratios = {name: Spread(**spread) for name, spread in document["ratios"].items()}
    assert set(LIMITS) <= set(ratios)
    found = changes(ratios, baseline_from_text(FILE.read_text()))
    assert {name: one.text for name, one in found.items() if one.verdict is Verdict.HALVED} == {}
    assert run.returncode == 0
    assert all((tmp_path / f"{name}.svg").stat().st_size > 0 for name in document["benchmarks"])
