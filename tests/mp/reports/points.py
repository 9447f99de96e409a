"""Points that know each other by certificates."""

from __future__ import annotations

import time
from pathlib import Path

from mp.keys.authority import Certified, issued, new_authority
from mp.reports.settings import ReportTls

DAY_MS = 86_400_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def authority(name: str = "inpath") -> Certified:
    return new_authority(name, now_ms=now_ms(), days=10)


def certified(
    folder: Path, by: Certified, address: str, *, made_at_ms: int | None = None, days: int = 1
) -> ReportTls:
    """The files of the point at `address`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = issued(by, address, now_ms=now_ms() if made_at_ms is None else made_at_ms, days=days)
    files = ReportTls(
        ca=folder / "ca.pem", certificate=folder / f"{address}.pem", key=folder / f"{address}-key.pem"
    )
    files.ca.write_bytes(by.certificate_pem)
    files.certificate.write_bytes(made.certificate_pem)
    files.key.touch(mode=0o600)
    files.key.write_bytes(made.key_pem)
    return files
