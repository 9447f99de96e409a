from __future__ import annotations

import importlib.util
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.suite import command
from benchmarks.suite.baseline import FILE
from benchmarks.suite.benchmark import Benchmark, Effort, Figures, Outcome, Progress
from benchmarks.suite.catalog import ALONE, SUITE
from benchmarks.suite.chart import write_chart
from benchmarks.suite.display import number_text, show_outcome, spread_text
from benchmarks.suite.ratio import Spread
from benchmarks.suite.workshop import Workshop
from schemas.errors import HostError

OUTCOME = Outcome(
    tables=(
        Figures(
            title="Time",
            unit="us",
            columns=("1 record", "5 records"),
            rows={
                "inpath": (Spread(median=4, low=3, high=6), Spread(median=8, low=7, high=9)),
                "kernel": (None, Spread(median=1234, low=1234, high=1234)),
            },
        ),
    ),
    ratios={"memory_mb": Spread(median=80, low=79, high=81)},
    notes=("what must be known",),
)


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Effort]:
    """One benchmark that only notes how it was run."""
    runs: list[Effort] = []

    def run(effort: Effort, progress: Progress, _: Workshop) -> Outcome:
        progress("half", 1, 2)
        runs.append(effort)
        return OUTCOME

    monkeypatch.setattr(command, "SUITE", {"packet-path": Benchmark("packet-path", "of a test", run)})
    monkeypatch.setattr(command, "FILE", tmp_path / "baseline.json")
    monkeypatch.chdir(tmp_path)
    return runs


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    return command.main()


def test_one_object_is_printed_for_machines(
    suite: list[Effort], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(monkeypatch, "--json", "--short") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ratios"] == {"memory_mb": {"median": 80, "low": 79, "high": 81}}
    assert document["benchmarks"]["packet-path"]["notes"] == ["what must be known"]
    assert suite == [Effort.SHORT]


def test_tables_and_a_picture_are_made_for_people(
    suite: list[Effort], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run_command(monkeypatch, "packet-path", "--output", str(tmp_path / "pictures")) == 0
    shown = capsys.readouterr().out
    assert "4 (3 to 6)" in shown and "1,234" in shown and "at most 100" in shown
    assert (tmp_path / "pictures" / "packet-path.svg").exists()
    assert suite == [Effort.FULL]


@pytest.mark.parametrize(
    ("baseline_mb", "code", "word"), [(79, 0, ""), (50, 0, "1.60 TIMES"), (30, 1, "2.67 TIMES")]
)
def test_only_half_the_speed_fails(
    suite: list[Effort],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    baseline_mb: float,
    code: int,
    word: str,
) -> None:
    ratios = {"memory_mb": {"median": baseline_mb, "low": baseline_mb, "high": baseline_mb}}
    (tmp_path / "baseline.json").write_text(json.dumps({"ratios": ratios}))
    monkeypatch.setenv("COLUMNS", "200")
    assert run_command(monkeypatch) == code
    shown = capsys.readouterr().out
    assert word in shown
    assert ("TIMES WORSE" in shown) == bool(word)
    assert len(suite) == 1


def test_what_keeps_a_benchmark_from_running_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(*_: object) -> Outcome:
        raise HostError("building a lab needs root")

    monkeypatch.setattr(command, "SUITE", {"latency": Benchmark("latency", "of a test", fail)})
    monkeypatch.chdir(tmp_path)
    assert run_command(monkeypatch, "latency") == HostError.exit_code
    assert "needs root" in capsys.readouterr().err


def test_all_benchmarks_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(monkeypatch, "--list") == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == [*SUITE, *ALONE]


def test_a_program_that_stands_alone_gets_its_own_options(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_command(monkeypatch, "link-delay", "--seconds", "none") == 2
    assert "--seconds" in capfd.readouterr().err


def test_the_suite_knows_no_options_but_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(monkeypatch, "latency", "--seconds", "3")
    assert ended.value.code == 2
    assert "--seconds" in capsys.readouterr().err


@pytest.mark.parametrize("name", ALONE)
def test_each_program_that_stands_alone_is_there(name: str) -> None:
    assert importlib.util.find_spec(f"benchmarks.{name.replace('-', '_')}") is not None


def test_every_program_that_stands_alone_is_listed() -> None:
    folder = FILE.parent
    programs = {file.stem for file in folder.glob("*.py") if "def main(" in file.read_text()}
    assert {name.replace("-", "_") for name in ALONE} == programs - {"__main__"}


def test_a_picture_is_svg_that_shows_every_row_and_column(tmp_path: Path) -> None:
    text = write_chart(OUTCOME, tmp_path / "one.svg").read_text()
    ET.fromstring(text)
    for word in ("inpath", "kernel", "1 record", "5 records", "us", "1,234"):
        assert f">{word}<" in text


def test_the_same_figures_give_the_same_picture(tmp_path: Path) -> None:
    first, second = (write_chart(OUTCOME, tmp_path / name).read_bytes() for name in ("a.svg", "b.svg"))
    assert first == second


def test_what_was_not_measured_is_a_dash() -> None:
    assert spread_text(None) == "-"
    console = Console(width=100)
    with console.capture() as capture:
        show_outcome(console, OUTCOME)
    assert "│ kernel │          - │" in capture.get()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123"), (3.14159, "3.14"), (99.96, "100"), (123.6, "124"), (123456, "123,456")],
)
def test_numbers_have_three_digits_or_all_before_the_point(value: float, text: str) -> None:
    assert number_text(value) == text
