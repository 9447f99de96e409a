from __future__ import annotations

import pytest

from prober.clock_steps.forward_gate import AGREEING, Forward, ForwardGate

MS, S = 1_000_000, 1_000_000_000


class Arrivals:
    def __init__(self, *, far_ns: int = S) -> None:
        self.gate = ForwardGate(far_ns)
        self.counted: list[int] = []
        self.dropped = 0
        self.steps_ns: list[int] = []

    def take(self, *delays_ns: int) -> None:
        for number, delay_ns in enumerate(delays_ns):
            sample = Forward(delay_ns, number, number)
            judgement = self.gate.judge(sample)
            if judgement is None:
                self.counted.append(delay_ns)
                continue
            self.counted += [one.delay_ns for one in judgement.samples]
            self.dropped += judgement.dropped
            if judgement.step_ns is not None:
                self.steps_ns.append(judgement.step_ns)


@pytest.mark.parametrize("absurd_ns", [3600 * S, -3600 * S, 2 * S, -2 * S, 10**20, -(10**20)])
def test_a_single_time_from_the_far_future_or_past_never_becomes_a_sample(absurd_ns: int) -> None:
    arrivals = Arrivals()
    arrivals.take(*[5 * MS] * 20, absurd_ns, *[6 * MS] * 20)
    assert arrivals.counted == [5 * MS] * 20 + [6 * MS] * 20
    assert (arrivals.dropped, arrivals.steps_ns) == (1, [])


@pytest.mark.parametrize("step_ns", [3600 * S, -3600 * S, 2 * S, -11 * S])
def test_delays_that_agree_far_away_are_a_step(step_ns: int) -> None:
    arrivals = Arrivals()
    arrivals.take(*[5 * MS] * 20, *[5 * MS - step_ns] * 20)
    assert (len(arrivals.counted), arrivals.dropped, arrivals.steps_ns) == (40, 0, [step_ns])


def test_a_link_that_stalls_for_seconds_and_delivers_then_is_no_step() -> None:
    arrivals = Arrivals()
    stalled = [(3000 - 100 * n) * MS for n in range(30)]
    arrivals.take(*[5 * MS] * 20, *stalled, *[5 * MS] * 20)
    assert (arrivals.steps_ns, arrivals.dropped) == ([], 0)
    assert len(arrivals.counted) == 70


def test_delays_up_to_the_loss_threshold_are_the_networks() -> None:
    arrivals = Arrivals(far_ns=3 * S)
    arrivals.take(*[5 * MS] * 20, 2900 * MS, *[5 * MS] * 20)
    assert (len(arrivals.counted), arrivals.dropped) == (41, 0)


def test_a_first_delay_that_was_absurd_does_not_keep_the_right_ones_out() -> None:
    arrivals = Arrivals()
    arrivals.take(-3600 * S, *[5 * MS] * AGREEING)
    assert arrivals.counted[-AGREEING:] == [5 * MS] * AGREEING
    assert len(arrivals.steps_ns) == 1 or arrivals.gate.judge(Forward(5 * MS, 9, 9)) is None


def test_absurd_delays_that_disagree_are_all_dropped() -> None:
    arrivals = Arrivals()
    arrivals.take(*[5 * MS] * 20, *[n * 100 * S for n in range(1, 9)], 5 * MS)
    assert (arrivals.dropped, arrivals.steps_ns, len(arrivals.counted)) == (8, [], 21)
