"""A point's state as tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from mp.result_view import number_text, range_text, shown_unit

_COLUMNS = ("delay", "loss", "jitter", "rtt")
"""What is measured all the time, side by side; all else has a line of its own."""


_NAMES = {"distribution": "delay, p99"}
_MEASURING = ("probes", "mtu", "bandwidth")


def print_status(document: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the document of `mp/status.py` on stdout."""
    (console or Console()).print(status_view(document))


def status_view(document: Mapping[str, Any]) -> RenderableType:
    """The document of `mp/status.py` for people."""
    point, clock = document["point"], document["clock"]
    area = f" in {point['area']}" if point["area"] else ""
    trust = f"synchronized within {clock['error_ms']:g} ms" if clock["synchronized"] else "not synchronized"
    return Group(
        Text.assemble((point["name"], "bold"), f" at {point['address']}{area}, up {document['uptime_s']:.0f} s"),
        f"clock {trust}; packet process {document['packet_process']['pid']}, {_store_text(document)}",
        *_knowledge_lines(document.get("knowledge")),
        *_verification_lines(document["verification"]),
        _neighbor_table(document),
        *_other_metrics(document),
        *_discovery_table(document["discovery"]),
        _counter_table(document),
    )


def _store_text(document: Mapping[str, Any]) -> str:
    store = document["store"]
    if store is None:
        return "database not looked for yet"
    return f"database {store['database']}, {store['spool_depth']} results wait"


def _knowledge_lines(knowledge: Mapping[str, Any] | None) -> list[str]:
    if knowledge is None:
        return []
    told = sum(state in ("neighbor", "border") for state in knowledge["peers"].values())
    return [
        f"knows {knowledge['segments']} segments of {knowledge['points']} other points, told by {told} of them"
    ]


def _verification_lines(check: Mapping[str, Any] | None) -> list[str]:
    if check is None:
        return []
    return [f"last closure check, to {check['destination']}: {check['verdict']} ({check['checked_at']})"]


def _neighbor_table(document: Mapping[str, Any]) -> Table:
    table = _table("Neighbors: the segment from each to this point, last 60 s (ms; loss in %)")
    for column in ("neighbor", "role", "state"):
        table.add_column(column, no_wrap=True)
    for column in (*_COLUMNS, "n", "age"):
        table.add_column(column, justify="right", no_wrap=True)
    for neighbor in document["neighbors"]:
        metrics = neighbor["last_60_s"]
        age = neighbor["newest_sample_age_s"]
        table.add_row(
            neighbor["address"],
            neighbor["role"],
            neighbor["state"],
            *(
                number_text(metrics[name]["unit"], metrics[name]["value"]) if name in metrics else "-"
                for name in _COLUMNS
            ),
            str(max((metrics[name]["count"] for name in _COLUMNS if name in metrics), default=0)),
            "-" if age is None else f"{age:.1f} s",
        )
    return table


def _other_metrics(document: Mapping[str, Any]) -> list[Table]:
    table = _table("What else is known of these segments")
    for column in ("neighbor", "metric"):
        table.add_column(column, no_wrap=True)
    for column in ("value", "from .. to"):
        table.add_column(column, justify="right", no_wrap=True)
    for neighbor in document["neighbors"]:
        address = neighbor["address"]
        for name, values in neighbor["last_60_s"].items():
            if name not in _COLUMNS:
                unit = values["unit"]
                ends = range_text(unit, values["low"], values["high"]) if "low" in values else ""
                value = f"{number_text(unit, values['value'])} {shown_unit(unit)}"
                table.add_row(address, _NAMES.get(name, name), value, ends)
                address = ""
    return [table] if table.row_count else []


def _discovery_table(neighbors: Mapping[str, str | None]) -> list[Table]:
    table = _table("Neighbors toward far destinations")
    table.add_column("destination")
    table.add_column("neighbor")
    for destination, neighbor in neighbors.items():
        table.add_row(destination, neighbor or "no answer")
    return [table] if table.row_count else []


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))


def _counter_table(document: Mapping[str, Any]) -> Table:
    table = Table(title="Counters since the start", title_justify="left")
    table.add_column("of")
    table.add_column("counter")
    table.add_column("count", justify="right")
    counted = {
        "packets": document["packet_process"]["counters"],
        "requests": document["requests"],
        "reports": document["reports"],
        **{name: document[name] for name in document if name in _MEASURING or name.startswith("plugin ")},
    }
    for group, counters in counted.items():
        for name, value in sorted(counters.items()):
            table.add_row(group, name.replace("_", " "), str(value))
    return table
