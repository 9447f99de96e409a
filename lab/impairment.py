"""What one direction of a link does to the packets that cross it: delay, jitter, loss, rate, cut."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from schemas.errors import UsageError

MAX_DELAY_MS = 10_000.0
"""Three times the way to the Moon and back; more is a wrong unit."""

MIN_RATE_MBIT = 0.001
"""1 kbit/s: a full Ethernet frame then takes 12 s, which is slower than any link worth emulating."""

MAX_RATE_MBIT = 1_000_000.0
"""1 Tbit/s, beyond the fastest single interface; no limit at all is written `None`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Impairment:
    """One direction of a link; the default is a perfect one.

    Raises:
        UsageError: a value is no finite number or lies outside its bounds.
    """

    delay_ms: float = 0.0
    """Mean one-way delay of propagation; time spent in the queue before a limited rate comes on top."""

    jitter_ms: float = 0.0
    """Half the width of a uniform distribution around `delay_ms`, drawn for each packet on its own, as netem
    does without a table: the mean stays, and packets may overtake each other."""

    loss_ratio: float = 0.0
    """Probability, 0 to 1, that a packet is lost, each independent of the others."""

    rate_mbit: float | None = None
    """Capacity in 10^6 bits per second, counted over Ethernet frames (14 octets more than IP, as TBF counts);
    `None` is no limit."""

    drops_options: bool = False
    """Whether IPv4 packets with options are lost, as behind many a firewall (RFC 7126)."""

    up: bool = True
    """Whether the link carries anything at all."""

    def __post_init__(self) -> None:
        _check_number("delay_ms", self.delay_ms, 0.0, MAX_DELAY_MS)
        _check_number("jitter_ms", self.jitter_ms, 0.0, MAX_DELAY_MS)
        if self.jitter_ms > self.delay_ms:
            expected = f"at most delay_ms ({self.delay_ms:g}), since no packet arrives before it is sent"
            raise UsageError("jitter_ms", self.jitter_ms, expected)
        _check_number("loss_ratio", self.loss_ratio, 0.0, 1.0)
        if self.rate_mbit is not None:
            _check_number("rate_mbit", self.rate_mbit, MIN_RATE_MBIT, MAX_RATE_MBIT)
        for field, value in (("drops_options", self.drops_options), ("up", self.up)):
            if not isinstance(value, bool):
                raise UsageError(field, value, "true or false")

    def to_json(self) -> dict[str, object]:
        """All fields by name, ready for `json.dumps`; `from_json` reverses it."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: object) -> Impairment:
        """Read what `to_json` wrote; a field left out has its default.

        Raises:
            UsageError: not an object, an unknown field, or a value that `Impairment` refuses.
        """
        if not isinstance(document, Mapping):
            raise UsageError("impairment", document, "an object with the fields of an impairment")
        known = [field.name for field in fields(cls)]
        for name in document:
            if name not in known:
                raise UsageError("impairment", name, "one of " + ", ".join(known))
        return cls(**document)


def _check_number(field: str, value: object, minimum: float, maximum: float) -> None:
    # bool is an int to Python, but `delay_ms = true` is a slip.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not minimum <= value <= maximum:  # type: ignore[arg-type, operator]
        raise UsageError(field, value, f"a number from {minimum:g} to {maximum:g}")
