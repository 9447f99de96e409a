"""`inpath results plot`: pictures of stored answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mp.commands import config_option
from mp.results.extras import extra_needed
from mp.results.options import (
    Selection,
    database_option,
    now_us_of_host,
    one_result,
    opened_store,
    say_if_none,
    time_options,
)
from mp.results.time_span import duration_us_from_text
from mp.results.whole_file import whole_file
from requestor.query import address_from_text
from schemas.errors import UsageError

if TYPE_CHECKING:  # matplotlib only where something is drawn
    from matplotlib.figure import Figure

DEFAULT_SINCE = "24h"
_PICTURES = ("png", "svg")

_picture_option = click.option(
    "-o", "--output", "path", type=click.Path(path_type=Path), required=True, help="A .png or .svg file."
)


@click.group()
def plot() -> None:
    """Draw stored answers as PNG or SVG (needs the extra `plot`)."""


@plot.command()
@click.argument("source")
@click.argument("destination")
@click.option("--metric", default="delay", show_default=True, help="What to draw.")
@time_options
@_picture_option
@database_option
@config_option
def history(
    source: str,
    destination: str,
    metric: str,
    since: str | None,
    start: str | None,
    end: str | None,
    path: Path,
    database: str | None,
    *,
    config_path: Path,
) -> None:
    """Draw a metric of the path from SOURCE to DESTINATION over time, with loss and changes of the route.

    Without --since and --from, of the last 24 h.
    """
    kind = _picture_kind(path)
    with extra_needed("plot", "matplotlib"):
        from mp.results.plots.history import draw_history
    from mp.results.plots.history_reading import HistoryQuery, read_history

    now_us = now_us_of_host()
    selection = Selection(
        source=source, destination=destination, metric=metric, state=None, since=since, start=start, end=end
    )
    with opened_store(config_path, database) as store:
        wanted = selection.filter(store.addresses, now_us)
        end_us = now_us if wanted.end_us is None else wanted.end_us
        day_before_us = end_us - duration_us_from_text("since", DEFAULT_SINCE)
        query = HistoryQuery(
            source=address_from_text("source", source, store.addresses),
            destination=address_from_text("destination", destination, store.addresses),
            metric=metric,
            start_us=day_before_us if wanted.start_us is None else wanted.start_us,
            end_us=end_us,
        )
        found = read_history(store.results, query)
    if found is None:
        say_if_none(0)
        return
    _write_picture(draw_history(found, store.names), path, kind)


@plot.command()
@click.argument("identifier", metavar="ID")
@click.option(
    "--metric", default="delay", show_default=True, help="One that segments add up to: delay, rtt, hops ..."
)
@_picture_option
@database_option
@config_option
def answer(identifier: str, metric: str, path: Path, database: str | None, *, config_path: Path) -> None:
    """Draw how the segments of one answer add up, by its ID or enough of its first digits."""
    kind = _picture_kind(path)
    with extra_needed("plot", "matplotlib"):
        from mp.results.plots.waterfall import draw_waterfall
    from mp.results.plots.segment_bars import waterfall_of

    with opened_store(config_path, database) as store:
        waterfall = waterfall_of(one_result(store.results, identifier), metric)
    _write_picture(draw_waterfall(waterfall, store.names), path, kind)


def _picture_kind(path: Path) -> str:
    kind = path.suffix.removeprefix(".").lower()
    if kind not in _PICTURES:
        raise UsageError("output", str(path), "a file that ends in .png or .svg")
    return kind


def _write_picture(figure: Figure, path: Path, kind: str) -> None:
    from mp.results.plots.style import write

    with whole_file(path) as target:
        write(figure, target, kind)
