from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNS, NEEDED = 3, 2


@pytest.mark.netns
@pytest.mark.slow
def test_the_interval_holds_what_cross_traffic_leaves_of_a_link() -> None:
    command = f"benchmarks/available_bandwidth.py --scenario 20/8 --seconds 12 --json --runs {RUNS}"
    finished = subprocess.run(
        (sys.executable, *command.split()), cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert finished.stdout, finished.stderr
    runs = json.loads(finished.stdout)
    assert len(runs) == RUNS
    assert sum(run["hit"] for run in runs) >= NEEDED, finished.stderr
    for run in runs:
        assert run["truth_mbit_s"] == pytest.approx(12, abs=1)
        assert run["seconds"] < 13
        assert run["load_ratio"] < 0.2
        assert run["high_mbit_s"] < 19.5, "the cross traffic must be seen"
