"""What may be asked over HTTP: bodies and parameters with their bounds, as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from requestor.http.history import DEFAULT_PAGE, MAX_PAGE
from requestor.http.watches import DEFAULT_INTERVAL_S, LEAST_INTERVAL_S, MOST_INTERVAL_S
from requestor.query import (
    DEFAULT_MAX_AGE_S,
    DEFAULT_METRICS,
    DEFAULT_TIMEOUT_S,
    MAX_MAX_AGE_S,
    MAX_TIMEOUT_S,
)

MAX_PAIRS = 64
_LONGEST_NAME = 63

_Place = Annotated[
    str,
    Field(
        min_length=1,
        max_length=_LONGEST_NAME,
        description="An IPv4 address, or a name of the configuration's table [names].",
        examples=["192.0.2.1"],
    ),
]
_Destination = Annotated[_Place, Field(examples=["192.0.2.77"])]
_Metrics = Annotated[
    list[str],
    Field(
        min_length=1,
        max_length=32,
        description="Names of metrics, each once, or the one word `all`. With a profile, those that it needs come "
        "along, and alone if none are named.",
    ),
]
_MetricsText = Annotated[
    str,
    Field(max_length=1100, description="Names of metrics with commas between, or `all`.", examples=["delay,loss"]),
]
_Timeout = Annotated[
    float,
    Field(ge=0.001, le=MAX_TIMEOUT_S, allow_inf_nan=False, description="Longest wait for the answer, in seconds."),
]
_MaxAge = Annotated[
    float,
    Field(
        ge=0,
        le=MAX_MAX_AGE_S,
        allow_inf_nan=False,
        description="Oldest measured data to accept, in seconds; with a profile and without this, what it needs.",
    ),
]
_Carrier = Annotated[
    Literal["router-alert", "udp", "relay"],
    Field(description="Let the request travel this way alone; without, every way until one comes through."),
]
_Profile = Annotated[
    str, Field(max_length=64, description="What the path is wanted for: adds a verdict.", examples=["voice"])
]


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PathWish(_Question):
    """What is wanted of each path."""

    model_config = ConfigDict(extra="forbid", strict=True)

    metrics: _Metrics = list(DEFAULT_METRICS)
    timeout_s: _Timeout = DEFAULT_TIMEOUT_S
    max_age_s: _MaxAge = DEFAULT_MAX_AGE_S
    carrier: _Carrier | None = None
    profile: _Profile | None = None


class PathQuestion(PathWish):
    """One path."""

    source: _Place
    destination: _Destination
    both_directions: bool = Field(default=False, description="Measure the way back too, as its packets go.")


class Pair(_Question):
    """Two ends."""

    model_config = ConfigDict(extra="forbid", strict=True)

    source: _Place
    destination: _Destination


class BatchQuestion(PathWish):
    """Many paths; `timeout_s` bounds all of them together."""

    pairs: Annotated[list[Pair], Field(min_length=1, max_length=MAX_PAIRS)]


class HistoryQuestion(_Question):
    """Stored results."""

    source: _Place | None = None
    destination: _Destination | None = None
    from_: str | None = Field(
        default=None,
        alias="from",
        max_length=64,
        description="Asked at this moment or later (RFC 3339).",
        examples=["2026-01-31T12:00:00Z"],
    )
    to: str | None = Field(default=None, max_length=64, description="Asked before this moment (RFC 3339).")
    metric: str | None = Field(
        default=None,
        max_length=32,
        description="Only results of questions that named it, and of them only that.",
        examples=["delay"],
    )
    cursor: str | None = Field(default=None, max_length=64, description="`next` of the page before.")
    limit: int = Field(default=DEFAULT_PAGE, ge=1, le=MAX_PAGE, description="Results on a page.")


class VerdictQuestion(_Question):
    """Whether a path is good enough."""

    source: _Place
    destination: _Destination
    profile: _Profile
    timeout_s: _Timeout = DEFAULT_TIMEOUT_S


class EventsQuestion(_Question):
    """Changes of a path."""

    source: _Place
    destination: _Destination
    interval_s: float = Field(
        default=DEFAULT_INTERVAL_S,
        ge=LEAST_INTERVAL_S,
        le=MOST_INTERVAL_S,
        allow_inf_nan=False,
        description="Seconds between two looks at the path.",
    )
    metrics: _MetricsText = ",".join(DEFAULT_METRICS)
    profile: _Profile | None = None
