"""A second try for a test that failed while the machine stood still; every other must pass at once."""

from __future__ import annotations

import time

import pytest

from tests.sleeper import LATE_S, Sleeper

TRIES_MORE = 2
REMEMBERED_S = 60.0
"""A window of measurements holds what was delayed so long before its test began."""


class SecondTries:
    """A plug-in of pytest."""

    def __init__(self) -> None:
        self._sleeper = Sleeper()
        self._began_s = time.monotonic()

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        item.add_marker(pytest.mark.flaky(reruns=TRIES_MORE, condition=self._machine_stood_still))

    def pytest_runtest_logstart(self) -> None:
        self._began_s = time.monotonic()

    def _machine_stood_still(self) -> bool:
        return self._sleeper.longest_s(self._began_s - REMEMBERED_S) > 0

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        longest_s = self._sleeper.longest_s(0)
        if longest_s:
            terminalreporter.write_line(
                f"the machine stood still for more than {LATE_S * 1000:.0f} ms {len(self._sleeper.stalls)} times, "
                f"for {longest_s * 1000:.0f} ms at most"
            )

    def pytest_unconfigure(self) -> None:
        self._sleeper.close()
