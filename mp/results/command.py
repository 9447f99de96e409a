"""`inpath results`: stored answers found again, as a list, a file, a picture; and forgotten."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click

from mp.commands import config_option
from mp.results.options import (
    Selection,
    database_option,
    now_us_of_host,
    one_result,
    opened_store,
    say_if_none,
    selection_options,
)
from mp.results.plot_command import plot
from mp.results.time_span import duration_us_from_text, utc_text
from schemas.errors import UsageError
from schemas.result import PathResult, ResultStatus
from schemas.rfc3339 import us_from_rfc3339

DEFAULT_LIMIT = 20
_US_PER_DAY = 86_400_000_000
_MOST_DAYS = 100_000


@click.group()
def results() -> None:
    """Find stored answers again. All times shown are UTC."""


@results.command("list")
@selection_options
@click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines (schemas/result.schema.json).")
@database_option
@config_option
def list_results(
    source: str | None,
    destination: str | None,
    since: str | None,
    start: str | None,
    end: str | None,
    metric: str | None,
    state: str | None,
    limit: int,
    database: str | None,
    *,
    as_json: bool,
    config_path: Path,
) -> None:
    """List stored answers, the newest first."""
    selection = Selection(
        source=source, destination=destination, metric=metric, state=state, since=since, start=start, end=end
    )
    with opened_store(config_path, database) as store:
        found = store.results.each(selection.filter(store.addresses, now_us_of_host()), limit)
        if as_json:
            count = _print_lines(found)
        else:
            from mp.results.view import print_results  # tables only where a person looks

            listed = [replace(result, segments=()) for result in found]  # which are nearly all of their memory
            count = len(listed)
            if listed:
                print_results(listed, store.names, metric)
    say_if_none(count)


@results.command()
@click.argument("identifier", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schemas/result.schema.json).")
@database_option
@config_option
def show(identifier: str, database: str | None, *, as_json: bool, config_path: Path) -> None:
    """Show one stored answer in full, by its ID or enough of its first digits."""
    with opened_store(config_path, database) as store:
        result = one_result(store.results, identifier)
        names = store.names
    if as_json:
        click.echo(json.dumps(result.to_json(), indent=2))
        return
    from mp.result_view import print_result

    click.echo(f"asked at {utc_text(us_from_rfc3339(result.requested_at))} UTC")
    print_result(result, names)
    if result.status is ResultStatus.FAILED:
        for warning in result.warnings:
            click.echo(f"inpath: {warning}", err=True)


@results.command()
@selection_options
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["csv", "jsonl", "parquet"]),
    help="Of the file.  [default: as its name ends, else csv]",
)
@click.option("-o", "--output", "path", type=click.Path(path_type=Path), help="File.  [default: standard output]")
@database_option
@config_option
def export(
    source: str | None,
    destination: str | None,
    since: str | None,
    start: str | None,
    end: str | None,
    metric: str | None,
    state: str | None,
    format_name: str | None,
    path: Path | None,
    database: str | None,
    *,
    config_path: Path,
) -> None:
    """Write stored answers as a flat file, a row for each metric of each, the newest first."""
    from mp.results.export import export_rows, format_of, rows_of

    selection = Selection(
        source=source, destination=destination, metric=metric, state=state, since=since, start=start, end=end
    )
    chosen = format_of(format_name, path)
    with opened_store(config_path, database) as store:
        found = store.results.each(selection.filter(store.addresses, now_us_of_host()))
        count = export_rows(rows_of(found, metric), chosen, path)
    say_if_none(count)


results.add_command(plot)


@results.command()
@click.option("--older-than", required=True, help="Whole days, such as 30d or 4w.")
@click.option("--with-history", is_flag=True, help="Forget roll-ups, changes of routes and closure checks too.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@database_option
@config_option
def prune(older_than: str, database: str | None, *, with_history: bool, yes: bool, config_path: Path) -> None:
    """Forget stored answers for good; what was rolled up of them stays, unless --with-history."""
    from mp.results.prune import prune_results, retention_of

    days = _days(older_than)
    now_us = now_us_of_host()
    with opened_store(config_path, database) as store:
        horizon = f"{utc_text(now_us - days * _US_PER_DAY)} UTC"
        count = store.results.count_before(now_us - days * _US_PER_DAY)
        if count == 0 and not with_history:
            say_if_none(0)
            return
        if not yes:
            more = ", and their history," if with_history else ""
            click.confirm(f"Forget {count} results from before {horizon}{more} for good?", abort=True, err=True)
        wanted = retention_of(days, with_history=with_history)
        removed = prune_results(store.url, store.results, wanted, store.retention, now_us)
    click.echo(f"removed {removed} results from before {horizon}")
    if with_history:
        click.echo("removed roll-ups, changes of routes and closure checks from before it")


def _days(text: str) -> int:
    days, rest_us = divmod(duration_us_from_text("older-than", text), _US_PER_DAY)
    if rest_us or not 1 <= days <= _MOST_DAYS:
        raise UsageError("older-than", text, f"whole days from 1 to {_MOST_DAYS}, such as 30d or 4w")
    return days


def _print_lines(found: Iterator[PathResult]) -> int:
    count = 0
    for result in found:
        click.echo(json.dumps(result.to_json()))
        count += 1
    return count
