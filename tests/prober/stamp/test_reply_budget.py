from __future__ import annotations

from prober.stamp.reply_budget import BURST_S, MAX_SOURCES, SOURCE_RATE_PER_S, WHOLE_RATE_PER_S, ReplyBudget

S = 1_000_000_000
START_NS = 1_700_000_000 * S


def allowed(budget: ReplyBudget, addresses: list[str], *, per_s: int, seconds: int) -> int:
    """Of so many probes a second, whose sources take turns."""
    probes = per_s * seconds
    return sum(budget.allows(addresses[n % len(addresses)], START_NS + n * S // per_s) for n in range(probes))


def test_a_sender_at_our_highest_rate_is_always_answered() -> None:
    assert allowed(ReplyBudget(), ["192.0.2.1"], per_s=100, seconds=10) == 1_000


def test_a_flood_from_one_address_is_answered_at_the_rate_of_one() -> None:
    told = allowed(ReplyBudget(), ["192.0.2.1"], per_s=10_000, seconds=3)
    assert told <= SOURCE_RATE_PER_S * (3 + BURST_S) + 1
    assert told >= SOURCE_RATE_PER_S * 3


def test_a_flood_from_any_addresses_is_answered_at_the_rate_of_all_and_fills_no_memory() -> None:
    budget = ReplyBudget()
    addresses = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(20_000)]
    told = allowed(budget, addresses, per_s=20_000, seconds=3)
    assert WHOLE_RATE_PER_S * 3 <= told <= WHOLE_RATE_PER_S * (3 + BURST_S) + 1
    assert len(budget) == MAX_SOURCES


def test_after_a_flood_a_sender_is_answered_again() -> None:
    budget = ReplyBudget()
    allowed(budget, ["192.0.2.1"], per_s=5_000, seconds=1)
    assert not budget.allows("192.0.2.1", START_NS + S)
    assert budget.allows("192.0.2.1", START_NS + 2 * S)


def test_a_clock_that_steps_back_locks_nobody_out() -> None:
    budget = ReplyBudget()
    assert budget.allows("192.0.2.1", START_NS)
    for second in range(3):
        assert budget.allows("192.0.2.1", START_NS - 3_600 * S + second * S)
