"""The command `inpath`: finds the subcommands that the packages register, and turns errors into one line."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

import click

from schemas.errors import InpathError

ENTRY_POINT_GROUP = "inpath.commands"


class RegisteredCommands(click.Group):
    """Loads a subcommand only when it is called, so that `inpath mp run` does not import the lab."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all registered commands."""
        return sorted(entry_points(group=ENTRY_POINT_GROUP).names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        found = entry_points(group=ENTRY_POINT_GROUP, name=cmd_name)
        for point in found:
            command = point.load()
            assert isinstance(command, click.Command)  # the registration is ours
            return command
        return None


@click.command(cls=RegisteredCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="inpath", prog_name="inpath")
def inpath() -> None:
    """Know the quality of a network path before you use it."""


def main() -> None:
    """Run the command line; errors raised on purpose become one line and an exit code."""
    try:
        inpath(prog_name="inpath")
    except InpathError as error:
        print(f"inpath: {error}", file=sys.stderr)  # noqa: T201  # stderr is talk
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
