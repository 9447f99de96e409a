"""One peer with which a point shares what it knows (pure): is it there, and what does it still have to get?"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prober.knowledge.datagram import (
    MAX_CONTENT_BYTES,
    MAX_VERSIONS,
    Acknowledgement,
    Content,
    Datagram,
    Item,
    Update,
    Version,
    item_bytes,
)

HELLO_MS = 5_000
"""Between two hellos to a peer that answers."""
FIRST_HELLO_MS = 250
"""After the first to a new peer, which may be starting too; then twice as long, and so on."""
SLOWEST_HELLO_MS = 60_000
"""Between two to a peer that does not, or is of another area."""
SILENCE_MS = 17_500
"""A peer that was not heard for so long, three hellos and a half, has gone."""
SUMMARY_PAUSE_MS = 500
"""Between the first two summaries to a peer; each that does not make both alike doubles the pause."""
CHALLENGE_MS = 250
"""Between two hellos that only ask the peer to quote this point's instance."""
RETRY_MS = 800
"""An advertisement that is not acknowledged is sent again after this time, then after twice as long, and so on."""
MAX_SENDINGS = 6
"""After that, the digests of the hellos show what is missing."""
ACKNOWLEDGE_MS = 150
"""How long an acknowledgement waits for others."""
TOGETHER_MS = 100
"""What is due so soon goes into the same datagram."""
_JITTER = 0.2

Key = tuple[str, int]
"""Origin and fragment."""
ItemOf = Callable[[Key], Item | None]
"""The newest of a fragment, as it is to be sent now; None when it is not here any more."""


@dataclass(slots=True)
class _Pending:
    due_ms: int
    sendings: int = 0


