"""What one STAMP session found out, as one JSON document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from prober.clock_state import ClockState
from prober.segment import Event, Segment
from prober.stamp.direct import DirectSession
from prober.timestamp import NS_PER_MS
from schemas.metrics import METRICS, Statistics, headline, sample_count

_WINDOWED = tuple(name for name in METRICS if name not in ("rtt", "loss", "hops"))
"""Metrics of one direction, without those that the session itself knows from its first probe to its last."""

_MOST_ROUTERS = 64
"""No path has so many: the packets left with less than the TTL of 255 that the standard demands."""


def stamp_document(
    direct: DirectSession, *, host: str, port: int, authenticated: bool, now_ns: int
) -> dict[str, Any]:
    """Everything about one session that has ended.

    Args:
        direct: the session.
        host: the reflector, as the user called it.
        port: its port.
        authenticated: whether there was a key.
        now_ns: end of the session, own clock.
    """
    session, segment, tally = direct.session, direct.segment, direct.session.tally
    inbound = segment.statistics(_WINDOWED, now_ns=now_ns, clock=direct.clock)
    outbound = segment.outbound_statistics(_WINDOWED, now_ns=now_ns, clock=direct.clock)
    round_trip = segment.statistics(("rtt",), now_ns=now_ns, clock=direct.clock)
    lost = tally.sent - tally.answered
    there = back = None
    if tally.lost_there is not None and tally.lost_back is not None:
        there = _loss(segment, tally.sent, tally.lost_there)
        back = _loss(segment, tally.sent - tally.lost_there, tally.lost_back)
    return {
        "host": host,
        "address": segment.peer,
        "port": port,
        "authenticated": authenticated,
        "reflector": str(tally.reflector),
        "extensions": session.is_extended,
        "sent": tally.sent,
        "answered": tally.answered,
        "forward": {**_metrics(outbound), "loss": there, "hops": _hops(session.outbound_hops)},
        "backward": {**_metrics(inbound), "loss": back, "hops": _hops(segment.hops)},
        "round_trip": {
            **_metrics(round_trip),
            "loss": _loss(segment, tally.sent, lost),
        },
        "clocks": {"own": _clock(direct.clock), "reflector": _reflector_clock(direct)},
        "dscp": _marks(direct),
        "counters": {
            **{str(event): count for event in Event if (count := segment.events[event])},
            **direct.counters(),
        },
    }


def is_round_trip_only(document: Mapping[str, Any]) -> bool:
    """Whether losses were seen of which nobody knows the direction."""
    return document["forward"]["loss"] is None


def _hops(routers: int | None) -> int | None:
    """As traceroute counts them: one more than the routers between."""
    return None if routers is None or routers > _MOST_ROUTERS else routers + 1


def _metrics(statistics: Mapping[str, Statistics]) -> dict[str, Any]:
    return {
        name: {
            "value": headline(values),
            "unit": METRICS[name].unit,
            "count": sample_count(values),
            **asdict(values),
        }
        for name, values in statistics.items()
    }


def _loss(segment: Segment, sent: int, lost: int) -> dict[str, Any]:
    return {
        "value": lost / sent if sent else 0.0,
        "unit": METRICS["loss"].unit,
        "sent": sent,
        "lost": lost,
        "threshold_ms": segment.loss_threshold_ns // NS_PER_MS,
    }


def _clock(state: ClockState) -> dict[str, Any]:
    return {"synchronized": state.synchronized, "error_ms": state.error_ms}


def _reflector_clock(direct: DirectSession) -> dict[str, Any] | None:
    error = direct.segment.peer_error
    return None if error is None else {"synchronized": error.synchronized, "error_ms": error.error_ms}


def _marks(direct: DirectSession) -> dict[str, Any]:
    """DSCP values as they arrived: at the reflector, if it tells, and here."""
    marking = direct.session.replies.marking
    return {
        "forward": marking.arrived_dscp if marking else None,
        "backward": None if direct.reply_tos is None else direct.reply_tos >> 2,
        "refused": marking.refused if marking else None,
    }
