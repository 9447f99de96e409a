"""`inpath mp`: run a measurement point, look at it, print its example configuration."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mp.config import example_text, load_configuration

CONFIG_VARIABLE = "INPATH_CONFIG"
DEFAULT_CONFIG = "/etc/inpath/inpath.toml"

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    envvar=CONFIG_VARIABLE,
    default=DEFAULT_CONFIG,
    show_default=True,
    show_envvar=True,
    help="Configuration file (see `inpath mp example-config`).",
)


@click.group()
def mp() -> None:
    """The measurement point on this host."""


@mp.command()
@config_option
def run(config_path: Path) -> None:
    """Run the daemon in the foreground until SIGTERM or Ctrl-C."""
    configuration = load_configuration(config_path)
    from mp.launch import run_daemon  # event loop only where the daemon runs

    run_daemon(configuration)


@mp.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(config_path: Path, *, as_json: bool) -> None:
    """Show neighbors, freshness and counters of the running point."""
    from requestor.client import Client

    with Client(load_configuration(config_path).service.socket) as client:
        document = client.status()
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    from mp.status_view import print_status

    print_status(document)


@mp.command("example-config")
def example_config() -> None:
    """Print the commented configuration: every key, its unit, its range, its default."""
    click.echo(example_text(), nl=False)
