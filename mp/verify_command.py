"""`inpath verify`: hold a composed path against the same path measured directly."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from mp.commands import config_option
from mp.points_to_ask import configuration_or_names, service_of
from requestor.client import Client
from requestor.query import address_from_text, seconds_from_value
from requestor.verify_query import (
    DEFAULT_DURATION_S,
    DEFAULT_RATE_PER_S,
    LEAST_DURATION_S,
    MOST_DURATION_S,
    MOST_RATE_PER_S,
    VerifyQuery,
)
from schemas.closure import ClosureVerdict

EXIT_CODES = {ClosureVerdict.AGREES: 0, ClosureVerdict.DIFFERS: 4, ClosureVerdict.UNKNOWN: 5}


@click.command()
@click.argument("source")
@click.argument("destination")
@click.option(
    "--duration", default=DEFAULT_DURATION_S, show_default=True, help="Seconds of the direct measurement."
)
@click.option(
    "--rate",
    type=click.FloatRange(1, MOST_RATE_PER_S),
    default=DEFAULT_RATE_PER_S,
    show_default=True,
    help="Direct probes per second, at Poisson times.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@config_option
def verify(
    source: str, destination: str, duration: float, rate: float, *, as_json: bool, config_path: Path
) -> None:
    """Measure the path from SOURCE to DESTINATION directly by STAMP, compose it at the same time, and compare.

    DESTINATION is a measurement point, or any host with a STAMP reflector. The point at SOURCE measures; it stores
    the check.

    Exit codes: 0 both agree, 4 they differ, 5 nothing to compare, 3 no answer, 2 wrong usage, 1 anything else.
    """
    configuration = configuration_or_names(config_path)
    query = VerifyQuery(
        source=address_from_text("source", source, configuration.names),
        destination=address_from_text("destination", destination, configuration.names),
        duration_s=seconds_from_value("duration", duration, least=LEAST_DURATION_S, most=MOST_DURATION_S),
        rate_per_s=rate,
    )
    with Client(service_of(configuration, query.source)) as client:
        click.echo(f"inpath: measuring directly for {query.duration_s:g} s", err=True)
        check = client.verify(query)
    if as_json:
        click.echo(json.dumps(check.to_json(), indent=2))
    else:
        from mp.closure_view import print_check  # tables only where a person looks

        print_check(check, {address: name for name, address in configuration.names.items()})
    sys.exit(EXIT_CODES[check.verdict])
