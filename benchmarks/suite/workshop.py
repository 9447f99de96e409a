"""What several benchmarks of one run share: the network with its points, started when the first one needs them."""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from benchmarks.suite.bench_network import FEEDER, QUIET, BenchNetwork, RunningPoint, bench_network
from benchmarks.suite.busy_services import BusyServices, busy_services

AWAKE_S = 1.0
"""After a rest, until a point has sent probes again for a while."""


class Workshop:
    """A context; what was started in it ends with it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._network: BenchNetwork | None = None
        self._busy: BusyServices | None = None
        self._rest = ExitStack()
        self._is_resting = False
        """The busy point is frozen, since nobody needs it yet."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all that runs; what is asked for afterwards is started anew."""
        self._end_rest()
        self._stack.close()
        self._network = self._busy = None

    def start_all(self) -> None:
        """Start both points at once, which takes half the time; the busy one rests until it is needed."""
        self._busy = self._stack.enter_context(busy_services(self.network, QUIET))
        self._rest.enter_context(self._busy.frozen())
        self._is_resting = True

    @property
    def network(self) -> BenchNetwork:
        """The network."""
        if self._network is None:
            self._network = self._stack.enter_context(bench_network())
        return self._network

    @property
    def quiet(self) -> RunningPoint:
        """The point that has nothing else to do."""
        self.network.start(FEEDER, QUIET)
        return self.network.point(QUIET)

    @property
    def busy(self) -> BusyServices:
        """The point that has everything to do; whoever wants silence freezes it."""
        if self._busy is None:
            self._busy = self._stack.enter_context(busy_services(self.network))
        if self._is_resting:
            self._end_rest()
            time.sleep(AWAKE_S)
            self._busy.await_neighbors()
        return self._busy

    def _end_rest(self) -> None:
        self._is_resting = False
        self._rest.close()
