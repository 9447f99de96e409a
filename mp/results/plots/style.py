"""How all pictures look, and how one becomes a file.

Colors are those of Okabe and Ito (2008), which people with any kind of color vision can tell apart.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, Final, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE: Final = "#0072B2"
SKY: Final = "#56B4E9"
VERMILION: Final = "#D55E00"
PURPLE: Final = "#AA4499"
INK: Final = "#1f2937"
GRAY: Final = "#6b7280"
FAINT: Final = "#e5e7eb"

DOTS_PER_INCH: Final = 144
_MARGIN_IN = 0.3
_SETTINGS: Final[dict[str, Any]] = {
    "axes.axisbelow": True,
    "axes.edgecolor": GRAY,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so a picture looks the same everywhere
    "font.size": 10,
    "grid.color": FAINT,
    "svg.hashsalt": "inpath",  # the same picture is the same file
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": GRAY,
    "xtick.labelcolor": INK,
    "ytick.color": GRAY,
    "ytick.labelcolor": INK,
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw and write in the style of this module, whatever the user's own settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        cast(Any, matplotlib.rcParams).update(_SETTINGS)
        yield


def add_title(axes: Axes, title: str, subtitle: str, *, above_pt: float = 14.0) -> None:
    """A headline and a line below it, from the left edge of the axes.

    Args:
        axes: the uppermost axes.
        title: what it shows.
        subtitle: of when and from what.
        above_pt: room between axes and subtitle.
    """
    place: dict[str, Any] = {"xycoords": axes.transAxes, "textcoords": "offset points", "annotation_clip": False}
    axes.annotate(title, (0, 1), (0, above_pt + 18), fontsize=14, fontweight="bold", **place)
    axes.annotate(subtitle, (0, 1), (0, above_pt), fontsize=9.5, color=GRAY, **place)


def annotate_below(axes: Axes, lines: Sequence[str], *, offset_pt: float, color: str) -> None:
    """Lines of text under the lowest axes.

    Args:
        axes: those.
        lines: one below the other.
        offset_pt: of the first from the axes.
        color: of all.
    """
    axes.annotate(
        "\n".join(lines),
        (0, 0),
        (0, -offset_pt),
        xycoords="axes fraction",
        textcoords="offset points",
        va="top",
        fontsize=9,
        color=color,
        linespacing=1.5,
    )


def write(figure: Figure, target: BinaryIO, kind: str) -> None:
    """Write the picture.

    Args:
        figure: what was drawn.
        target: where to.
        kind: "png" or "svg".
    """
    with styled(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        figure.savefig(
            target,
            format=kind,
            dpi=DOTS_PER_INCH,
            bbox_inches="tight",
            pad_inches=_MARGIN_IN,
            facecolor="white",
            metadata={"Date": None} if kind == "svg" else None,
        )
