"""Print the manual page of `inpath`, made of what the commands say of themselves."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import click

from mp.cli import inpath

FILES = {
    "/etc/inpath/inpath.toml": "The configuration; `inpath mp example-config` prints every key with its meaning.",
    "/var/lib/inpath": "Results that wait for the database, and the embedded database.",
    "/run/inpath/service.sock": "Where the running point answers local programs of its group.",
    "/usr/share/inpath": "Alert rules for Prometheus and a dashboard for Grafana.",
}
EXIT_CODES = {
    "0": "All is well.",
    "1": "The host, the database or the network refuses.",
    "2": "Wrong usage, or a mistake in the configuration.",
    "3": "Nobody answered in time.",
}


def main() -> None:
    """Write roff to standard output."""
    sys.stdout.write("\n".join(page(inpath)) + "\n")


def page(command: click.Command) -> Iterator[str]:
    """All lines of the page."""
    context = click.Context(command, info_name="inpath")
    yield '.TH INPATH 1 "" "inpath" "User Commands"'
    yield from (".SH NAME", escaped(f"inpath - {summary(command)}"))
    yield from (".SH SYNOPSIS", ".B inpath", r".I COMMAND \fR[\fIOPTIONS\fR]")
    yield ".SH COMMANDS"
    for each in leaves(context):
        yield from section(each)
    yield ".SH EXIT STATUS"
    yield from definitions(EXIT_CODES)
    yield "Commands name further ones above."
    yield ".SH FILES"
    yield from definitions(FILES)
    yield from (".SH SEE ALSO", r".BR iptables (8), \ nft (8), \ systemctl (1)")


def leaves(context: click.Context) -> Iterator[click.Context]:
    """The commands that do something, groups unfolded."""
    command = context.command
    if not isinstance(command, click.Group):
        yield context
        return
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None  # it has just been listed
        if not below.hidden:
            yield from leaves(click.Context(below, info_name=name, parent=context))


def section(context: click.Context) -> Iterator[str]:
    """One command: how it is called, what it does, its options."""
    words = " ".join(context.command.collect_usage_pieces(context))
    yield f".SS {escaped(context.command_path)}"
    yield rf".B {escaped(context.command_path)} \fR{escaped(words)}"
    for paragraph in (context.command.help or "").split("\n\n"):
        yield ".PP"
        yield escaped(" ".join(paragraph.replace("\b", "").split()))
    for parameter in context.command.params:
        record = parameter.get_help_record(context)
        if record is not None and record[1]:  # an argument without one is told by the usage
            yield from definitions({record[0]: record[1]})


def definitions(texts: dict[str, str]) -> Iterator[str]:
    """Terms in bold, each with its meaning."""
    for term, text in texts.items():
        yield from (".TP", rf"\fB{escaped(term)}\fR", escaped(text))
    yield ".PP"


def summary(command: click.Command) -> str:
    """The first sentence of its help, as a phrase."""
    return (command.help or "").split("\n\n")[0].strip().rstrip(".").lower()


def escaped(text: str) -> str:
    """Text that roff shows as it is; `words` in back quotes become bold."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    text = re.sub("`([^`]*)`", r"\\fB\1\\fR", text)
    return rf"\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    main()
