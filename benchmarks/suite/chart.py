"""Tables as a picture: a panel for each, bars from medians, lines from the least to the greatest reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.suite.benchmark import Figures, Outcome
from benchmarks.suite.display import number_text

COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999")
"""After Okabe and Ito: told apart by color-blind readers, too."""
BAR_INCHES = 0.21
PANEL_INCHES = 0.95
WIDTH_INCHES = 9.0


def write_chart(outcome: Outcome, file: Path) -> Path:
    """Draw all tables of a benchmark below each other as SVG."""
    from matplotlib import pyplot  # takes long to import

    heights = [PANEL_INCHES + BAR_INCHES * len(one.rows) * len(one.columns) for one in outcome.tables]
    with pyplot.rc_context({"svg.hashsalt": "inpath", "font.size": 9, "svg.fonttype": "none"}):
        figure, panels = pyplot.subplots(
            len(heights),
            1,
            figsize=(WIDTH_INCHES, sum(heights)),
            gridspec_kw={"height_ratios": heights},
            squeeze=False,
            layout="constrained",
        )
        for panel, figures in zip(panels[:, 0], outcome.tables, strict=True):
            _draw(panel, figures)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, metadata={"Date": None})
        pyplot.close(figure)
    return file


def _draw(panel: Any, figures: Figures) -> None:
    names = list(figures.rows)
    step = 0.8 / len(figures.columns)
    for place, column in enumerate(figures.columns):
        color = COLORS[place % len(COLORS)]
        for row, name in enumerate(names):
            reading = figures.rows[name][place]
            if reading is None:
                continue
            at = row - 0.4 + step * (place + 0.5)
            label = column if name == _first_with(figures, place) else None
            panel.barh(at, reading.median, height=step * 0.9, color=color, label=label)
            panel.plot((reading.low, reading.high), (at, at), color="black", linewidth=0.8)
            panel.annotate(
                number_text(reading.median),
                (max(reading.median, reading.high), at),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
            )
    panel.set_yticks(range(len(names)), names)
    panel.invert_yaxis()
    if figures.is_logarithmic:
        panel.set_xscale("log")
        panel.xaxis.set_minor_formatter("")
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    panel.margins(x=0.12)
    panel.set_xlabel(figures.unit)
    panel.set_title(figures.title, loc="left", fontsize=10)
    panel.spines[["top", "right"]].set_visible(False)
    if len(figures.columns) > 1:
        panel.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _first_with(figures: Figures, place: int) -> str:
    """The row whose bar stands for the column in the legend."""
    return next(name for name, readings in figures.rows.items() if readings[place] is not None)