class Session:
    """What is said to one peer, and heard from it.

    Args:
        peer: its address.
        instance: of this point, see `datagram.py`.
        random_source: draws the times of hellos.
        gap_ms_per_octet: how long the link is to rest after an update.
    """

    def __init__(
        self, peer: str, *, instance: int, random_source: random.Random, gap_ms_per_octet: float, now_ms: int
    ) -> None:
        self.peer = peer
        self.area: str | None = None
        """As the peer says; None before it was heard."""
        self.is_open = False
        """The peer quotes this point's instance: both hear each other."""
        self.wanted_at_ms = now_ms
        """When it was last named as a peer."""
        self.is_authentic = False
        """The last datagram had a right tag."""
        self._is_alike = False
        self._summary_at_ms = now_ms
        self._summary_pause_ms = SUMMARY_PAUSE_MS
        self._instance = instance
        self._random = random_source
        self._gap_ms_per_octet = gap_ms_per_octet
        self._peer_instance = 0
        self._counter = 0
        self._heard_counter = 0
        self._heard_at_ms = now_ms
        self._hello_at_ms = now_ms
        self._hello_pause_ms = FIRST_HELLO_MS
        self._challenge_at_ms = now_ms
        self._pending: dict[Key, _Pending] = {}
        self._acknowledgements: dict[Key, int] = {}
        self._acknowledge_at_ms = 0
        self._update_at_ms = now_ms
        """Not before this may the next update go."""

    def accept(self, datagram: Datagram, now_ms: int) -> bool:
        """Whether the datagram is of this moment and new; what it says counts only then."""
        if datagram.to_instance != self._instance:
            return False
        if datagram.instance != self._peer_instance:
            self._peer_instance = datagram.instance
            self._heard_counter = 0
            self.is_open = False
        if datagram.counter <= self._heard_counter:
            return False
        self._heard_counter = datagram.counter
        self._heard_at_ms = now_ms
        if not self.is_open:
            self.is_open, self._is_alike = True, False
            self._summary_at_ms, self._summary_pause_ms = now_ms, SUMMARY_PAUSE_MS
            # The peer may be waiting for its own instance; and of the first summaries, one may be lost.
            self._hello_at_ms, self._hello_pause_ms = now_ms, FIRST_HELLO_MS
        self._hello_pause_ms = min(self._hello_pause_ms, HELLO_MS)
        return True

    def challenge(self, claimed_instance: int, now_ms: int) -> int | None:
        """The instance to quote in a hello to one who did not quote this point's; None so soon after the last."""
        if now_ms < self._challenge_at_ms:
            return None
        self._challenge_at_ms = now_ms + CHALLENGE_MS
        return claimed_instance

    def wrap(self, content: Content, *, to_instance: int | None = None) -> Datagram:
        """The next datagram to the peer."""
        self._counter += 1
        return Datagram(
            instance=self._instance,
            to_instance=self._peer_instance if to_instance is None else to_instance,
            counter=self._counter,
            content=content,
        )

    def is_silent(self, now_ms: int) -> bool:
        """Close the session when nothing was heard for long; whether that was so just now."""
        if not self.is_open or now_ms - self._heard_at_ms <= SILENCE_MS:
            return False
        self.close()
        return True

    def close(self) -> None:
        """Forget what was to be said; hellos go on."""
        self.is_open = False
        self._pending.clear()
        self._acknowledgements.clear()

    def hello_due(self, now_ms: int) -> bool:
        """Whether to send a hello now; if so, the next one is planned."""
        if now_ms < self._hello_at_ms:
            return False
        self._hello_at_ms = now_ms + round(self._hello_pause_ms * self._random.uniform(1 - _JITTER, 1 + _JITTER))
        self._hello_pause_ms = min(self._hello_pause_ms * 2, HELLO_MS if self.is_open else SLOWEST_HELLO_MS)
        return True

    def slow_down(self, now_ms: int) -> None:
        """The peer is of an area that is none of this point's business."""
        self.close()
        self._hello_pause_ms = SLOWEST_HELLO_MS
        self._hello_at_ms = max(self._hello_at_ms, now_ms + SLOWEST_HELLO_MS // 2)

    def compare(self, *, is_alike: bool, now_ms: int) -> bool:
        """A hello told whether both hold the same; whether to say what is here.

        Differences come and go with the news that is on its way. Those that stay are worth a summary, and that
        seldom when it does not help.
        """
        was_alike, self._is_alike = self._is_alike, is_alike
        if is_alike:
            self._summary_pause_ms = SUMMARY_PAUSE_MS
        if is_alike or was_alike or now_ms < self._summary_at_ms:
            return False
        self._summary_at_ms = now_ms + self._summary_pause_ms
        self._summary_pause_ms = min(2 * self._summary_pause_ms, SLOWEST_HELLO_MS)
        return True

    def queue(self, key: Key, due_ms: int) -> None:
        """The peer is to get the newest of this fragment."""
        if self.is_open:
            known = self._pending.get(key)
            if known is not None and not known.sendings:
                due_ms = min(due_ms, known.due_ms)
            self._pending[key] = _Pending(due_ms)

    def has(self, key: Key) -> None:
        """The peer has the newest of this fragment."""
        self._pending.pop(key, None)

    def acknowledge(self, version: Version, now_ms: int) -> None:
        """The peer is to be told that this came."""
        if not self._acknowledgements:
            self._acknowledge_at_ms = now_ms + ACKNOWLEDGE_MS
        self._acknowledgements[version.origin, version.fragment] = version.sequence

    def due(self, item_of: ItemOf, now_ms: int) -> Iterable[Content]:
        """Acknowledgements and updates to send now."""
        if self._acknowledgements and now_ms >= self._acknowledge_at_ms:
            keys = list(self._acknowledgements)[:MAX_VERSIONS]
            yield Acknowledgement(tuple(Version(*key, self._acknowledgements.pop(key)) for key in keys))
        while now_ms >= self._update_at_ms and (items := self._items(item_of, now_ms)):
            octets = sum(item_bytes(item) for item in items)
            self._update_at_ms = now_ms + max(1, round(octets * self._gap_ms_per_octet))
            yield Update(tuple(items))

    def next_wakeup_ms(self) -> int:
        """When `due` or `hello_due` has something to do next."""
        times = [self._hello_at_ms]
        if self._acknowledgements:
            times.append(self._acknowledge_at_ms)
        if self._pending:
            first_ms = min(pending.due_ms for pending in self._pending.values())
            times.append(max(first_ms, self._update_at_ms))
        return min(times)

    def _items(self, item_of: ItemOf, now_ms: int) -> list[Item]:
        """As many as one datagram holds, if any is due."""
        if all(pending.due_ms > now_ms for pending in self._pending.values()):
            return []
        items: list[Item] = []
        room = MAX_CONTENT_BYTES
        soon = sorted(
            (pending.due_ms, key)
            for key, pending in self._pending.items()
            if pending.due_ms <= now_ms + TOGETHER_MS
        )
        for _, key in soon:
            item = item_of(key)
            if item is None:
                del self._pending[key]
            elif item_bytes(item) <= room:
                room -= item_bytes(item)
                items.append(item)
                self._sent(key, now_ms)
        return items

    def _sent(self, key: Key, now_ms: int) -> None:
        pending = self._pending[key]
        pending.due_ms = now_ms + (RETRY_MS << pending.sendings)
        pending.sendings += 1
        if pending.sendings >= MAX_SENDINGS:
            del self._pending[key]
