"""What the commands of `inpath results` have in common: where the store is, and which results are meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mp.clock import now_ns
from mp.points_to_ask import configuration_or_names
from mp.results.time_span import TimeSpan, is_local, span_from_texts
from mp.settings import Configuration
from requestor.query import address_from_text
from schemas.errors import UsageError
from schemas.metrics import METRIC_NAME
from schemas.result import PathResult, ResultStatus

if TYPE_CHECKING:  # the database only where it is read
    from mp.results.stored_results import StoredResults
    from receiver.store.history import ResultFilter
    from receiver.store.retention import Retention

_ID_BEGINNING = re.compile(r"[0-9a-f]{1,32}")
_Command = TypeVar("_Command", bound=Callable[..., Any])

database_option = click.option(
    "--database",
    envvar="INPATH_DATABASE",
    show_envvar=True,
    help="URL of the result store.  [default: that of the configuration]",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which results, as they were asked for."""

    source: str | None
    destination: str | None
    metric: str | None
    state: str | None
    since: str | None
    start: str | None
    end: str | None

    def span(self, now_us: int) -> TimeSpan:
        """The times; says on stderr what local ones are in UTC."""
        span = span_from_texts(self.since, self.start, self.end, now_us)
        if any(text is not None and is_local(text) for text in (self.start, self.end)):
            click.echo(f"inpath: {span}", err=True)
        return span

    def filter(self, names: Mapping[str, str], now_us: int) -> ResultFilter:
        """What the store is asked for.

        Raises:
            UsageError: something of it cannot be meant.
        """
        from receiver.store.history import ResultFilter

        span = self.span(now_us)
        return ResultFilter(
            source=None if self.source is None else address_from_text("source", self.source, names),
            destination=None
            if self.destination is None
            else address_from_text("destination", self.destination, names),
            metric=None if self.metric is None else _metric(self.metric),
            status=None if self.state is None else ResultStatus(self.state),
            start_us=span.start_us,
            end_us=span.end_us,
        )


def time_options(command: _Command) -> _Command:
    """`--since`, `--from` and `--to`."""
    for option in (
        click.option("--to", "end", help="Asked before; written as for --from."),
        click.option("--from", "start", help="Asked at or after: RFC 3339, or local time `YYYY-MM-DD HH:MM`."),
        click.option("--since", help="Asked within the last 90m, 24h, 30d ..."),
    ):
        command = option(command)
    return command


def selection_options(command: _Command) -> _Command:
    """All that `Selection` holds."""
    for option in (
        click.option("--state", type=click.Choice([str(status) for status in ResultStatus])),
        click.option("--metric", help="Only results that were asked for it, and of them its values."),
    ):
        command = option(command)
    command = time_options(command)
    for option in (
        click.option("--destination", help="Last point: address or name of the configuration."),
        click.option("--source", help="First point: address or name of the configuration."),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Store:
    """An open store, and what the configuration calls its addresses."""

    url: str
    results: StoredResults
    addresses: Mapping[str, str]
    """By name."""
    retention: Retention
    """What it is looked after with."""

    @property
    def names(self) -> dict[str, str]:
        """By address."""
        return {address: name for name, address in self.addresses.items()}


@contextmanager
def opened_store(config_path: Path, database: str | None) -> Iterator[Store]:
    """The store at the URL, or of the configuration.

    Raises:
        UsageError: neither says where it is.
        StoreError: it is away.
    """
    from mp.results.stored_results import StoredResults
    from receiver.store.retention import Retention

    configuration = configuration_or_names(config_path)
    url = _url(configuration) if database is None else database
    found = StoredResults(url)
    try:
        yield Store(url, found, configuration.names, configuration.retention or Retention())
    finally:
        found.close()


def _url(configuration: Configuration) -> str:
    if configuration.point is None and configuration.store_url == "sqlite://":
        raise UsageError("database", None, "a URL, or a configuration with [store] or [point]")
    return configuration.store_url


def now_us_of_host() -> int:
    """Microseconds since the Unix epoch."""
    return now_ns() // 1000


def one_result(stored: StoredResults, beginning: str) -> PathResult:
    """The one result whose id begins so.

    Raises:
        UsageError: there is none, or more than one.
    """
    if _ID_BEGINNING.fullmatch(beginning) is None:
        raise UsageError("id", beginning, "hexadecimal digits, at most 32")
    found = stored.starting_with(beginning, 2)
    if not found:
        raise UsageError("id", beginning, "the beginning of a stored id (see `inpath results list`)")
    if len(found) > 1:
        raise UsageError("id", beginning, f"more digits, since {' and '.join(one.id for one in found)} begin so")
    return found[0]


def _metric(text: str) -> str:
    if METRIC_NAME.fullmatch(text) is None:  # it may be of a plug-in that is not configured here
        raise UsageError("metric", text, "the name of one metric")
    return text


def say_if_none(count: int) -> None:
    """An empty result is no error, but must not look like one that got lost."""
    if count == 0:
        click.echo("inpath: no stored result fits", err=True)
