"""What is measured of the packets that cross a segment in one direction."""

from __future__ import annotations

from prober.windows.arrival_window import ArrivalWindow
from prober.windows.delay_window import DelayWindow
from prober.windows.window import DEFAULT_LOSS_THRESHOLD_MS, LossWindow


class Direction:
    """All windows of one direction.

    Args:
        loss_threshold_ms: waiting time after which a packet counts as lost.
    """

    def __init__(self, loss_threshold_ms: int = DEFAULT_LOSS_THRESHOLD_MS) -> None:
        self.delays = DelayWindow()
        self.losses = LossWindow(loss_threshold_ms)
        self.arrivals = ArrivalWindow()

    def arrived(self, at_ns: int, *, extent: int) -> None:
        """Count the first copy of a packet that arrived at this point, `extent` places too late."""
        self.losses.received(at_ns)
        self.arrivals.arrived(at_ns, extent=extent)

    def arrived_there(self, sequence: int, at_ns: int, *, order: int) -> None:
        """Count a packet that arrived at the other end, as learned at `at_ns`; `order` is its place there."""
        self.losses.received(at_ns)
        self.arrivals.arrived_there(sequence, at_ns, order=order)

    def new_stream(self) -> None:
        """The sender numbers anew."""
        self.delays.new_stream()
        self.losses.new_stream()
        self.arrivals.new_stream()

    def restart(self) -> None:
        """Forget everything, since the own clock, which all windows are kept by, was set."""
        self.delays.restart()
        self.losses.restart()
        self.arrivals.restart()
