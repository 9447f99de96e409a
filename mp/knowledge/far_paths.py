"""Ties what the points of the area share to this point: its segments, its next points, its packet process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

from mp import clock
from mp.bridge import Event, FurtherSegment, PathGone, PathKnown
from mp.greeter import Greeter
from mp.keys.credentials import Credentials
from mp.knowledge.sharing import Knowledge
from mp.segments import Known
from mp.settings import Configuration, PointSettings
from prober.knowledge.route_watch import RouteWatch
from prober.knowledge.tails import FarPath
from receiver.assembly import Whole
from schemas.message import MeasureRequest, Message


class FarPaths:
    """Paths from this point on, as far as others told of their segments.

    Args:
        configuration: of this point.
        point: its `point`.
        credentials: keys; `keys_changed` says that they are others now.
        greeter: knows the next point toward each destination.
        seek: greet a destination from now on.
        want: keep the segment from a point measured.
        send: tells the packet process; False when it cannot be told now.
    """

    def __init__(
        self,
        configuration: Configuration,
        point: PointSettings,
        *,
        credentials: Credentials,
        greeter: Greeter,
        seek: Callable[[str], None],
        want: Callable[[str], None],
        send: Callable[[Event], bool],
    ) -> None:
        self._credentials = credentials
        self._greeter = greeter
        self._send = send
        self._known: Known = {}
        self._addresses: tuple[str, ...] = ()
        self.knowledge = Knowledge(
            configuration.knowledge,
            point,
            area=configuration.security.area,
            keyring=credentials.keyring,
            is_required=credentials.is_required,
            seek=seek,
            want=want,
            tell=self._tell,
        )
        self._routes = RouteWatch(self._on_routes_changed)

    async def start(self, stack: AsyncExitStack) -> None:
        """Begin to share; `stack` ends it.

        Raises:
            HostError: a port is in use.
        """
        await self.knowledge.start(stack)
        stack.callback(self._routes.close)
        self._routes.start()

    def keys_changed(self) -> None:
        """The credentials hold other keys now."""
        self.knowledge.set_keyring(self._credentials.keyring)

    def look(self, known: Known, addresses: tuple[str, ...]) -> None:
        """What this point measures now, and its addresses: due about once a second."""
        self._known, self._addresses = known, addresses
        self._share()

    def neighbors_changed(self) -> None:
        """A hello was answered by another point than before."""
        self._share()

    def known(self, request: MeasureRequest) -> Whole | None:
        """The answer to a request of this point, if it needs no packet."""
        records = self.knowledge.tail(request.destination, request.metrics, max_age_ms=request.max_age_ms)
        if records is None:
            return None
        standing = self.knowledge.standing
        message = Message(request=request, records=records)
        return Whole(message=message, request=standing, records=(standing,) * len(records))

    def _share(self) -> None:
        next_points = self._greeter.discovery.neighbors()
        neighbors = {*self._known, *(point for point in next_points.values() if point is not None)}
        self.knowledge.update(self._known, neighbors=neighbors, next_points=next_points, addresses=self._addresses)

    def _on_routes_changed(self) -> None:
        """Ask anew for all next points, and tell no path over them until they have answered."""
        self._greeter.discovery.doubt(clock.monotonic_ms())
        self._greeter.greet(clock.monotonic_ms(), created_at_ms=clock.now_ms())
        self._share()

    def _tell(self, destination: str, path: FarPath | None) -> bool:
        if path is None:
            return self._send(PathGone(destination=destination))
        segments = tuple(
            FurtherSegment(
                upstream=one.upstream,
                current=one.current,
                newest_sample_at_ms=one.newest_sample_at_ms,
                metrics=one.metrics,
            )
            for one in path
        )
        return self._send(PathKnown(destination=destination, segments=segments))
