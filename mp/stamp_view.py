"""What one STAMP session found out, as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from mp.stamp_result import is_round_trip_only
from prober.stamp.fault import ProbeFault
from prober.stamp.session_tally import ReflectorKind
from schemas.metrics import METRICS

_LABELS = {
    "jitter": "jitter, 99.9 % ms",
    "distribution": "delay, 99 % ms",
    "reordering": "reordering %",
    "duplication": "duplication %",
}
"""Metrics of one direction that have one number, with their units."""


def stamp_view(document: Mapping[str, Any]) -> RenderableType:
    """Everything about one session.

    Args:
        document: of `stamp_document`.
    """
    parts: list[RenderableType] = [_headline(document), _table(document)]
    parts.extend(Text(f"! {remark}", style="yellow") for remark in _remarks(document))
    return Group(*parts)


def print_stamp(document: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the result on stdout."""
    (console or Console()).print(stamp_view(document))


def _headline(document: Mapping[str, Any]) -> Text:
    text = Text()
    text.append(f"{document['host']} port {document['port']}  ", style="bold")
    text.append(f"{document['answered']} of {document['sent']} answered, ")
    mode = "authenticated" if document["authenticated"] else "unauthenticated"
    kind = "" if document["reflector"] == ReflectorKind.UNKNOWN else f", reflector {document['reflector']}"
    text.append(f"{mode}{kind}", style="dim")
    return text


def _table(document: Mapping[str, Any]) -> Table:
    table = Table()
    table.add_column("")
    for column in ("there", "back", "round trip"):
        table.add_column(column, justify="right")
    parts = [document[name] for name in ("forward", "backward", "round_trip")]
    delay, round_trip = [part.get("delay") for part in parts[:2]], parts[2].get("rtt")
    for label, key in (("delay, mean ms", "mean_ms"), ("delay, minimum ms", "minimum_ms")):
        table.add_row(label, *(_number(values, key) for values in (*delay, round_trip)))
    table.add_row("clock error up to ms", *(_bound(values) for values in delay), "-")
    table.add_row("loss %", *(_percent(part["loss"]) for part in parts))
    for name, label in _LABELS.items():
        if any(name in part for part in parts):
            table.add_row(label, *(_value(part, name) for part in parts))
    table.add_row("hops", *("-" if part.get("hops") is None else str(part["hops"]) for part in parts))
    table.add_row("samples", *(str(values["count"]) if values else "0" for values in (*delay, round_trip)))
    return table


def _number(values: Mapping[str, Any] | None, key: str) -> str:
    return "-" if values is None else f"{values[key]:.3f}"


def _bound(delay: Mapping[str, Any] | None) -> str:
    if delay is None or not delay["synchronized"]:
        return "-"
    return f"{delay['upstream_clock_error_ms'] + delay['current_clock_error_ms']:.3f}"


def _percent(loss: Mapping[str, Any] | None) -> str:
    return "-" if loss is None else f"{loss['value'] * 100:.2f}"


def _value(part: Mapping[str, Any], name: str) -> str:
    if name not in part:
        return "-"
    value = part[name]["value"]
    return f"{value * 100:.2f}" if METRICS[name].unit == "ratio" else f"{value:.3f}"


def _remarks(document: Mapping[str, Any]) -> list[str]:
    """What a reader of the table must know."""
    remarks = []
    if is_round_trip_only(document):
        remarks.append("loss: round trip only, the reflector shows no count of its own")
    clocks = document["clocks"]
    unsynchronized = [
        name
        for name, state in (("this host's", clocks["own"]), ("the reflector's", clocks["reflector"]))
        if state is not None and not state["synchronized"]
    ]
    if unsynchronized:
        remarks.append(
            f"{' and '.join(unsynchronized)} clock not synchronized: delay there and back are off by its error, "
            "the round trip is right"
        )
    if document["forward"].get("delay") is None and document["round_trip"].get("rtt") is None:
        remarks.append("too few answers for a delay")
    if document["dscp"]["refused"]:
        remarks.append("the reflector refuses to mark its replies with this DSCP")
    bad = [f"{document['counters'][fault]} {fault}" for fault in ProbeFault if fault in document["counters"]]
    if bad:
        remarks.append(f"bad packets: {', '.join(bad)}")
    return remarks
