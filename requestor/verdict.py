"""Hold the values of a path against a profile: yes, no, or unsure where they do not decide it (pure).

A limit is kept or broken when the whole 95 % interval lies on one side of it. It is in doubt when the interval
holds it, and when the value is undefined, too old, without an interval, or rests on clocks that nobody keeps. Of a
result in which anything is forged every limit is in doubt.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import assert_never

from requestor.e_model import BEST_R, Codec, mos_from_r
from requestor.profile import R_FACTOR, Limit, Profile
from requestor.reading import Reading, reading_of
from schemas.authentication import Standing
from schemas.result import PathResult
from schemas.verdict import BEST_FIRST, Answer, Doubt, LimitVerdict, Sense, Verdict, VoiceEstimate


def verdict_of(result: PathResult, profile: Profile) -> Verdict:
    """Whether the path is good enough; a failed result leaves every limit in doubt."""
    readings = [reading_of(limit, result, profile.codec) for limit in profile.limits]
    if result.authenticity is Standing.FORGED:
        readings = [replace(reading, doubt=Doubt.FORGED) for reading in readings]
    limits = tuple(map(_judge, profile.limits, readings))
    answer = max((limit.answer for limit in limits), key=BEST_FIRST.index)
    binding = min((limit for limit in limits if limit.answer is answer), key=_relative_margin)
    return Verdict(
        profile=profile.name,
        request_id=result.id,
        source=result.source,
        destination=result.destination,
        answer=answer,
        binding_metric=binding.metric,
        limits=limits,
        voice_estimate=next(
            (
                _voice_estimate(reading, profile.codec)
                for limit, reading in zip(profile.limits, readings, strict=True)
                if limit.metric == R_FACTOR
            ),
            None,
        ),
    )


def _judge(limit: Limit, reading: Reading) -> LimitVerdict:
    answer = Answer.UNSURE if reading.interval is None else _answer(limit, *reading.interval)
    return LimitVerdict(
        metric=limit.name,
        answer=answer,
        sense=limit.sense,
        limit=limit.bound,
        unit=reading.unit,
        value=reading.value,
        low=reading.low,
        high=reading.high,
        margin=None if reading.value is None else _margin(limit.sense, limit.bound, reading.value),
        binding_segment=reading.binding_segment,
        doubt=(reading.doubt or Doubt.STRADDLES) if answer is Answer.UNSURE else None,
        source=limit.source,
    )


def _answer(limit: Limit, low: float, high: float) -> Answer:
    good, bad = (low, high) if limit.sense is Sense.AT_MOST else (high, low)
    if _margin(limit.sense, limit.bound, bad) >= 0:
        return Answer.YES
    return Answer.UNSURE if _margin(limit.sense, limit.bound, good) >= 0 else Answer.NO


def _margin(sense: Sense, bound: float, value: float) -> float:
    match sense:
        case Sense.AT_MOST:
            return bound - value
        case Sense.AT_LEAST:
            return value - bound
        case other:
            assert_never(other)


def _relative_margin(limit: LimitVerdict) -> float:
    """For comparing limits of different units; a limit of which nothing is known comes first."""
    bad_end = limit.high if limit.sense is Sense.AT_MOST else limit.low
    value = bad_end if limit.value is None else limit.value
    room = BEST_R - limit.limit if limit.metric == R_FACTOR else limit.limit
    return -math.inf if value is None else _margin(limit.sense, limit.limit, value) / room


def _voice_estimate(reading: Reading, codec: Codec) -> VoiceEstimate | None:
    if reading.interval is None:
        return None
    low, high = reading.interval
    return VoiceEstimate(
        codec=codec.name,
        r_factor=reading.value,
        r_low=low,
        r_high=high,
        mos=None if reading.value is None else mos_from_r(reading.value),
        mos_low=mos_from_r(low),
        mos_high=mos_from_r(high),
    )
