"""In how many parts, and by which carriers, the copies of a request are sent."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from schemas.errors import HostError
from schemas.message import Carrier, Message, SegmentRecord
from schemas.result import PathResult, ResultStatus
from tests.mp.asking import QUERY, Network, play, record

ALERT, PLAIN, RELAY = Carrier
METRICS_OF_THREE = ("delay", "loss", "jitter", "rtt", "distribution", "hops", "mtu", "capacity", "utilization")


def unsupported(upstream: str, current: str, metrics: tuple[str, ...]) -> SegmentRecord:
    """A record that says nothing of any metric."""
    return replace(record(upstream, current), metrics={}, unsupported=metrics)


def answer_slice(network: Network, message: Message, *, over: tuple[str, ...] = ("10.0.0.1", "10.0.0.3")) -> None:
    asked = message.request.metrics
    records = tuple(unsupported(*ends, asked) for ends in pairwise(over))
    network.report(replace(message, records=records))


def test_a_question_about_many_metrics_goes_in_slices_whose_answers_are_one() -> None:
    async def story(network: Network) -> PathResult:
        network.room = 600
        network.on_send = lambda message: answer_slice(network, message)
        return await network.measure(replace(QUERY, metrics=METRICS_OF_THREE))

    result, network = play(story)
    assert [message.request.slice_index for message in network.sent] == [0, 1, 2, 3]
    assert {message.request.slices for message in network.sent} == {4}
    assert tuple(name for message in network.sent for name in message.request.metrics) == METRICS_OF_THREE
    assert (result.status, result.metrics) == (ResultStatus.PARTIAL, METRICS_OF_THREE)
    (segment,) = result.segments
    assert set(segment.metrics) == set(METRICS_OF_THREE)


def test_slices_that_took_different_ways_are_no_answer_and_the_next_copy_is() -> None:
    async def story(network: Network) -> PathResult:
        network.room = 600

        def answer(message: Message) -> None:
            strays = message.request.copy == 0 and message.request.slice_index == 1
            over = ("10.0.0.1", "10.0.0.9", "10.0.0.3") if strays else ("10.0.0.1", "10.0.0.3")
            answer_slice(network, message, over=over)

        network.on_send = answer
        return await network.measure(replace(QUERY, metrics=METRICS_OF_THREE))

    result, network = play(story)
    assert [segment.current for segment in result.segments] == ["10.0.0.3"]
    assert network.sent[-1].request.copy == 1


def test_what_does_not_come_through_is_sent_by_another_carrier_which_then_comes_first() -> None:
    async def story(network: Network) -> PathResult:
        def answer(message: Message) -> None:
            if network.carriers[-1] is PLAIN:
                network.answer_whole(message)

        network.on_send = answer
        first = await network.measure(QUERY)
        assert (first.carrier, network.carriers) == (PLAIN, [ALERT, PLAIN])
        return await network.measure(QUERY)

    result, network = play(story)
    assert (result.carrier, network.carriers) == (PLAIN, [ALERT, PLAIN, PLAIN])


def test_a_carrier_that_was_asked_for_is_the_only_one() -> None:
    async def story(network: Network) -> PathResult:
        return await network.measure(replace(QUERY, carrier=RELAY, timeout_s=1.0))

    result, network = play(story)
    assert result.status is ResultStatus.FAILED
    assert set(network.carriers) == {RELAY}
    assert len(network.carriers) > 1


def test_without_a_neighbor_to_relay_the_other_carriers_go_on() -> None:
    async def story(network: Network) -> PathResult:
        def answer(message: Message) -> None:
            if network.carriers[-1] is RELAY:
                raise HostError("destination 10.0.0.3: no neighbor is known on the way")
            if message.request.copy == 3:
                network.answer_whole(message)

        network.on_send = answer
        return await network.measure(replace(QUERY, timeout_s=30.0))

    result, network = play(story)
    assert result.status is ResultStatus.COMPLETE
    assert network.carriers == [ALERT, PLAIN, RELAY, ALERT]
