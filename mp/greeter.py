"""Sends the hellos of `prober.discovery` and takes their answers."""

from __future__ import annotations

import logging
from collections.abc import Callable

from prober.discovery import Discovery, Hello
from schemas.errors import HostError
from schemas.message import Carrier, MeasureRequest, Message

logger = logging.getLogger(__name__)

_METRIC = "delay"
"""A request must ask for something; whoever greets wants only to know who is there."""
_LIFETIME_MS = 5_000


class Greeter:
    """Finds the neighbors of this point.

    Args:
        discovery: when to greet whom.
        address: this point's address.
        send: signs a request and puts it on the network toward its destination; HostError when there is no way.
        on_neighbor: called with the address of each point that answers.
        believes: whether the records of an answer are of who they say.
    """

    def __init__(
        self,
        discovery: Discovery,
        *,
        address: str,
        send: Callable[[MeasureRequest, Carrier], None],
        on_neighbor: Callable[[str], None],
        believes: Callable[[Message], bool] = lambda _: True,
    ) -> None:
        self.discovery = discovery
        self._address = address
        self._send = send
        self._on_neighbor = on_neighbor
        self._believes = believes

    def greet(self, now_ms: int, *, created_at_ms: int) -> None:
        """Send what is due.

        Args:
            now_ms: a clock that never steps.
            created_at_ms: milliseconds since the Unix epoch, for the messages.
        """
        for hello in self.discovery.due(now_ms):
            try:
                carrier = Carrier.UDP if hello.is_plain else Carrier.ROUTER_ALERT
                self._send(self._request(hello, created_at_ms), carrier)
            except HostError as error:
                logger.debug("hello: %s", error)  # the way may come back

    def take(self, message: Message, now_ms: int) -> bool:
        """Take a report if it answers a hello; whether it did."""
        if not self.discovery.is_waiting(message.request.id):
            return False
        if message.records and self._believes(message):  # an answer without one says nothing
            neighbor = message.records[-1].current
            change = self.discovery.answered(message.request.id, neighbor, now_ms)
            if change is not None:
                before = "" if change.before is None else f", before it was {change.before}"
                logger.info("the neighbor toward %s is %s%s", change.destination, change.now, before)
            self._on_neighbor(neighbor)
        return True

    def _request(self, hello: Hello, created_at_ms: int) -> MeasureRequest:
        return MeasureRequest(
            source=self._address,
            destination=hello.destination,
            id=hello.id,
            metrics=(_METRIC,),
            created_at_ms=created_at_ms,
            lifetime_ms=_LIFETIME_MS,
            max_age_ms=0,
            hello=True,
        )
