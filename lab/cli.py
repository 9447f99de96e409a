"""The commands `inpath lab ...`. What they need is imported when they run, so that `inpath --help` is quick."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lab.points import Settings
    from lab.topology import Topology

NO_LIMIT = "none"
"""How `--rate-mbit` takes a limit away again."""


def _name_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option("--name", metavar="LAB", help="Which lab; needed when several are up.")(command)


_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def lab() -> None:
    """An emulated network on this machine: namespaces, links with delay and loss, routing, points."""


@lab.command()
@click.argument("file")
@click.option("--name", metavar="LAB", help="The lab's name. [default: the topology's]")
@click.option(
    "--points",
    "points_wish",
    metavar="all|A,B,...",
    help="Which nodes run a measurement point. [default: what a TOML file marks; all routers of a GraphML file]",
)
@click.option("--database", metavar="URL", help="One result store for all points. [default: an SQLite file each]")
@click.option(
    "--thin",
    type=click.IntRange(min=2),
    metavar="N",
    help="Join the nodes that lie nearest to each other until N are left.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="TABLE.KEY=VALUE",
    help="What the configuration of every point says besides, as in its TOML file: probe.rate_per_s=0.5. May be "
    "given several times.",
)
@click.option("--no-points", is_flag=True, help="Start no measurement point.")
@click.option(
    "--discover",
    is_flag=True,
    help="Tell the points the addresses of all others, not who their neighbors are: hellos find them in seconds.",
)
def up(
    file: str,
    name: str | None,
    points_wish: str | None,
    database: str | None,
    thin: int | None,
    assignments: tuple[str, ...],
    no_points: bool,
    discover: bool,
) -> None:
    """Build the network of a topology FILE (TOML, or GraphML of the Topology Zoo)."""
    from lab.build import bring_up
    from lab.progress import progress_bar

    topology = _topology(file, name, points_wish, thin)
    settings = _settings(assignments)
    with progress_bar() as progress:
        built = bring_up(
            topology,
            start_points=not no_points,
            discover=discover,
            database=database,
            settings=settings,
            progress=progress,
        )
    points = 0 if no_points else sum(node.point for node in topology.nodes)
    click.echo(
        f"lab {built.name} is up: {len(topology.nodes)} nodes, {len(topology.links)} links "
        f"({built.state.link_kind}), {topology.routing} routing, {points} measurement points"
    )


def _topology(file: str, name: str | None, points_wish: str | None, thin: int | None) -> Topology:
    from dataclasses import replace

    from lab.thinning import thinned
    from lab.topology import MAX_LAB_NAME_LENGTH, check_name
    from lab.topology_file import read_topology

    topology = read_topology(file)
    if thin is not None:
        topology = thinned(topology, thin)
    if name is not None:
        topology = replace(topology, name=check_name("--name", name, MAX_LAB_NAME_LENGTH))
    return topology if points_wish is None else topology.with_points(points_wish)


def _settings(assignments: tuple[str, ...]) -> Settings:
    import tomllib

    from schemas.errors import UsageError

    tables: dict[str, dict[str, object]] = {}
    for assignment in assignments:
        place, _, value = assignment.partition("=")
        table, _, key = place.strip().rpartition(".")
        try:
            parsed = tomllib.loads(f"value = {value}")
        except tomllib.TOMLDecodeError:
            parsed = {}
        if not table or not key or list(parsed) != ["value"]:
            raise UsageError("--set", assignment, "TABLE.KEY=VALUE, the value as in a TOML file")
        tables.setdefault(table, {})[key] = parsed["value"]
    return tables


@lab.command()
@click.argument("name", required=False, metavar="[LAB]")
@click.option("--name", "name_option", metavar="LAB", help="The same as the argument.")
@click.option("--all", "all_labs", is_flag=True, help="Take down every lab.")
def down(name: str | None, name_option: str | None, all_labs: bool) -> None:
    """Clear a lab away, whole, half-built or crashed."""
    from lab.network import chosen_name
    from lab.state import lab_names
    from lab.teardown import take_down
    from lab.topology import MAX_LAB_NAME_LENGTH, check_name

    name = name or name_option
    if all_labs:
        names = lab_names()
    elif name is not None:
        # Checked before it becomes part of a path that is deleted.
        names = [check_name("lab", name, MAX_LAB_NAME_LENGTH)]
    else:
        names = [chosen_name(None)]
    for each in names:
        if not take_down(each):
            chosen_name(each)  # says which labs there are
        click.echo(f"lab {each} is down")


@lab.command(name="list")
@click.argument("name", required=False, metavar="[LAB]")
@click.option("--name", "name_option", metavar="LAB", help="The same as the argument.")
@_json_option
def list_labs(name: str | None, name_option: str | None, as_json: bool) -> None:
    """Show one LAB, or all labs of this machine."""
    from lab.network import describe_labs
    from lab.tables import print_labs

    labs = describe_labs(name or name_option)
    _print(labs, as_json, print_labs)


@lab.command(name="exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_name_option
@click.argument("node")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(name: str | None, node: str, command: tuple[str, ...]) -> None:
    """Run a COMMAND on a NODE; its output and exit code become those of this command."""
    from lab.network import find_lab
    from lab.shell import become

    become(find_lab(name), node, command[1:] if command[0] == "--" else command)


@lab.command()
@_name_option
@click.argument("a")
@click.argument("b")
@click.option("--delay-ms", type=float, help="Mean one-way delay.")
@click.option("--jitter-ms", type=float, help="Half the width of the delay's uniform distribution.")
@click.option("--loss-ratio", type=float, help="Probability of loss, 0 to 1.")
@click.option(
    "--rate-mbit",
    metavar=f"FLOAT|{NO_LIMIT}",
    help="Capacity in Mbit/s; none takes the limit away. The points are not told: what they say of capacity and "
    "utilization rests on the rate that the lab was built with.",
)
@click.option(
    "--drops-options/--passes-options", default=None, help="Lose IPv4 packets with options, or let them pass."
)
@click.option("--mtu", type=int, metavar="OCTETS", help="Longest IP packet (both ways).")
@click.option("--up", is_flag=True, help="Plug the cable in (both ways).")
@click.option("--down", is_flag=True, help="Pull the cable (both ways).")
@click.option("--one-way", is_flag=True, help="Change only the direction from A to B.")
@_json_option
def link(
    name: str | None,
    a: str,
    b: str,
    rate_mbit: str | None,
    mtu: int | None,
    up: bool,
    down: bool,
    one_way: bool,
    as_json: bool,
    **given: float | bool | None,
) -> None:
    """Change the link between the nodes A and B while the lab runs; print its new state."""
    from lab.network import describe_link, find_lab
    from lab.tables import print_link

    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if rate_mbit is not None:
        changes["rate_mbit"] = _rate_mbit(rate_mbit)
    _refuse_contradictions(up=up, down=down, mtu=mtu is not None, one_way=one_way)
    if up or down:
        changes["up"] = up
    found = find_lab(name)
    index = found.topology.link_index(a, b)
    if changes or mtu is not None:
        found.set_link(a, b, changes, one_way=one_way, mtu_octets=mtu)
    _print(describe_link(found, index), as_json, print_link)


def _refuse_contradictions(*, up: bool, down: bool, mtu: bool, one_way: bool) -> None:
    from schemas.errors import UsageError

    if up and down:
        raise UsageError("--up", "--down too", "one of the two")
    if one_way and (up or down):
        raise UsageError("--one-way", "--up or --down", "both ways for a cable; --loss-ratio 1 cuts one direction")
    if one_way and mtu:
        raise UsageError("--one-way", "--mtu", "both ways for the MTU of a link")


def _rate_mbit(text: str) -> float | None:
    from schemas.errors import UsageError

    if text == NO_LIMIT:
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError("--rate-mbit", text, f"a number of Mbit/s, or {NO_LIMIT}") from None


@lab.command()
@_name_option
@click.argument("a")
@click.argument("b")
@_json_option
def truth(name: str | None, a: str, b: str, as_json: bool) -> None:
    """Show what the configured links on the present route from node A to node B add up to."""
    from dataclasses import asdict

    from lab.network import find_lab
    from lab.tables import print_truth

    found = find_lab(name)
    _print({"lab": found.name, "a": a, "b": b, **asdict(found.truth(a, b))}, as_json, print_truth)


@lab.command()
@_name_option
@click.argument("node")
@click.argument("action", type=click.Choice(["start", "stop", "kill"]))
def point(name: str | None, node: str, action: str) -> None:
    """Start, stop or kill (SIGKILL) the measurement point on a NODE."""
    from lab.network import find_lab

    found = find_lab(name)
    match action:
        case "start":
            found.start_point(node)
            click.echo(f"the point on {node} runs")
        case "stop":
            found.stop_point(node)
            click.echo(f"the point on {node} has ended")
        case _:
            found.kill_point(node)
            click.echo(f"the point on {node} is killed")


def _print(value: Any, as_json: bool, print_table: Callable[[Any], None]) -> None:
    import json

    if as_json:
        click.echo(json.dumps(value, indent=2))
    else:
        print_table(value)
