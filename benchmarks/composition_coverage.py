"""Do the 95 % intervals of composed metrics hold the truth in 95 % of all paths, and how exact are quantiles?

    python -m benchmarks.composition_coverage [--json] [--paths N] [--short] [--seed N] [--rate N]

Random paths of 2 to 20 segments. The queueing delays of a segment follow one of six laws with heavy tails above a
constant delay; 0.01 % to 5 % of its packets are lost. Each segment is probed at Poisson times for 60 s; the
samples go through the real windows (`prober`), and what these tell through the real composition (`receiver`). The
truth is known: means and losses by formula, quantiles by numerical convolution of the true distributions.

Samples are independent here, within a segment and between segments. Those of a real network are not quite: probes
that meet the same congestion say the same thing twice, so real intervals hold a bit less than these.

Errors of quantiles are relative to the true delay, its constant part included; jitter has none. "+-" is the
binomial standard error of a coverage of 95 %. The exit code is 0 when the coverage of delay and loss is
within 93 to 97 % and the median error of p99 by convolution within 5 %, as far as so many paths can tell; 1 when
not; 2 for a wrong option.
"""

from __future__ import annotations

import argparse
import json
import math
import struct
import sys
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from random import Random
from statistics import median

from benchmarks.delay_laws import LAWS, Law
from prober.windows.delay_window import DelayWindow
from prober.windows.window import LONGEST_WINDOW_S, LossWindow
from receiver.composition import compose
from schemas.message import SegmentRecord, SegmentState
from schemas.metrics import Statistics
from schemas.result import ComposedMetric

START_NS = 1_767_268_800_000_000_000
END_NS = START_NS + LONGEST_WINDOW_S * 1_000_000_000
NS_PER_MS = 1_000_000
THRESHOLD_NS = 1_000_000_000

COVERAGE_PERCENT = (93.0, 97.0)
P99_ERROR_PERCENT = 5.0
PATHS, SHORT_PATHS = 1000, 100
LEVELS = (0.5, 0.95, 0.99, 0.999)

CELLS, COARSE_CELLS = 1024, 256
CELL_BITS, MASS_BITS = 64, 22
WHOLE = 1 << 40


@dataclass(frozen=True, slots=True)
class Segment:
    """The truth about one segment."""

    base_ms: float
    law: Law
    loss_ratio: float

    @classmethod
    def any(cls, dice: Random) -> Segment:
        """From a quiet local link to a busy long one."""
        scale_ms = 0.05 * 100 ** dice.random()
        return cls(dice.uniform(0.1, 20), dice.choice(LAWS)(dice, scale_ms), 0.0001 * 500 ** dice.random())

    def probed(self, dice: Random, rate_per_s: float) -> dict[str, Statistics]:
        """What a point tells after 60 s."""
        delays, losses = DelayWindow(), LossWindow()
        sent_ns, sequence = START_NS, -1
        arrivals: list[tuple[int, int, int]] = []
        while (sent_ns := sent_ns + round(dice.expovariate(rate_per_s) * 1e9)) < END_NS:
            sequence += 1
            if dice.random() >= self.loss_ratio:
                delay_ns = round((self.base_ms + self.law.draw(dice)) * NS_PER_MS)
                arrivals.append((sent_ns + delay_ns, delay_ns, sequence))
            elif sent_ns < END_NS - THRESHOLD_NS:  # of a later one it is not known yet that it is lost
                losses.lost(sequence, sent_ns, END_NS)
        for at_ns, delay_ns, number in sorted(arrivals):
            if at_ns < END_NS:
                delays.add(delay_ns, sequence=number, at_ns=at_ns)
                losses.received(at_ns)
        return _told(delays, losses)


def _told(delays: DelayWindow, losses: LossWindow) -> dict[str, Statistics]:
    window = delays.over(END_NS - 1, LONGEST_WINDOW_S)
    loss = losses.statistics(END_NS - 1, LONGEST_WINDOW_S)
    jitter = None if window is None else window.jitter()
    if window is None or jitter is None or loss is None:
        raise ValueError("too few packets for a window; a higher --rate is needed")
    delay = window.delay(upstream_clock_error_ms=0.0, current_clock_error_ms=0.0, synchronized=True)
    return {"delay": delay, "loss": loss, "jitter": jitter, "distribution": window.distribution()}


