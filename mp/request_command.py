"""`inpath request`: ask for the quality of a path, and whether it will do for a purpose."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from mp.commands import config_option
from mp.plugins import registry_of
from mp.points_to_ask import configuration_or_names, service_of
from mp.settings import Configuration
from requestor.client import Client
from requestor.profile import Profile, profile_named
from requestor.query import (
    DEFAULT_MAX_AGE_S,
    DEFAULT_METRICS,
    DEFAULT_TIMEOUT_S,
    MAX_MAX_AGE_S,
    MAX_TIMEOUT_S,
    PathQuery,
    address_from_text,
    carrier_from_value,
    metrics_from_text,
    seconds_from_value,
)
from requestor.verdict import verdict_of
from schemas.authentication import Standing
from schemas.errors import UsageError
from schemas.result import PathResult, ResultStatus
from schemas.verdict import Answer, Verdict

_WAYS = ("forward", "return")
_NO_ANSWER = 3
EXIT_CODES = {ResultStatus.COMPLETE: 0, ResultStatus.PARTIAL: 5, ResultStatus.FAILED: _NO_ANSWER}
EXIT_CODES_OF_ANSWERS = {Answer.YES: 0, Answer.NO: 4, Answer.UNSURE: 5}
_BEST_FIRST = (0, 5, 4, _NO_ANSWER)
"""Of both directions, the worse one counts."""


@click.command()
@click.argument("source")
@click.argument("destination")
@click.option(
    "--metrics",
    help=f"What to ask for, or `all`.  [default: {','.join(DEFAULT_METRICS)}, or what the profile needs]",
)
@click.option("--timeout", default=DEFAULT_TIMEOUT_S, show_default=True, help="Longest wait in seconds.")
@click.option(
    "--max-age",
    type=float,
    help="Oldest measured data to accept, in seconds; 0 walks the whole path.  "
    f"[default: {DEFAULT_MAX_AGE_S:g}, or as the profile says]",
)
@click.option(
    "--profile",
    "profile_name",
    help="Say whether the path will do: voice, video, game, bulk, or one of the configuration.",
)
@click.option(
    "--carrier",
    help="How the request is to travel: router-alert, udp or relay.  [default: what comes through]",
)
@click.option(
    "--both-directions", is_flag=True, help="Measure the way back too, as its packets go, in the same question."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schemas/).")
@config_option
def request(
    source: str,
    destination: str,
    metrics: str | None,
    timeout: float,
    max_age: float | None,
    profile_name: str | None,
    carrier: str | None,
    *,
    both_directions: bool,
    as_json: bool,
    config_path: Path,
) -> None:
    """Ask for the quality of the path from SOURCE to DESTINATION (addresses or names of the configuration).

    Exit codes: 0 complete, 5 partial or forged on its way, 3 no answer in time, 2 wrong usage, 1 anything else.
    With a profile: 0 yes, 4 no, 5 unsure, and the others as before. Of both directions the worse one.
    """
    configuration = configuration_or_names(config_path)
    profile = None if profile_name is None else profile_named(profile_name, configuration.profiles)
    query = PathQuery(
        source=address_from_text("source", source, configuration.names),
        destination=address_from_text("destination", destination, configuration.names),
        metrics=_metrics(metrics, profile, configuration),
        timeout_s=seconds_from_value("timeout", timeout, least=0.001, most=MAX_TIMEOUT_S),
        max_age_s=_max_age_s(max_age, profile),
        carrier=carrier_from_value(carrier),
    )
    if query.source == query.destination:
        raise UsageError("destination", destination, "another point than the source")
    with Client(service_of(configuration, query.source)) as client:
        results: tuple[PathResult, ...] = client.both_paths(query) if both_directions else (client.path(query),)
    verdicts = [None if profile is None else verdict_of(result, profile) for result in results]
    answers = list(zip(results, verdicts, strict=True))
    if as_json:
        documents = [_document(result, verdict) for result, verdict in answers]
        document = dict(zip(_WAYS, documents, strict=True)) if both_directions else documents[0]
        click.echo(json.dumps(document, indent=2))
    else:
        _print(answers, {address: name for name, address in configuration.names.items()})
    for result in results:
        for warning in result.warnings if as_json or result.status is ResultStatus.FAILED else ():
            click.echo(f"inpath: {warning}", err=True)
    sys.exit(max((_exit_code(result, verdict) for result, verdict in answers), key=_BEST_FIRST.index))


def _metrics(text: str | None, profile: Profile | None, configuration: Configuration) -> tuple[str, ...]:
    """What is asked for by name, and what the profile needs."""
    registry = registry_of(configuration)
    needed = () if profile is None else profile.metrics(registry)
    asked = metrics_from_text(text, registry) if text is not None else (needed or DEFAULT_METRICS)
    return metrics_from_text(",".join(dict.fromkeys((*asked, *needed))), registry)


def _max_age_s(given: float | None, profile: Profile | None) -> float:
    if given is not None:
        return seconds_from_value("max-age", given, least=0.0, most=MAX_MAX_AGE_S)
    return DEFAULT_MAX_AGE_S if profile is None else profile.max_age_s


def _document(result: PathResult, verdict: Verdict | None) -> dict[str, Any]:
    if verdict is None:
        return result.to_json()
    return {"result": result.to_json(), "verdict": verdict.to_json()}


def _print(answers: list[tuple[PathResult, Verdict | None]], names: Mapping[str, str]) -> None:
    from mp.result_view import print_result  # tables only where a person looks
    from mp.verdict_view import print_verdict

    for result, verdict in answers:
        print_result(result, names)
        if verdict is not None and result.status is not ResultStatus.FAILED:
            print_verdict(verdict, names)


def _exit_code(result: PathResult, verdict: Verdict | None) -> int:
    if result.authenticity is Standing.FORGED:
        return EXIT_CODES[ResultStatus.PARTIAL]
    if verdict is None or result.status is ResultStatus.FAILED:
        return EXIT_CODES[result.status]
    return EXIT_CODES_OF_ANSWERS[verdict.answer]
