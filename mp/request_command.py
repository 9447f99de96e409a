"""`inpath request`: ask for the quality of a path."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from mp.commands import config_option
from mp.plugins import registry_of
from mp.points_to_ask import configuration_or_names, service_of
from requestor.client import Client
from requestor.query import (
    DEFAULT_MAX_AGE_S,
    DEFAULT_METRICS,
    DEFAULT_TIMEOUT_S,
    MAX_MAX_AGE_S,
    MAX_TIMEOUT_S,
    PathQuery,
    address_from_text,
    metrics_from_text,
    seconds_from_value,
)
from schemas.errors import UsageError
from schemas.result import PathResult, ResultStatus

_WAYS = ("forward", "return")
_SEVERITY = (ResultStatus.COMPLETE, ResultStatus.PARTIAL, ResultStatus.FAILED)
EXIT_CODES = {ResultStatus.COMPLETE: 0, ResultStatus.PARTIAL: 5, ResultStatus.FAILED: 3}


@click.command()
@click.argument("source")
@click.argument("destination")
@click.option("--metrics", default=",".join(DEFAULT_METRICS), show_default=True, help="What to ask for, or `all`.")
@click.option("--timeout", default=DEFAULT_TIMEOUT_S, show_default=True, help="Longest wait in seconds.")
@click.option(
    "--max-age", default=DEFAULT_MAX_AGE_S, show_default=True, help="Oldest measured data to accept, in seconds."
)
@click.option(
    "--both-directions", is_flag=True, help="Measure the way back too, as its packets go, in the same question."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schemas/result.schema.json).")
@config_option
def request(
    source: str,
    destination: str,
    metrics: str,
    timeout: float,
    max_age: float,
    *,
    both_directions: bool,
    as_json: bool,
    config_path: Path,
) -> None:
    """Ask for the quality of the path from SOURCE to DESTINATION (addresses or names of the configuration).

    Exit codes: 0 complete, 5 partial, 3 no answer in time, 2 wrong usage, 1 anything else; of both directions the
    worse one.
    """
    configuration = configuration_or_names(config_path)
    query = PathQuery(
        source=address_from_text("source", source, configuration.names),
        destination=address_from_text("destination", destination, configuration.names),
        metrics=metrics_from_text(metrics, registry_of(configuration)),
        timeout_s=seconds_from_value("timeout", timeout, least=0.001, most=MAX_TIMEOUT_S),
        max_age_s=seconds_from_value("max-age", max_age, least=0.0, most=MAX_MAX_AGE_S),
    )
    if query.source == query.destination:
        raise UsageError("destination", destination, "another point than the source")
    with Client(service_of(configuration, query.source)) as client:
        results: tuple[PathResult, ...] = client.both_paths(query) if both_directions else (client.path(query),)
    documents = [result.to_json() for result in results]
    if as_json:
        document = dict(zip(_WAYS, documents, strict=True)) if both_directions else documents[0]
        click.echo(json.dumps(document, indent=2))
    else:
        from mp.result_view import print_result  # tables only where a person looks

        for result in results:
            print_result(result, {address: name for name, address in configuration.names.items()})
    for result in results:
        for warning in result.warnings if as_json or result.status is ResultStatus.FAILED else ():
            click.echo(f"inpath: {warning}", err=True)
    sys.exit(EXIT_CODES[max((result.status for result in results), key=_SEVERITY.index)])
