"""Daily partitions of the large tables of MariaDB: made ahead, dropped whole when their day is over long enough.

Each holds the rows of one day and is named for it: `d20454` ends where day 20454 after 1970-01-01 begins. The
first one also holds what is older, and `later` what is newer than all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Table, text

from receiver.store.retention import US_PER_DAY

AHEAD_DAYS = 3
"""How long nobody has to look after the tables before a day is put where another one is."""
MAX_CHANGES = 32
"""Partitions made or dropped in one call."""
LATER = "later"


@dataclass(frozen=True, slots=True)
class Plan:
    """Days (since 1970-01-01) before which partitions end."""

    make: tuple[int, ...]
    drop: tuple[int, ...]


def plan(ends: Sequence[int], now_us: int, kept_days: int) -> Plan:
    """What to do.

    Args:
        ends: the days before which the partitions end that there are, ascending.
        now_us: microseconds since the Unix epoch.
        kept_days: rows of so many whole days are kept.
    """
    today = now_us // US_PER_DAY
    oldest = today - kept_days
    first = max(ends[-1] + 1, oldest + 1) if ends else today + 1
    make = range(first, today + 1 + AHEAD_DAYS + 1)
    drop = [end for end in ends if end <= oldest]
    return Plan(tuple(make[:MAX_CHANGES]), tuple(drop[:MAX_CHANGES]))


def tend(connection: Connection, table: Table, now_us: int, kept_days: int) -> bool:
    """Do what `plan` says; whether there was anything. For a partitioned table of MariaDB or MySQL."""
    wanted = plan(_ends(connection, table.name), now_us, kept_days)
    if wanted.make:
        daily = ", ".join(f"PARTITION d{end} VALUES LESS THAN ({end * US_PER_DAY})" for end in wanted.make)
        later = f"PARTITION {LATER} VALUES LESS THAN MAXVALUE"
        connection.execute(text(f"ALTER TABLE {table.name} REORGANIZE PARTITION {LATER} INTO ({daily}, {later})"))
    if wanted.drop:
        names = ", ".join(f"d{end}" for end in wanted.drop)
        connection.execute(text(f"ALTER TABLE {table.name} DROP PARTITION {names}"))
    return bool(wanted.make or wanted.drop)


def _ends(connection: Connection, table: str) -> list[int]:
    names = connection.execute(
        text(
            "SELECT PARTITION_NAME FROM information_schema.PARTITIONS "
            "WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = :table AND PARTITION_NAME LIKE 'd%' "
            "ORDER BY PARTITION_ORDINAL_POSITION"
        ),
        {"table": table},
    ).scalars()
    return [int(name[1:]) for name in names]
