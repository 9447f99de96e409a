"""How many results a second does the recorder bring to the database, and how fast does a long history answer?

    python benchmarks/store.py [--json] [--results N] [--runs N]
    python benchmarks/store.py --history [--short] [--json]

The first form fills a spool with results of 3 segments and 4 metrics and drains it into a private MariaDB, which
flushes its log at each commit (innodb_flush_log_at_trx_commit=1, doublewrite on; no binary log, so sync_binlog
does not apply). Others may use the machine, so the limit is `RATE_LIMIT_PER_S` in the best run, and the processor
time of both sides is told.

The second form makes 10 million rows of results over 30 days inside the server (100 pairs; one composed metric,
no segments, to spare the disk) and from them the roll-ups by hour. It rolls up the last day with the code that a
point uses, and asks for the history of pairs over all 30 days by hour. The limit is `HISTORY_LIMIT_MS` in the
median. It needs 12 GB of disk; --short makes 1 % of it.

The exit code is 0 when the limits hold, 1 when one does not, 2 for a wrong option.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, text

from lab.database import PrivateMariaDB
from receiver.store.history import HistoryPoint, Resolution
from receiver.store.recorder import Recorder
from receiver.store.result_store import ResultStore
from receiver.store.retention import US_PER_DAY, Retention
from receiver.store.spool import Spool
from receiver.store.spool_document import document_from_result
from receiver.store.upkeep import Upkeep
from schemas.errors import HostError, InpathError, LabError
from schemas.message import SegmentState
from schemas.result import ComposedMetric, Method, PathResult, Quantiles, ResultStatus, SegmentResult
from schemas.rfc3339 import rfc3339_from_us

RATE_LIMIT_PER_S = 5_000
HISTORY_LIMIT_MS = 200
ROWS = 10_000_000
SHORT_ROWS = 100_000
DAYS = 30
PAIRS = 100
FREE_BYTES = 16_000_000_000
SHORT_FREE_BYTES = 1_000_000_000
START_US = 1_767_225_600_000_000
"""2026-01-01."""
END_US = START_US + DAYS * US_PER_DAY
SPOOLED = 200
SOURCE = "10.0.0.1"
STATISTICS: Mapping[str, tuple[str, Mapping[str, float | bool]]] = {
    "delay": ("ms", {"minimum_ms": 4.9, "variance_ms2": 0.25, "third_moment_ms3": 0.1, "synchronized": True}),
    "loss": ("ratio", {"sent": 600, "lost": 1, "threshold_ms": 1000, "runs": 1, "longest_run": 1}),
    "jitter": ("ms", {"ipdv_ms": 0.5, "interarrival_ms": 0.4, "mean_pdv_ms": 0.7, "variance_ms2": 0.25}),
    "rtt": ("ms", {"minimum_ms": 9.9, "variance_ms2": 0.5, "third_moment_ms3": 0.1}),
}
# A typical histogram instead of the true one: what counts here is its size.
_HOURS_OF_DAY = (
    "INSERT INTO hours SELECT source, destination, 'delay', "
    "requested_at_us - requested_at_us % 3600000000 AS hour_us, COUNT(*), "
    "SUM(JSON_VALUE(composed, '$.delay.value')), MIN(JSON_VALUE(composed, '$.delay.value')), "
    "MAX(JSON_VALUE(composed, '$.delay.value')), "
    "'34537\\:14 34538\\:13 34539\\:14 34540\\:14 34541\\:14 "
    "34542\\:14 34543\\:13 34544\\:14 34545\\:14 34546\\:14' "
    "FROM results WHERE requested_at_us >= :start AND requested_at_us < :end "
    "GROUP BY source, destination, hour_us"
)

Report = dict[str, object]


class LargeMariaDB(PrivateMariaDB):
    """With buffers of a small production server."""

    def _options(self) -> str:
        sizes = "innodb-buffer-pool-size=1G\ninnodb-log-file-size=512M\ninnodb-log-buffer-size=32M\n"
        return f"{super()._options()}tmpdir={self.directory}\n{sizes}"

    def processor_s(self) -> float:
        """Processor time that the server has taken, in user and system mode."""
        process = (self.directory / "mariadb.pid").read_text().strip()
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def result_of(number: int) -> PathResult:
    """The result number `number`: 5 a millisecond, of 100 pairs."""
    value = 5.0 + number % 97 / 10
    return PathResult(
        id=f"{number * 2_654_435_761:032x}",
        status=ResultStatus.COMPLETE,
        source=SOURCE,
        destination=f"10.9.9.{number % PAIRS + 1}",
        metrics=tuple(STATISTICS),
        requested_at=rfc3339_from_us(START_US + number * 200),
        elapsed_ms=31.25,
        segments=tuple(_segment(index, value) for index in range(3)),
        composed={name: _composed(name, 3 * value) for name in STATISTICS},
        warnings=(),
    )


def _segment(index: int, value: float) -> SegmentResult:
    return SegmentResult(
        upstream=f"10.0.0.{index + 1}",
        current=f"10.0.0.{index + 2}",
        state=SegmentState.MEASURED,
        measured_at=rfc3339_from_us(START_US, decimals=3),
        metrics={
            name: {"value": value, "unit": unit, "count": 600, **others}
            for name, (unit, others) in STATISTICS.items()
        },
    )


def _composed(name: str, value: float) -> ComposedMetric:
    quantiles = Quantiles(p50=value, p95=1.2 * value, p99=1.4 * value, method=Method.CONVOLUTION)
    return ComposedMetric(
        value=value,
        unit=STATISTICS[name][0],
        low=value - 0.1,
        high=value + 0.1,
        oldest_age_s=0.75,
        count=600,
        binding_segment=("10.0.0.1", "10.0.0.2"),
        method=Method.SUM,
        flags=(),
        quantiles=quantiles if name == "delay" else None,
    )


def run_rates(directory: Path, results: int, runs: int) -> Report:
    """Fill and drain a spool, `runs` times."""
    server = LargeMariaDB(directory)
    with server:
        store = ResultStore(server.url)
        store.prepare()
        runs_done = [
            _drained(directory / f"{run}.db", store, run * results, results, server) for run in range(runs)
        ]
        size = _megabytes(server.url, "results")
        settings = _settings(server.url)
        store.close()
    rates = [round(results / run.elapsed_s) for run in runs_done]
    return {
        "results": results,
        "results_per_s": rates,
        "recorder_cpu_us_per_result": round(1e6 * min(run.own_s for run in runs_done) / results),
        "server_cpu_us_per_result": round(1e6 * min(run.server_s for run in runs_done) / results),
        "load_average": round(os.getloadavg()[0], 1),
        "bytes_per_result": round(1e6 * size / (results * runs)),
        **settings,
        "within_limits": max(rates) >= RATE_LIMIT_PER_S,
    }


@dataclass(frozen=True, slots=True)
class Drained:
    """What one run took, and the processor time of both sides."""

    elapsed_s: float
    own_s: float
    server_s: float


def _drained(path: Path, store: ResultStore, first: int, results: int, server: LargeMariaDB) -> Drained:
    spool = Spool(path)
    for start in range(first, first + results, SPOOLED):
        documents = [(document_from_result(result_of(start + number)), "key") for number in range(SPOOLED)]
        spool.put_all(documents)
    recorder = Recorder(store, spool)
    began, own_s, server_s = time.monotonic(), time.process_time(), server.processor_s()
    while recorder.drain(0):
        pass
    drained = Drained(time.monotonic() - began, time.process_time() - own_s, server.processor_s() - server_s)
    if spool.depth or spool.refused:
        raise LabError(f"the database did not take everything: {recorder.state}")
    spool.close()
    return drained


def run_history(directory: Path, rows: int) -> Report:
    """Make rows, roll them up, and ask."""
    with LargeMariaDB(directory) as server:
        store = ResultStore(server.url)
        store.prepare()
        upkeep = Upkeep(server.url, Retention())
        while upkeep.prune(START_US + US_PER_DAY):  # makes partitions
            pass
        made_s = _timed(lambda: _make_rows(server.url, upkeep, rows))
        rolled_s = _timed(lambda: _roll_everything(upkeep))
        times_ms, points = _ask(store)
        report: Report = {
            "rows": rows,
            "results_mb": round(_megabytes(server.url, "results")),
            "minutes_mb": round(_megabytes(server.url, "minutes")),
            "hours_mb": round(_megabytes(server.url, "hours")),
            "made_per_s": round(rows / made_s),
            "rolled_up_per_s": round(rows / DAYS / rolled_s),
            "history_points": len(points),
            "values": sum(point.count for point in points),
            "history_median_ms": round(statistics.median(times_ms), 1),
            "history_worst_ms": round(max(times_ms), 1),
            "within_limits": statistics.median(times_ms) <= HISTORY_LIMIT_MS,
        }
        upkeep.close()
        store.close()
    return report


def _make_rows(url: str, upkeep: Upkeep, rows: int) -> None:
    """A day at a time, as they would come: partitions are made on the way."""
    daily = rows // DAYS
    gap_us = US_PER_DAY // daily
    composed = (
        'CONCAT(\'{"delay":{"value":\', 20 + (seq * 7919 % 1000) / 100, \',"unit":"ms","low":19.5,'
        '"high":31.5,"oldest_age_s":0.75,"count":600,"binding_segment":null,"method":"sum",'
        '"flags":[],"quantiles":null}}\')'
    )
    engine = create_engine(url)
    for day in range(DAYS):
        start_us = START_US + day * US_PER_DAY
        upkeep.prune(start_us)
        with engine.begin() as connection:
            connection.execute(
                text(
                    "INSERT INTO results (requested_at_us, id, status, source, destination, metrics, elapsed_ms, "
                    "points, segments, composed, warnings) SELECT "
                    f"{start_us} + seq * {gap_us}, MD5({day} * {daily} + seq), 'complete', '{SOURCE}', "
                    f"CONCAT('10.9.9.', seq % {PAIRS} + 1), 'delay', 31.25, "
                    f"'10.0.0.1 10.0.0.2 10.0.0.4', '[]', {composed.replace(':', chr(92) + ':')}, '[]' "
                    f"FROM seq_0_to_{daily - 1}"
                )
            )
            connection.execute(text(_HOURS_OF_DAY), {"start": start_us, "end": start_us + US_PER_DAY})
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO stale_periods (resolution, start_us) "
                f"SELECT 'minute', {start_us} + seq * 60000000 FROM seq_0_to_1439"
            )
        )
    engine.dispose()


def _roll_everything(upkeep: Upkeep) -> None:
    while upkeep.roll_up(END_US + US_PER_DAY // 24):
        pass


def _ask(store: ResultStore) -> tuple[list[float], Sequence[HistoryPoint]]:
    times_ms = []
    points: Sequence[HistoryPoint] = ()
    for number in range(20):
        began = time.monotonic()
        points = store.history(SOURCE, f"10.9.9.{number + 1}", "delay", START_US, END_US, Resolution.HOUR)
        times_ms.append(1e3 * (time.monotonic() - began))
    return times_ms, points


def _timed(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _megabytes(url: str, table: str) -> float:
    engine = create_engine(url)
    with engine.connect() as connection:
        connection.execute(text(f"ANALYZE TABLE {table}")).all()
        size = connection.execute(
            text(
                "SELECT DATA_LENGTH + INDEX_LENGTH FROM information_schema.TABLES "
                "WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = :table"
            ),
            {"table": table},
        ).scalar_one()
    engine.dispose()
    return float(size) / 1e6


def _settings(url: str) -> dict[str, str]:
    engine = create_engine(url)
    names = ("innodb_flush_log_at_trx_commit", "innodb_doublewrite", "log_bin", "sync_binlog")
    with engine.connect() as connection:
        settings = {name: str(connection.execute(text(f"SELECT @@{name}")).scalar()) for name in names}
    engine.dispose()
    return settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the options say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--history", action="store_true")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--results", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="inpath-store-", dir="/var/tmp") as name:
            directory = Path(name)
            if options.history:
                needed = SHORT_FREE_BYTES if options.short else FREE_BYTES
                if shutil.disk_usage(directory).free < needed:
                    raise HostError(f"{directory} has too little room, expected {needed / 1e9:.0f} GB")
                report = run_history(directory, SHORT_ROWS if options.short else ROWS)
            else:
                report = run_rates(directory, options.results, options.runs)
    except InpathError as error:
        print(error, file=sys.stderr)
        return 1
    lines = [f"{name:32} {value}" for name, value in report.items()]
    print(json.dumps(report) if options.json else "\n".join(lines))
    return 0 if report["within_limits"] else 1


if __name__ == "__main__":
    sys.exit(main())
