"""Keys as a table for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

_COLUMNS = ("id", "kind", "areas", "use", "created", "fingerprint")
_FINGERPRINT_DIGITS = 16
"""Enough to tell keys apart; all of them are in `inpath keys show`."""


def print_keys(documents: Iterable[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print documents of `key_text.shown` on stdout."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in _COLUMNS:
        table.add_column(column, no_wrap=column != "areas", overflow="fold")
    for one in documents:
        areas = ",\n".join(one["areas"]) + (f" ({one['operator']})" if one["operator"] else "")
        use = "signs" if one["signs"] else "verifies"
        fingerprint = one["fingerprint"][:_FINGERPRINT_DIGITS]
        table.add_row(one["id"], one["kind"], areas, use, one["created_at"][:10], fingerprint)
    (console or Console()).print(table)
