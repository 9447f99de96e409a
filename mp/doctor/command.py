"""`inpath doctor`: what this host lacks for a measurement point."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from mp.commands import config_option


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@config_option
def doctor(*, as_json: bool, config_path: Path) -> None:
    """Look at all that a measurement point needs of this host; changes nothing, and says what to do.

    Works without root, and says then what it could not look at.

    Exit codes: 0 nothing in the way of a point (there may be warnings), 1 an error.
    """
    from mp.doctor.examination import examine  # the database and the firewall only here
    from mp.doctor.finding import exit_code, findings_text

    findings = examine(config_path)
    if as_json:
        click.echo(json.dumps([finding.to_json() for finding in findings], indent=2))
    else:
        click.echo(findings_text(findings))
    sys.exit(exit_code(findings))
