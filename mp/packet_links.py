"""The packet processes of a point, one for each queue, seen as one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import zip_longest

from mp.bridge import Event, Setup
from mp.child_process import ChildProcess
from mp.packet_link import PacketLink


class PacketLinks:
    """Owns the packet processes; each hears everything, and the kernel spreads the packets over their queues.

    Args:
        setup: gives the first event of each start of the first process, whose queue is the first.
        on_event: called with each event that is not about a process itself.
        processes: how many there are.
        begun: those of them that have begun already.
    """

    def __init__(
        self,
        setup: Callable[[], Setup],
        on_event: Callable[[Event], None],
        processes: int,
        begun: Sequence[ChildProcess] = (),
    ) -> None:
        def setup_of(number: int) -> Callable[[], Setup]:
            return lambda: _setup_of(setup(), number)

        self._links = [
            PacketLink(setup_of(number), on_event, process)
            for number, process in zip_longest(range(processes), begun)
        ]

    @property
    def pid(self) -> int | None:
        """Id of the first process while it runs."""
        return self._links[0].pid

    @property
    def pids(self) -> tuple[int, ...]:
        """Ids of all processes that run."""
        return tuple(link.pid for link in self._links if link.pid is not None)

    @property
    def rules(self) -> str:
        """The back end by which the rule for all was put in."""
        return self._links[0].rules

    @property
    def restarts(self) -> int:
        """How often one of them was started again."""
        return sum(link.restarts for link in self._links)

    @property
    def counters(self) -> dict[str, int]:
        """What all have done together, as far as they have told."""
        total: Counter[str] = Counter()
        for link in self._links:
            total.update(link.counters)
        return dict(total)

    async def start(self) -> None:
        """Start all and wait until queues and rule are in place, the first last: it is the one with the rule.

        Raises:
            HostError: one could not begin; the text is its own.
        """
        first, *others = self._links
        for outcome in await asyncio.gather(*(link.start() for link in others), return_exceptions=True):
            if outcome is not None:
                raise outcome
        await first.start()

    def send(self, event: Event) -> bool:
        """Tell all something; False when one cannot listen now, so that all must be told again."""
        taken = [link.send(event) for link in self._links]
        return all(taken)

    async def close(self) -> None:
        """End all, first the one that takes the rule away: nothing may wait in a queue that goes."""
        for link in self._links:
            await link.close()


def _setup_of(first: Setup, number: int) -> Setup:
    place = number % len(first.processors) if first.processors else 0
    return replace(
        first,
        queue=first.queue + number,
        installs_rules=number == 0,
        processors=first.processors[place : place + 1],
    )
