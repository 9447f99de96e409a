"""A point's state as tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from mp.result_view import number_text
from schemas.metrics import METRICS


def print_status(document: Mapping[str, Any]) -> None:
    """Print the document of `mp/status.py` on stdout."""
    console = Console()
    point, clock = document["point"], document["clock"]
    area = f" in {point['area']}" if point["area"] else ""
    console.print(f"[bold]{point['name']}[/bold] at {point['address']}{area}, up {document['uptime_s']:.0f} s")
    trust = f"synchronized within {clock['error_ms']:g} ms" if clock["synchronized"] else "not synchronized"
    console.print(f"clock {trust}; packet process {document['packet_process']['pid']}, {_store_text(document)}")
    console.print(_neighbor_table(document))
    console.print(_counter_table(document))


def _store_text(document: Mapping[str, Any]) -> str:
    store = document["store"]
    if store is None:
        return "database not looked for yet"
    return f"database {store['database']}, {store['spool_depth']} results wait"


def _neighbor_table(document: Mapping[str, Any]) -> Table:
    table = Table(
        title="Neighbors: the segment from each to this point, last 60 s (ms; loss in %)",
        title_justify="left",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    for column in ("neighbor", "state"):
        table.add_column(column, no_wrap=True)
    for column in (*METRICS, "n", "age"):
        table.add_column(column, justify="right", no_wrap=True)
    for neighbor in document["neighbors"]:
        metrics = neighbor["last_60_s"]
        age = neighbor["newest_sample_age_s"]
        table.add_row(
            neighbor["address"],
            neighbor["state"],
            *(
                number_text(METRICS[name].unit, metrics[name]["value"]) if name in metrics else "-"
                for name in METRICS
            ),
            str(max((values["count"] for values in metrics.values()), default=0)),
            "-" if age is None else f"{age:.1f} s",
        )
    return table


def _counter_table(document: Mapping[str, Any]) -> Table:
    table = Table(title="Counters since the start", title_justify="left")
    table.add_column("of")
    table.add_column("counter")
    table.add_column("count", justify="right")
    counted = {
        "packets": document["packet_process"]["counters"],
        "requests": document["requests"],
        "reports": document["reports"],
        "probes": document["probes"],
    }
    for group, counters in counted.items():
        for name, value in sorted(counters.items()):
            table.add_row(group, name.replace("_", " "), str(value))
    return table
