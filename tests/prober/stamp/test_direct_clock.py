from __future__ import annotations

import asyncio
import random
import time

from prober.clock_state import ClockState
from prober.stamp.direct import DirectSession
from prober.timestamp import NS_PER_S

CLOCK = ClockState(synchronized=True, error_ms=0.01)


def test_a_clock_that_is_set_back_by_an_hour_does_not_hold_up_a_session() -> None:
    begun_s = time.monotonic()

    def now_ns() -> int:
        return time.time_ns() - (3600 * NS_PER_S if time.monotonic() - begun_s > 0.3 else 0)

    direct = DirectSession(
        "127.0.0.1", port=9, clock=CLOCK, now_ns=now_ns, random_source=random.Random(1), rate_per_s=100
    )

    async def run() -> None:
        async with asyncio.timeout(5):
            await direct.run(count=60)

    asyncio.run(run())
    assert direct.session.tally.sent == 60
