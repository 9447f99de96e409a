"""Finding out whether a peer can live with our TLVs.

A reflector without RFC 8972 copies, zeroes or cuts off what follows the base packet, and some drop such probes.
So until a peer has answered a TLV, extended and plain probes alternate; when it does not, or no more, the session
stays plain.
"""

from __future__ import annotations

PLAIN_AFTER_ANSWERS = 16
"""Answers in a row without an answered TLV after which a session stays plain. Fewer would be reached by chance
where so many packets are lost that a row of answers all belong to plain probes."""


class ExtensionTrial:
    """The trial of one session.

    Args:
        wanted: whether the session has TLVs to send at all.
    """

    def __init__(self, *, wanted: bool) -> None:
        self._wanted = wanted
        self._works = False
        self._answers = 0
        self._extend = wanted
        self.extended_answered = False
        """Some extended probe was answered, with or without its TLVs: the peer does not drop such probes."""

    @property
    def may_work(self) -> bool:
        """The peer has answered a TLV, or no probe that had one."""
        return self._works or (self._wanted and not self.extended_answered)

    @property
    def works(self) -> bool:
        """The peer has answered a TLV."""
        return self._works

    def extends(self) -> bool:
        """Whether the next probe has TLVs; counts it as sent."""
        if self._works:
            return True
        extend = self._extend
        self._extend = self._wanted and not extend
        return extend

    def answered(self, *, extended: bool, understood: bool) -> bool:
        """Take note of the first answer to a probe.

        Args:
            extended: the probe had TLVs.
            understood: the answer showed that the peer knows one of them.

        Returns:
            Whether the session gives the TLVs up at this answer.
        """
        self.extended_answered |= extended
        self._works |= understood
        self._answers = 0 if understood else self._answers + 1
        if not self._wanted or self._answers < PLAIN_AFTER_ANSWERS:
            return False
        self._wanted = self._extend = self._works = False
        return True
