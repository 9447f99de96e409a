"""Packets of a session from its first to its last probe, beside the windows of its segment."""

from __future__ import annotations

from enum import StrEnum


class ReflectorKind(StrEnum):
    """How a reflector numbers its replies (RFC 8762 section 4)."""

    STATEFUL = "stateful"
    """By a counter of its own: losses of both directions can be told apart."""
    STATELESS = "stateless"
    """It copies the number of the probe: only the loss of the round trip is known."""
    UNKNOWN = "unknown"
    """Its numbers were those of the probes so far, as those of either kind are while nothing is lost."""


class SessionTally:
    """Counts probes and their first answers; of a peer that drops extended probes the plain ones alone."""

    def __init__(self) -> None:
        self._sent = {False: 0, True: 0}
        self._answered = {False: 0, True: 0}
        self._numbered_alike = True
        self._tells: bool | None = None
        self._lowest = self._highest = -1

    def probe_sent(self, *, extended: bool) -> None:
        """Count a probe."""
        self._sent[extended] += 1

    def probe_answered(self, *, extended: bool) -> None:
        """Count the first answer to a probe."""
        self._answered[extended] += 1

    def reply_numbered(self, number: int, *, like_probe: bool) -> None:
        """Take note of a reply.

        Args:
            number: of the reply, unwrapped.
            like_probe: the probe bore the same number.
        """
        self._numbered_alike &= like_probe
        self._highest = max(self._highest, number)
        self._lowest = number if self._lowest < 0 else min(self._lowest, number)

    def followed_up(self, *, told: bool) -> None:
        """Take note of Follow-Up TLVs: only a stateful reflector has anything to tell (RFC 8972 section 4.7).

        Args:
            told: there was a time in one; otherwise there were so many without that none will come.
        """
        self._tells = told or bool(self._tells)

    @property
    def sent(self) -> int:
        """Probes sent."""
        return sum(self._sent[extended] for extended in self._counted())

    @property
    def answered(self) -> int:
        """Probes with an answer."""
        return sum(self._answered[extended] for extended in self._counted())

    @property
    def reflector(self) -> ReflectorKind:
        """What the numbers of the replies show."""
        if self._tells or not self._numbered_alike:
            return ReflectorKind.STATEFUL
        return ReflectorKind.UNKNOWN if self._tells is None else ReflectorKind.STATELESS

    @property
    def lost_there(self) -> int | None:
        """Probes lost on the way to the reflector; None when only the loss of the round trip is known."""
        reflected = self._reflected()
        return None if reflected is None else max(0, self.sent - reflected)

    @property
    def lost_back(self) -> int | None:
        """Replies lost on the way back; None when only the loss of the round trip is known."""
        there = self.lost_there
        return None if there is None else self.sent - there - self.answered

    def _counted(self) -> tuple[bool, ...]:
        dropped = self._sent[True] and not self._answered[True] and self._answered[False]
        return (False,) if dropped else (False, True)

    def _reflected(self) -> int | None:
        """How many probes reached the reflector, by its counter."""
        if self.sent == self.answered:
            return self.sent
        if self.reflector is not ReflectorKind.STATEFUL:
            return None
        # A counter that is not the session's own begins anywhere; its first reply then stands for the beginning.
        first = 0 if self._lowest < self.sent else self._lowest
        return max(self.answered, min(self.sent, self._highest - first + 1))
