"""The demonstration: the network of the paper's figure 10, one request, one answer beside the truth."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from types import FrameType

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from lab.addressing import namespace_name
from lab.build import bring_up
from lab.database import PrivateMariaDB
from lab.links import LinkKind
from lab.network import Lab
from lab.points import point_files
from lab.progress import progress_bar
from lab.state import lab_directory
from lab.teardown import take_down
from lab.topology import Topology
from lab.topology_file import read_topology
from lab.truth import Truth
from mp.config import load_configuration
from mp.result_view import interval_text, number_text, print_result, shown_unit
from receiver.store.result_store import ResultStore
from requestor.client import Client
from requestor.query import DEFAULT_MAX_AGE_S, DEFAULT_METRICS, DEFAULT_TIMEOUT_S, PathQuery
from schemas.errors import InpathError, LabError
from schemas.result import ComposedMetric, PathResult

NAME = "demo"
SOURCE, DESTINATION = "mp1", "mp3"
SEGMENTS = (("mp1", "mp2"), ("mp2", "mp3"))
"""Who is upstream of whom on the way from SOURCE to DESTINATION."""

SAMPLES = 150
"""Probes per segment before the question is asked: 15 s at the default rate."""
MEASURING_LIMIT_S = 40.0
STORING_LIMIT_S = 10.0
POLL_S = 0.25

talk = Console(stderr=True)
data = Console()


@click.command()
@click.option("--keep", is_flag=True, help="Leave the network up, and say what to try next.")
@click.option(
    "--database",
    type=click.Choice(["sqlite", "mysql"]),
    default="sqlite",
    show_default=True,
    help="Where results go; mysql is a private MariaDB that lives in the emulated network.",
)
def demo(database: str, *, keep: bool) -> None:
    """Build a network, measure it, ask for the quality of a path, and compare with the truth."""
    with as_file(files("lab").joinpath("scenarios/two_areas.toml")) as file:
        topology = replace(read_topology(str(file)), name=NAME)
    with _ended_by_signals():
        if take_down(NAME):
            _say("cleared away what an earlier demonstration left")
        try:
            lab = _build(topology, database)
            _wait_until_measured(lab)
            result = _ask(lab)
            _compare(lab, result)
            _show_stored(lab, result)
        except BaseException:
            _clear_away()
            raise
        if keep:
            _suggest()
        else:
            _clear_away()


def _build(topology: Topology, database: str) -> Lab:
    points = [node.name for node in topology.nodes if node.point]
    _say(f"building {len(topology.nodes)} namespaces, {len(topology.links)} links; routing by OSPF")
    # In a namespace of the lab the server ends with the lab, whoever takes that down.
    directory = lab_directory(NAME).path / "mariadb"
    mariadb = PrivateMariaDB(directory, namespace=namespace_name(NAME, SOURCE)) if database == "mysql" else None
    with progress_bar() as progress:
        url = None if mariadb is None else mariadb.url
        lab = bring_up(topology, start_points=False, database=url, progress=progress)
    _say(f"links are {lab.state.link_kind}; every router but {', '.join(points)} is a plain one")
    if mariadb is not None:
        _say("starting a private MariaDB")
        directory.mkdir()
        mariadb.install()
        mariadb.start()
    _say(f"starting the measurement points {', '.join(points)}")
    for point in points:
        lab.start_point(point)
    return lab


def _wait_until_measured(lab: Lab) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} probes"))
    _say(f"neighbors probe each other (STAMP, 10 a second) until each segment has {SAMPLES} samples")
    deadline = time.monotonic() + MEASURING_LIMIT_S
    with Progress(*columns, TimeElapsedColumn(), console=talk, transient=True) as progress:
        tasks = {
            segment: progress.add_task(f"{segment[0]} -> {segment[1]}", total=SAMPLES) for segment in SEGMENTS
        }
        waiting = set(SEGMENTS)
        while waiting:
            for segment in tuple(waiting):
                samples = _samples(lab, *segment)
                progress.update(tasks[segment], completed=min(samples, SAMPLES))
                if samples >= SAMPLES:
                    waiting.discard(segment)
            if time.monotonic() > deadline:
                missing = ", ".join(f"{upstream} -> {current}" for upstream, current in sorted(waiting))
                raise LabError(f"segments {missing}: fewer than {SAMPLES} samples after {MEASURING_LIMIT_S:g} s")
            time.sleep(POLL_S)


def _samples(lab: Lab, upstream: str, current: str) -> int:
    address = lab.addressing.identities[upstream]
    with Client(point_files(lab.directory, current).control) as client:
        neighbors = client.status()["neighbors"]
    counts = [
        neighbor["last_60_s"]["delay"]["count"]
        for neighbor in neighbors
        if neighbor["address"] == address and "delay" in neighbor["last_60_s"]
    ]
    return int(max(counts, default=0))


def _ask(lab: Lab) -> PathResult:
    _say(f"inpath request {SOURCE} {DESTINATION} --metrics {','.join(DEFAULT_METRICS)}")
    query = PathQuery(
        source=lab.addressing.identities[SOURCE],
        destination=lab.addressing.identities[DESTINATION],
        metrics=DEFAULT_METRICS,
        timeout_s=DEFAULT_TIMEOUT_S,
        max_age_s=DEFAULT_MAX_AGE_S,
    )
    with Client(point_files(lab.directory, SOURCE).control) as client:
        result = client.path(query)
    names = {lab.addressing.identities[node.name]: node.name for node in lab.topology.nodes}
    print_result(result, names, data)
    return result


def _compare(lab: Lab, result: PathResult) -> None:
    truth = lab.truth(SOURCE, DESTINATION)
    table = Table(title="Beside the truth that the lab knows", title_justify="left")
    table.add_column("metric")
    for column in ("composed", "95 % interval", "truth", "error"):
        table.add_column(column, justify="right")
    for metric, composed in result.composed.items():
        true_value = _true_value(truth, metric)
        table.add_row(
            f"{metric} {shown_unit(composed.unit)}",
            number_text(composed.unit, composed.value),
            interval_text(composed),
            number_text(composed.unit, true_value),
            _error_text(composed, true_value),
        )
    data.print(table)
    data.print(
        f"the way is {' - '.join(truth.path)}; the lab states no truth for the 99.9 % quantile", style="dim"
    )
    if lab.state.link_kind is LinkKind.USER_SPACE:
        data.print("each link of user space takes some 0.04 ms by itself, beyond the truth", style="dim")


def _true_value(truth: Truth, metric: str) -> float | None:
    return {"delay": truth.delay_ms, "loss": truth.loss_ratio, "rtt": truth.rtt_ms}.get(metric)


def _error_text(composed: ComposedMetric, true_value: float | None) -> str:
    if composed.value is None or composed.low is None or composed.high is None or true_value is None:
        return "-"
    inside = "inside" if composed.low <= true_value <= composed.high else "outside"
    return f"{number_text(composed.unit, composed.value - true_value)} ({inside})"


def _await_stored(lab: Lab, store: ResultStore, result: PathResult) -> PathResult:
    """The row as it is in the database; an answer does not wait for a database that is only just being opened."""
    deadline = time.monotonic() + STORING_LIMIT_S
    while (stored := store.get(result.id)) is None or stored.status is not result.status:
        if time.monotonic() > deadline:
            found = "nothing" if stored is None else stored.status
            raise LabError(
                f"request {result.id}: got {found} in {store.name}, expected {result.status}; "
                f"the point says of its store: {_state_of_store(lab)}"
            )
        time.sleep(POLL_S)
    return stored


def _state_of_store(lab: Lab) -> object:
    try:
        with Client(point_files(lab.directory, SOURCE).control) as client:
            return client.status()["store"]
    except InpathError as error:
        return error


def _show_stored(lab: Lab, result: PathResult) -> None:
    configuration = load_configuration(lab.directory.configuration(SOURCE))
    store = ResultStore(configuration.store_url)
    try:
        stored = _await_stored(lab, store, result)
    finally:
        store.close()
    table = Table(title=f"The stored row in {store.name}", title_justify="left", show_header=False)
    table.add_row("id", stored.id)
    table.add_row("status", str(stored.status))
    table.add_row("source, destination", f"{stored.source}, {stored.destination}")
    table.add_row("requested at", stored.requested_at)
    table.add_row("elapsed", f"{stored.elapsed_ms} ms")
    table.add_row("segments", str(len(stored.segments)))
    for metric, composed in stored.composed.items():
        table.add_row(f"composed {metric} {shown_unit(composed.unit)}", number_text(composed.unit, composed.value))
    data.print(table)


def _suggest() -> None:
    program = Path(sys.executable).with_name("inpath")
    shown = program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program
    data.print("\nThe network stays up. Try:")
    for line in (
        f"lab exec --name {NAME} h1 -- inpath request mp1 mp3   # ask from a host that runs nothing of ours",
        f"lab exec --name {NAME} mp1 -- inpath request mp1 h2   # a host behind the last point",
        f"lab exec --name {NAME} mp2 -- inpath mp status",
        f"lab link --name {NAME} r11 r12 --delay-ms 30 --one-way",
        f"lab point --name {NAME} mp2 kill                      # then ask mp1 mp3 twice",
        f"lab truth --name {NAME} mp1 mp3",
        f"lab down {NAME}",
    ):
        data.print(f"  {shown} {line}", highlight=False, soft_wrap=True)


def _clear_away() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it
    _say("taking everything down")
    take_down(NAME)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM ends the demonstration as Ctrl-C does."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _say(text: str) -> None:
    talk.print(f"[bold]==>[/bold] {text}", highlight=False)


def main() -> None:
    """Run the demonstration; errors raised on purpose become one line and an exit code."""
    try:
        demo.main(prog_name="demo", standalone_mode=False)
    except InpathError as error:
        talk.print(f"demo: {error}", style="red", highlight=False)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        talk.print("demo: interrupted")
        sys.exit(130)


if __name__ == "__main__":
    main()
