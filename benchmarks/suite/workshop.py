"""What several benchmarks of one run share: the network with its points, started when the first one needs them."""

from __future__ import annotations

from contextlib import ExitStack
from functools import cached_property
from types import TracebackType
from typing import Self

from benchmarks.suite.bench_network import FEEDER, QUIET, BenchNetwork, RunningPoint, bench_network
from benchmarks.suite.busy_services import BusyServices, busy_services


class Workshop:
    """A context; what was started in it ends with it."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all that runs; what is asked for afterwards is started anew."""
        self._stack.close()
        for name in ("network", "quiet", "busy"):
            self.__dict__.pop(name, None)

    @cached_property
    def network(self) -> BenchNetwork:
        """The network, with the feeder running."""
        network = self._stack.enter_context(bench_network())
        network.start(FEEDER, knows_feeder=False)
        return network

    @cached_property
    def quiet(self) -> RunningPoint:
        """The point that has nothing else to do."""
        return self.network.start(QUIET)

    @cached_property
    def busy(self) -> BusyServices:
        """The point that has everything to do; whoever wants silence freezes it."""
        return self._stack.enter_context(busy_services(self.network))
