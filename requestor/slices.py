"""How a question about many metrics is sent in parts, so that a datagram holds records of several points."""

from __future__ import annotations

from collections.abc import Sequence

POINTS_WANTED = 3
"""A datagram with fewer is handed over so often that its reports cost more than one datagram beside it."""
MOST_SLICES = 4

# Octets in a compressed message, with tags: medians of what points of the lab write.
_HEAD_BYTES = 100
_RECORD_BYTES = 45
_METRIC_BYTES = 30
_LONG_METRIC_BYTES = {"distribution": 95, "jitter": 45}


def slices_of(metrics: Sequence[str], room: int) -> tuple[tuple[str, ...], ...]:
    """The metrics, in as few parts of about one size as leave room for the records of `POINTS_WANTED` points.

    Args:
        metrics: names, each once.
        room: the greatest payload that may leave, in octets.
    """
    for count in range(1, MOST_SLICES + 1):
        slices = divided(metrics, count)
        if count == len(metrics) or all(_points(one, room) >= POINTS_WANTED for one in slices):
            break
    return slices


def divided(metrics: Sequence[str], count: int) -> tuple[tuple[str, ...], ...]:
    """The metrics in `count` parts, one after the other."""
    ends = [round(len(metrics) * index / count) for index in range(count + 1)]
    return tuple(tuple(metrics[start:end]) for start, end in zip(ends, ends[1:], strict=False))


def _points(metrics: Sequence[str], room: int) -> int:
    record = _RECORD_BYTES + sum(_LONG_METRIC_BYTES.get(name, _METRIC_BYTES) for name in metrics)
    return (room - _HEAD_BYTES) // record
