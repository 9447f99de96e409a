"""The figures for people: tables and warnings on the terminal, a bar while it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.suite.baseline import Change, Verdict
from benchmarks.suite.benchmark import Figures, Outcome
from benchmarks.suite.benchmark import Progress as ProgressCallback
from benchmarks.suite.ratio import Spread

STYLES = {Verdict.FINE: "", Verdict.WORSE: "bold yellow", Verdict.HALVED: "bold red"}


@contextmanager
def progress_bar(name: str) -> Iterator[ProgressCallback]:
    """A bar on stderr, redrawn for each step; on a terminal only, since a log needs no bars."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"{name}: network", total=None)

        def show(stage: str, done: int, total: int) -> None:
            bar.update(task, description=f"{name}: {stage}", completed=done, total=total)

        yield show


def show_outcome(console: Console, outcome: Outcome) -> None:
    """All tables of a benchmark, with what must be known to read them."""
    for figures in outcome.tables:
        console.print(_table(figures))
    for note in outcome.notes:
        console.print(f"- {note}", style="dim", highlight=False)


def _table(figures: Figures) -> Table:
    table = Table(title=f"{figures.title}, {figures.unit}", title_justify="left")
    table.add_column("")
    for column in figures.columns:
        table.add_column(column, justify="right")
    for name, readings in figures.rows.items():
        table.add_row(name, *(spread_text(reading) for reading in readings))
    return table


def spread_text(spread: Spread | None) -> str:
    """The median, and from where to where readings went."""
    if spread is None:
        return "-"
    if spread.low == spread.high:
        return number_text(spread.median)
    return f"{number_text(spread.median)} ({number_text(spread.low)} to {number_text(spread.high)})"


def number_text(value: float) -> str:
    """Three digits, or all that stand before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def show_ratios(console: Console, ratios: Mapping[str, Spread], changes: Mapping[str, Change]) -> None:
    """The ratios, beside those of the baseline and the figures to reach."""
    table = Table(title="Ratios", title_justify="left")
    for column in ("name", "now", "baseline", "to reach", ""):
        table.add_column(column, justify="left" if column in ("name", "") else "right")
    for name, spread in ratios.items():
        change = changes[name]
        baseline = "-" if change.baseline is None else number_text(change.baseline)
        limit = "-" if change.limit is None else change.limit.text
        table.add_row(name, spread_text(spread), baseline, limit, change.text, style=STYLES[change.verdict])
    console.print(table)
