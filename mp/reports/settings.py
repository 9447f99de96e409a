"""The table [reports] of the configuration: how points prove to each other who they are when reports travel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mp.toml_table import TomlTable


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportTls:
    """Files in PEM form."""

    ca: Path
    """Certificates of those who may certify points."""
    certificate: Path
    """Of this point, naming its address; with those in between, if there are any."""
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSettings:
    """How reports travel."""

    tls: ReportTls | None
    """None: in the clear, as all that a request collects has traveled before."""


def report_settings(content: Mapping[str, Any]) -> ReportSettings:
    """Check the table.

    Args:
        content: the tables of the file.

    Raises:
        ConfigurationError: naming the key, the value, and what was expected.
    """
    table = TomlTable("reports", content)
    is_wanted = table.truth("tls", False)
    files = {name: table.text(name, "") for name in ("ca", "certificate", "key")}
    table.finish()
    if not is_wanted:
        return ReportSettings(tls=None)
    for name, path in files.items():
        if not path:
            raise table.error(name, path, "a file, since reports.tls is true")
    return ReportSettings(tls=ReportTls(**{name: Path(path) for name, path in files.items()}))
