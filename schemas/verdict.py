"""Whether a path is good enough for a purpose, as frozen values tied to their JSON (`verdict.schema.json`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from schemas.errors import MessageError


class Answer(StrEnum):
    """What the values of a path say of a limit, or of all limits of a profile."""

    YES = "yes"
    NO = "no"
    UNSURE = "unsure"
    """The values do not decide it; the limit's `doubt` says why."""


BEST_FIRST = (Answer.YES, Answer.UNSURE, Answer.NO)


class Sense(StrEnum):
    """On which side of a limit the good values lie."""

    AT_MOST = "at-most"
    AT_LEAST = "at-least"


class Doubt(StrEnum):
    """Why a limit is neither kept nor broken for sure."""

    STRADDLES = "straddles"
    """The 95 % interval holds the limit: more samples may decide it."""
    UNDEFINED = "undefined"
    """There is no value of the whole path: a segment is pending, or a point cannot give the metric."""
    STALE = "stale"
    """The value is too old to say how the path is now."""
    NO_INTERVAL = "no-interval"
    """There is a value, but too little is known of it for an interval."""
    UNSYNCHRONIZED = "unsynchronized"
    """The clocks of the path's ends are in doubt, and the round-trip time does not decide it either."""
    FORGED = "forged"
    """A tag of the request or of a record is wrong: no value of this path can be relied on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitVerdict:
    """One limit of a profile held against one value of the path, in the unit of the metric."""

    metric: str
    """`delay`, a quantile such as `delay.p95`, or `r-factor`."""
    answer: Answer
    sense: Sense
    limit: float
    unit: str | None
    """None where the result says nothing of a plug-in's metric."""
    value: float | None
    low: float | None
    """Ends of the 95 % interval; of a delay without synchronized clocks, what the round-trip time leaves."""
    high: float | None
    margin: float | None
    """How far the value lies on the good side of the limit; negative on the bad side."""
    binding_segment: tuple[str, str] | None
    """(upstream, current) of the segment with the largest share in the value, or of one that is undefined."""
    doubt: Doubt | None
    """Given when, and only when, the answer is UNSURE."""
    source: str
    """Where the limit's number comes from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceEstimate:
    """What the E-model (ITU-T G.107) makes of delay, jitter and loss: an estimate, nobody listened."""

    codec: str
    r_factor: float | None
    """None where only bounds of the delay are known."""
    r_low: float
    r_high: float
    mos: float | None
    """Estimated mean opinion score, 1 to 4.5 (G.107 annex B)."""
    mos_low: float
    mos_high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether the path of one result is good enough for one profile."""

    profile: str
    request_id: str
    source: str
    destination: str
    answer: Answer
    """NO if any limit is broken, else UNSURE if any is in doubt, else YES."""
    binding_metric: str
    """Of the limit that decided: broken the most, the most in doubt, or kept by the least."""
    limits: tuple[LimitVerdict, ...]
    voice_estimate: VoiceEstimate | None
    """Of a profile with a limit on the R-factor, when delay, jitter and loss are known."""

    @property
    def yes(self) -> bool:
        """Every limit is kept."""
        return self.answer is Answer.YES

    @property
    def no(self) -> bool:
        """A limit is broken."""
        return self.answer is Answer.NO

    @property
    def unsure(self) -> bool:
        """No limit is known to be broken, and not all are known to be kept."""
        return self.answer is Answer.UNSURE

    @property
    def binding(self) -> LimitVerdict:
        """The limit that decided."""
        return next(limit for limit in self.limits if limit.metric == self.binding_metric)

    def to_json(self) -> dict[str, Any]:
        """The document that `inpath request --profile --json` prints as `verdict`."""
        return {
            "profile": self.profile,
            "request_id": self.request_id,
            "source": self.source,
            "destination": self.destination,
            "answer": str(self.answer),
            "binding_metric": self.binding_metric,
            "limits": [_limit_to_json(limit) for limit in self.limits],
            "voice_estimate": None if self.voice_estimate is None else asdict(self.voice_estimate),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Verdict:
        """The verdict that `to_json` wrote.

        Raises:
            MessageError: a key is missing or has another type than `to_json` gives it.
        """
        try:
            voice = document["voice_estimate"]
            return cls(
                profile=document["profile"],
                request_id=document["request_id"],
                source=document["source"],
                destination=document["destination"],
                answer=Answer(document["answer"]),
                binding_metric=document["binding_metric"],
                limits=tuple(_limit_from_json(limit) for limit in document["limits"]),
                voice_estimate=None if voice is None else VoiceEstimate(**voice),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise MessageError(f"verdict: {type(error).__name__} {error}, expected what to_json wrote") from error


def _limit_to_json(limit: LimitVerdict) -> dict[str, Any]:
    binding = limit.binding_segment
    return {
        "metric": limit.metric,
        "answer": str(limit.answer),
        "sense": str(limit.sense),
        "limit": limit.limit,
        "unit": limit.unit,
        "value": limit.value,
        "low": limit.low,
        "high": limit.high,
        "margin": limit.margin,
        "binding_segment": None if binding is None else {"upstream": binding[0], "current": binding[1]},
        "doubt": None if limit.doubt is None else str(limit.doubt),
        "source": limit.source,
    }


def _limit_from_json(document: Mapping[str, Any]) -> LimitVerdict:
    binding = document["binding_segment"]
    doubt = document["doubt"]
    return LimitVerdict(
        metric=document["metric"],
        answer=Answer(document["answer"]),
        sense=Sense(document["sense"]),
        limit=document["limit"],
        unit=document["unit"],
        value=document["value"],
        low=document["low"],
        high=document["high"],
        margin=document["margin"],
        binding_segment=None if binding is None else (binding["upstream"], binding["current"]),
        doubt=None if doubt is None else Doubt(doubt),
        source=document["source"],
    )
