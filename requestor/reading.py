"""What a result says of one quantity that a profile limits: value, 95 % interval, and doubts (pure)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from requestor.e_model import Codec, delay_impairment, loss_impairment, r_factor
from requestor.profile import R_FACTOR, R_UNIT, Limit
from requestor.query import DEFAULT_MAX_AGE_S
from schemas.intervals import Z_95
from schemas.metrics import METRICS
from schemas.result import ComposedMetric, Flag, Method, PathResult, Quantiles
from schemas.verdict import Doubt

LEAST_LOST_FOR_BURSTS: Final = 10
"""The rows of fewer lost packets tell nothing of bursts."""
_LEVELS: Final = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One quantity of the path."""

    unit: str | None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    binding_segment: tuple[str, str] | None = None
    doubt: Doubt | None = None
    """What keeps it from deciding; UNSYNCHRONIZED with an interval only says why that is wide."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """What may decide; None where nothing may."""
        if self.low is None or self.high is None or self.doubt not in (None, Doubt.UNSYNCHRONIZED):
            return None
        return self.low, self.high


def reading_of(limit: Limit, result: PathResult, codec: Codec) -> Reading:
    """The quantity that `limit` bounds; `codec` matters to the R-factor alone."""
    if limit.metric == R_FACTOR:
        return r_reading(result, codec)
    if limit.metric == "jitter" and limit.quantile is not None:
        return _variation(result, limit.max_age_s)
    if limit.quantile is not None:
        return _quantile(result, limit.quantile, limit.max_age_s)
    if limit.metric == "delay":
        return _delay(result, limit.max_age_s)
    return _plain(result, limit.metric, limit.max_age_s)


def r_reading(result: PathResult, codec: Codec) -> Reading:
    """The E-model's estimate; its interval reaches from the worst to the best delay, jitter and loss together.

    Of two de-jitter buffers the better one counts: long enough for 99.9 % of the packets, or for 99 %.
    """
    delay = _delay(result, DEFAULT_MAX_AGE_S)
    loss = _plain(result, "loss", DEFAULT_MAX_AGE_S)
    jitter = _plain(result, "jitter", DEFAULT_MAX_AGE_S)
    variation = _variation(result, DEFAULT_MAX_AGE_S)
    buffers = [(one, late) for one, late in ((jitter, 0.001), (variation, 0.01)) if one.interval is not None]
    if delay.interval is None or loss.interval is None or not buffers:
        blocking = next(part for part in (delay, loss, jitter) if part.interval is None)
        return Reading(unit=R_UNIT, doubt=blocking.doubt, binding_segment=blocking.binding_segment)
    bursts = burst_ratio(result)

    def best_r(delay_ms: float, buffers_ms: Sequence[float], ratio: float) -> float:
        return max(
            r_factor(
                codec,
                delay_ms=delay_ms,
                buffer_ms=buffer_ms,
                late_ratio=late,
                loss_ratio=ratio,
                burst_ratio=bursts,
            )
            for buffer_ms, (_, late) in zip(buffers_ms, buffers, strict=True)
        )

    lows, highs = zip(*(one.interval for one, _ in buffers if one.interval is not None), strict=True)
    values = [one.value for one, _ in buffers if one.value is not None]
    is_known = delay.value is not None and loss.value is not None
    return Reading(
        unit=R_UNIT,
        value=best_r(delay.value or 0.0, values, loss.value or 0.0) if is_known else None,
        low=best_r(delay.interval[1], highs, loss.interval[1]),
        high=best_r(delay.interval[0], lows, loss.interval[0]),
        binding_segment=_binding_of_r(delay, buffers[-1][0], loss, codec, bursts),
        doubt=delay.doubt,
    )


def burst_ratio(result: PathResult) -> float:
    """Mean length of a row of lost packets over that of random loss (G.107 BurstR), 1 or more.

    Probes are further apart than the packets of speech, so that bursts shorter than their gap stay unseen.
    """
    losses = [segment.metrics["loss"] for segment in result.segments if "loss" in segment.metrics]
    sent, lost, runs = (sum(int(one.get(key) or 0) for one in losses) for key in ("count", "lost", "runs"))
    if lost < LEAST_LOST_FOR_BURSTS or runs == 0:
        return 1.0
    return max(1.0, lost / runs * (1 - lost / sent))


def _binding_of_r(
    delay: Reading, jitter: Reading, loss: Reading, codec: Codec, bursts: float
) -> tuple[str, str] | None:
    """That of what costs the most."""
    delay_ms, jitter_ms, ratio = (max(part.value or 0.0, 0.0) for part in (delay, jitter, loss))
    waiting = delay_impairment(delay_ms + jitter_ms + codec.delay_ms)
    if loss_impairment(codec, ratio, bursts) > waiting:
        return loss.binding_segment
    return delay.binding_segment if delay_ms >= jitter_ms else jitter.binding_segment


def _plain(result: PathResult, metric: str, max_age_s: float) -> Reading:
    composed = result.composed.get(metric)
    if composed is None:
        return Reading(unit=METRICS[metric].unit if metric in METRICS else None, doubt=Doubt.UNDEFINED)
    doubt = _doubt(composed, max_age_s)
    is_in_doubt = doubt is Doubt.UNSYNCHRONIZED  # then the interval says nothing, nor does the value
    return Reading(
        unit=composed.unit,
        value=None if is_in_doubt else composed.value,
        low=None if is_in_doubt else composed.low,
        high=None if is_in_doubt else composed.high,
        binding_segment=composed.binding_segment,
        doubt=doubt,
    )


def _doubt(composed: ComposedMetric, max_age_s: float) -> Doubt | None:
    if composed.value is None:
        return Doubt.UNDEFINED
    if Flag.STALE in composed.flags or (composed.oldest_age_s or 0.0) > max_age_s:
        return Doubt.STALE
    if Flag.UNSYNCHRONIZED in composed.flags:
        return Doubt.UNSYNCHRONIZED
    return Doubt.NO_INTERVAL if composed.low is None or composed.high is None else None


def _delay(result: PathResult, max_age_s: float) -> Reading:
    """One way; with clocks in doubt it is still no longer than the round trip over the same segments."""
    delay = _plain(result, "delay", max_age_s)
    if delay.doubt is not Doubt.UNSYNCHRONIZED:
        return delay
    round_trip = _plain(result, "rtt", max_age_s).interval
    if round_trip is None:
        return delay
    return Reading(
        unit=delay.unit,
        low=0.0,
        high=max(0.0, round_trip[1]),
        binding_segment=delay.binding_segment,
        doubt=Doubt.UNSYNCHRONIZED,
    )


def _quantile(result: PathResult, quantile: str, max_age_s: float) -> Reading:
    delay = _plain(result, "delay", max_age_s)
    composed = result.composed.get("delay")
    if delay.doubt is not None or composed is None:
        return Reading(unit=delay.unit, binding_segment=delay.binding_segment, doubt=delay.doubt)
    if composed.quantiles is None:
        return Reading(unit=delay.unit, binding_segment=delay.binding_segment, doubt=Doubt.UNDEFINED)
    if quantile == "p99" and (whole := _plain(result, "distribution", max_age_s)).interval is not None:
        return whole  # the same quantile, with an interval of its own
    value: float = getattr(composed.quantiles, quantile)
    width = _half_width(quantile, composed.quantiles, composed)
    return Reading(
        unit=delay.unit,
        value=value,
        low=None if width is None else value - width,
        high=None if width is None else value + width,
        binding_segment=delay.binding_segment,
        doubt=Doubt.NO_INTERVAL if width is None else None,
    )


def _variation(result: PathResult, max_age_s: float) -> Reading:
    """The 99 % quantile of the delay less its minimum (RFC 5481 section 4.2 with another quantile).

    Minima add (RFC 6049 section 4.3.5). What clocks are off is in both, so neither their error, by which the
    interval of the quantile is widened, nor their synchronization matters.
    """
    composed = result.composed.get("distribution")
    measured = [segment.metrics.get("distribution", {}).get("minimum_ms") for segment in result.segments]
    minima_ms = [float(one) for one in measured if one is not None]
    if composed is None or composed.value is None or len(minima_ms) < len(measured) or not minima_ms:
        binding = None if composed is None else composed.binding_segment
        return Reading(unit=METRICS["jitter"].unit, binding_segment=binding, doubt=Doubt.UNDEFINED)
    least_ms, error_ms = sum(minima_ms), _clock_error_ms(result)
    doubt = _doubt(
        replace(composed, flags=tuple(flag for flag in composed.flags if flag is Flag.STALE)), max_age_s
    )
    value = max(0.0, composed.value - least_ms)
    has_interval = composed.low is not None and composed.high is not None
    return Reading(
        unit=composed.unit,
        value=value,
        low=min(value, max(0.0, (composed.low or 0.0) + error_ms - least_ms)) if has_interval else None,
        high=max(value, (composed.high or 0.0) - error_ms - least_ms) if has_interval else None,
        binding_segment=composed.binding_segment,
        doubt=doubt,
    )


def _clock_error_ms(result: PathResult) -> float:
    """By how much the composition widens one-way values: the path's ends' errors, when delay was asked for."""
    first, last = (result.segments[index].metrics.get("delay", {}) for index in (0, -1))
    return float(first.get("upstream_clock_error_ms") or 0.0) + float(last.get("current_clock_error_ms") or 0.0)


def _half_width(quantile: str, known: Quantiles, delay: ComposedMetric) -> float | None:
    """Half the 95 % interval of a quantile by order statistics, and what the delay itself may be off.

    Of n samples, those of ranks n p +- 1.96 sqrt(n p (1 - p)) hold the p-quantile (RFC 2330 section 11.3 takes the
    empirical distribution); between the quantiles that are known, it is taken to be a straight line. Quantiles
    from cumulants have no distribution under them, and p99 none above it.
    """
    if known.method is not Method.CONVOLUTION or quantile == "p99" or delay.low is None or delay.high is None:
        return None
    above = "p95" if quantile == "p50" else "p99"
    level = _LEVELS[quantile]
    steepness_ms = (getattr(known, above) - getattr(known, quantile)) / (_LEVELS[above] - level)
    sampling_ms = Z_95 * math.sqrt(level * (1 - level) / delay.count) * steepness_ms
    return float(sampling_ms + (delay.high - delay.low) / 2)