def true_quantiles_ms(segments: Sequence[Segment], levels: Sequence[float]) -> list[float]:
    """Of the path's delay without the constant parts, by convolution on a grid of CELLS cells."""
    range_ms = sum(segment.law.quantile_ms(0.9999) for segment in segments)
    coarse = _cumulative(segments, range_ms, COARSE_CELLS)
    range_ms *= min(1.0, (bisect_left(coarse, 0.9995 * WHOLE) + 8) / COARSE_CELLS)
    fine = _cumulative(segments, range_ms, CELLS)
    return [bisect_left(fine, level * WHOLE) * range_ms / CELLS for level in levels]


def _cumulative(segments: Sequence[Segment], range_ms: float, cells: int) -> list[int]:
    """The path's mass up to each cell. A distribution is an integer, so convolution is multiplication."""
    grid_bits = CELL_BITS * cells
    field = ((1 << (CELL_BITS - MASS_BITS)) - 1).to_bytes(CELL_BITS // 8, "little")
    in_fields = int.from_bytes(field * cells, "little")
    path = WHOLE
    for segment in segments:
        mass = struct.pack(f"<{cells}Q", *_masses(segment.law, range_ms / cells, cells))
        product = (path * int.from_bytes(mass, "little")) & ((1 << grid_bits) - 1)
        path = (product >> MASS_BITS) & in_fields
    return list(accumulate(struct.unpack(f"<{cells}Q", path.to_bytes(grid_bits // 8, "little"))))


def _masses(law: Law, cell_ms: float, cells: int) -> list[int]:
    """What lies between two points of the grid is shared by them so that its mean stays (Simpson's rule)."""
    shares = [0.0] * (cells + 1)
    below = 0.0
    for cell in range(cells):
        middle = law.share_below((cell + 0.5) * cell_ms)
        above = law.share_below((cell + 1) * cell_ms)
        upper = above - (below + 4 * middle + above) / 6
        shares[cell] += above - below - upper
        shares[cell + 1] += upper
        below = above
    return [max(0, round(share * (1 << MASS_BITS))) for share in shares[:cells]]


@dataclass(slots=True)
class Interval:
    """How often the 95 % interval of a metric held the truth."""

    metric: str
    paths: int = 0
    too_high: int = 0
    """Paths whose truth was below the interval."""
    too_low: int = 0

    def add(self, composed: ComposedMetric, truth: float) -> None:
        """Count one path; one without an interval holds nothing."""
        self.paths += 1
        low, high = composed.low, composed.high
        self.too_high += low is None or truth < low
        self.too_low += high is not None and truth > high

    @property
    def percent(self) -> float:
        """The coverage."""
        return 100 * (1 - (self.too_high + self.too_low) / self.paths)

    @property
    def error_percent(self) -> float:
        """Binomial standard error of a coverage of 95 %."""
        return 100 * math.sqrt(0.95 * 0.05 / self.paths)

    @property
    def is_within_limits(self) -> bool:
        """As far as two standard errors can tell."""
        low, high = COVERAGE_PERCENT
        return low - 2 * self.error_percent <= self.percent <= high + 2 * self.error_percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table, in percent."""

    quantity: str
    paths: int
    coverage: float | None = None
    truth_below: float | None = None
    truth_above: float | None = None
    coverage_error: float | None = None
    median_error: float | None = None
    p90_error: float | None = None
    within_limits: bool | None = None
    """None where nothing is promised."""


class Tally:
    """Coverage and errors over many paths."""

    def __init__(self) -> None:
        self.intervals = {name: Interval(name) for name in ("delay", "loss", "jitter", "distribution")}
        self.errors: dict[str, list[float]] = {}

    def add_path(self, dice: Random, rate_per_s: float, *, with_quantiles: bool = True) -> None:
        """Probe one random path and compare.

        Args:
            dice: makes the path and its probes.
            rate_per_s: probes of each segment.
            with_quantiles: compare jitter and p99 too, which costs more than all else.
        """
        segments = [Segment.any(dice) for _ in range(dice.randint(2, 20))]
        records = [_record(index, segment.probed(dice, rate_per_s)) for index, segment in enumerate(segments)]
        metrics = tuple(self.intervals) if with_quantiles else ("delay", "loss")
        composed = compose(metrics, records, waited_ms=0, max_age_ms=60_000).composed
        base_ms = sum(segment.base_ms for segment in segments)
        self.intervals["delay"].add(composed["delay"], base_ms + sum(one.law.mean_ms for one in segments))
        self.intervals["loss"].add(composed["loss"], 1 - math.prod(1 - one.loss_ratio for one in segments))
        if with_quantiles:
            self._add_quantiles(segments, records, composed, base_ms)

    def _add_quantiles(
        self,
        segments: Sequence[Segment],
        records: Sequence[SegmentRecord],
        composed: dict[str, ComposedMetric],
        base_ms: float,
    ) -> None:
        p50, p95, p99, p999 = true_quantiles_ms(segments, LEVELS)
        variation_ms = p999 - sum(segment.law.least_ms for segment in segments)
        self.intervals["distribution"].add(composed["distribution"], base_ms + p99)
        self.intervals["jitter"].add(composed["jitter"], variation_ms)
        without = [_only(record, "delay") for record in records]
        by_cumulants = compose(("delay",), without, waited_ms=0, max_age_ms=60_000).composed["delay"].quantiles
        for quantiles in (composed["delay"].quantiles, by_cumulants):
            assert quantiles is not None
            given = {"p50": (quantiles.p50, p50), "p95": (quantiles.p95, p95), "p99": (quantiles.p99, p99)}
            for name, (found_ms, true_ms) in given.items():
                self._add_error(f"{name} by {quantiles.method}", found_ms, base_ms + true_ms)
        jitter = composed["jitter"]
        assert jitter.value is not None
        self._add_error(f"jitter by {jitter.method}", jitter.value, variation_ms)

    def _add_error(self, quantity: str, found_ms: float, true_ms: float) -> None:
        self.errors.setdefault(quantity, []).append(100 * abs(found_ms / true_ms - 1))

    def rows(self) -> list[Row]:
        """The table."""
        rows = [
            Row(
                quantity=f"interval of {name}",
                paths=interval.paths,
                coverage=interval.percent,
                truth_below=100 * interval.too_high / interval.paths,
                truth_above=100 * interval.too_low / interval.paths,
                coverage_error=interval.error_percent,
                within_limits=interval.is_within_limits if name in ("delay", "loss") else None,
            )
            for name, interval in self.intervals.items()
            if interval.paths
        ]
        for quantity, errors in sorted(self.errors.items()):
            middle = median(errors)
            rows.append(
                Row(
                    quantity=quantity,
                    paths=len(errors),
                    median_error=middle,
                    p90_error=sorted(errors)[len(errors) * 9 // 10],
                    within_limits=middle <= P99_ERROR_PERCENT if quantity == "p99 by convolution" else None,
                )
            )
        return rows


def _record(index: int, statistics: dict[str, Statistics]) -> SegmentRecord:
    return SegmentRecord(
        upstream=f"10.0.0.{index + 1}",
        current=f"10.0.0.{index + 2}",
        state=SegmentState.MEASURED,
        recorded_at_ms=END_NS // NS_PER_MS,
        metrics=statistics,
    )


def _only(record: SegmentRecord, metric: str) -> SegmentRecord:
    return SegmentRecord(
        upstream=record.upstream,
        current=record.current,
        state=record.state,
        recorded_at_ms=record.recorded_at_ms,
        metrics={metric: record.metrics[metric]},
    )


def print_table(rows: Sequence[Row]) -> None:
    """For people."""
    print(f"{'95 % interval, in % of paths':30}{'paths':>6}{'holds':>8}{'+-':>6}{'too high':>10}{'too low':>9}")
    for row in rows:
        if row.coverage is not None:
            print(
                f"{row.quantity:30}{row.paths:6}{row.coverage:8.1f}{row.coverage_error:6.1f}"
                f"{row.truth_below:10.1f}{row.truth_above:9.1f}{_verdict(row)}"
            )
    print(f"\n{'error in % of the truth':30}{'paths':>6}{'median':>8}{'90 % of paths below':>22}")
    for row in rows:
        if row.median_error is not None:
            print(f"{row.quantity:30}{row.paths:6}{row.median_error:8.2f}{row.p90_error:22.2f}{_verdict(row)}")


def _verdict(row: Row) -> str:
    return "" if row.within_limits is None else "  ok" if row.within_limits else "  NOT WITHIN LIMITS"


def main() -> int:
    """Run all paths and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--paths", type=int, help=f"how many, {PATHS} unless told")
    parser.add_argument("--short", action="store_true", help=f"{SHORT_PATHS} paths")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=10.0, help="probes a second on each segment")
    options = parser.parse_args()
    paths = (SHORT_PATHS if options.short else PATHS) if options.paths is None else options.paths
    if paths < 1 or options.rate < 1:
        parser.error("--paths and --rate must be 1 or more")
    dice = Random(options.seed)
    tally = Tally()
    for number in range(1, paths + 1):
        tally.add_path(dice, options.rate)
        if number % 10 == 0:
            print(f"\r{number} of {paths} paths", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    rows = tally.rows()
    if options.json:
        print(json.dumps({"paths": paths, "seed": options.seed, "rows": [asdict(row) for row in rows]}, indent=2))
    else:
        print_table(rows)
    return 0 if all(row.within_limits is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
