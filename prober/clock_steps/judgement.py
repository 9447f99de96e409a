"""What becomes of measured times that may come from a clock's step, or from nonsense in one packet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement(Generic[T]):
    """A verdict on some samples; most samples get none, since nothing is strange about them."""

    samples: tuple[T, ...] = ()
    """Those that count now, oldest first."""
    dropped: int = 0
    """How many that were held back are none."""
    step_ns: int | None = None
    """A clock has stepped: samples from before are void. Positive when the other end's clock went ahead."""
