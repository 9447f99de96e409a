"""What the lab's commands show to people. Values come in as the JSON of `lab.network` has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def print_labs(labs: Sequence[Mapping[str, Any]]) -> None:
    """One line for each lab, then the nodes and links of each."""
    console = Console()
    if not labs:
        console.print("no lab is up; bring one up with: inpath lab up FILE")
        return
    console.print(_labs_table(labs))
    for lab in labs:
        if lab["nodes"]:
            console.print(_nodes_table(lab))
        if lab["links"]:
            console.print(_links_table(f"links of {lab['name']}", lab["links"]))


def print_link(link: Mapping[str, Any]) -> None:
    """Both directions of one link."""
    Console().print(_links_table(None, [link]))


def print_truth(truth: Mapping[str, Any]) -> None:
    """The path and what it adds up to."""
    table = Table(title=f"{truth['a']} to {truth['b']} in lab {truth['lab']}", show_header=False)
    table.add_row("path", " ".join(truth["path"]) + ("" if truth["complete"] else " (breaks off)"))
    table.add_row("hops", _number(truth["hops"]))
    table.add_row("delay", _number(truth["delay_ms"], "ms"))
    table.add_row("rtt", _number(truth["rtt_ms"], "ms"))
    table.add_row("loss", _number(truth["loss_ratio"]))
    is_unlimited = truth["complete"] and truth["capacity_mbit_s"] is None
    table.add_row("capacity", "no limit" if is_unlimited else _number(truth["capacity_mbit_s"], "Mbit/s"))
    table.add_row("mtu", _number(truth["mtu_octets"], "octets"))
    Console().print(table)


def _labs_table(labs: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("lab", "state", "routing", "links are", "nodes", "links", "points running")
    for lab in labs:
        running = sum(node["pid"] is not None for node in lab["nodes"])
        points = sum(node["point"] for node in lab["nodes"])
        counts = (str(len(lab["nodes"])), str(len(lab["links"])), f"{running} of {points}")
        table.add_row(lab["name"], lab["phase"], lab["routing"] or "", lab["link_kind"] or "", *counts)
    return table


def _nodes_table(lab: Mapping[str, Any]) -> Table:
    table = Table("node", "area", "address", "kind", "pid", "namespace", title=f"nodes of {lab['name']}")
    for node in lab["nodes"]:
        kind = " ".join(("host" if node["host"] else "router", *(["point"] if node["point"] else [])))
        pid = "" if node["pid"] is None else str(node["pid"])
        table.add_row(node["name"], node["area"], node["address"], kind, pid, node["namespace"])
    return table


def _links_table(title: str | None, links: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("from", "to", "delay ms", "jitter ms", "loss", "rate Mbit/s", "mtu", "state", title=title)
    for link in links:
        for start, end, key in (("a", "b", "a_to_b"), ("b", "a", "b_to_a")):
            way = link[key]
            quantities = [_number(way[name]) for name in ("delay_ms", "jitter_ms", "loss_ratio")]
            rate = "no limit" if way["rate_mbit"] is None else _number(way["rate_mbit"])
            state = ("drops options" if way["drops_options"] else "up") if way["up"] else "down"
            table.add_row(link[start], link[end], *quantities, rate, str(link["mtu_octets"]), state)
    return table


def _number(value: float | None, unit: str = "") -> str:
    return "undefined" if value is None else f"{value:g} {unit}".strip()
