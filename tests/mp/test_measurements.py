"""The life of a request, from when it is noted until it is answered or given up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mp.measurements import Measurements
from receiver.assembly import Whole
from requestor.query import way_back
from schemas.authentication import Standing
from schemas.errors import HostError, MessageError, StoreError
from schemas.message import MeasureRequest, Message
from schemas.result import PathResult, ResultStatus
from tests.mp.asking import QUERY, Network, play, record


def test_an_answered_request_is_noted_before_it_is_sent_and_composed_after() -> None:
    async def story(network: Network) -> PathResult:
        def answer(message: Message) -> None:
            assert [result.status for result in network.recorded] == [ResultStatus.PENDING]
            network.answer_whole(message)

        network.on_send = answer
        return await network.measure(QUERY)

    result, network = play(story)
    assert result.status is ResultStatus.COMPLETE
    assert result.composed["loss"].value == pytest.approx(1 - 0.99**2)
    assert [one.status for one in network.recorded] == [ResultStatus.PENDING, ResultStatus.COMPLETE]
    assert network.measurements.pending == 0


def test_a_lost_request_is_sent_again_with_the_same_id_and_another_copy_number() -> None:
    async def story(network: Network) -> PathResult:
        network.on_send = lambda message: network.answer_whole(message) if message.request.copy == 1 else None
        return await network.measure(QUERY)

    result, network = play(story)
    assert result.status is ResultStatus.COMPLETE
    assert [message.request.copy for message in network.sent] == [0, 1]
    assert len({message.request.id for message in network.sent}) == 1


def test_parts_of_two_copies_never_mix() -> None:
    async def story(network: Network) -> PathResult:
        def answer(message: Message) -> None:
            first = replace(message, records=(record("10.0.0.1", "10.0.0.2", at_ms=message.request.copy),))
            rest = Message(
                request=replace(message.request, part=1, last_point="10.0.0.2"),
                records=(record("10.0.0.2", "10.0.0.3", at_ms=message.request.copy),),
            )
            network.report(first, final=False)
            if message.request.copy == 1:
                network.report(rest)

        network.on_send = answer
        return await network.measure(QUERY)

    result, _ = play(story)
    assert result.status is ResultStatus.COMPLETE
    assert {segment.measured_at for segment in result.segments} == {"1970-01-01T00:00:00.001Z"}


def test_a_second_report_of_an_answered_request_is_acknowledged_and_changes_nothing() -> None:
    async def story(network: Network) -> PathResult:
        network.on_send = network.answer_whole
        result = await network.measure(QUERY)
        network.answer_whole(network.sent[0])
        assert await network.reports[-1] is True
        return result

    _, network = play(story)
    assert [one.status for one in network.recorded] == [ResultStatus.PENDING, ResultStatus.COMPLETE]


def test_a_report_that_nobody_asked_for_is_not_taken() -> None:
    async def story(network: Network) -> PathResult:
        network.on_send = network.answer_whole
        result = await network.measure(QUERY)
        stranger = replace(network.sent[0], request=replace(network.sent[0].request, id="f" * 32))
        assert await network.measurements.on_report(stranger, True) is False
        return result

    play(story)


def test_a_report_with_another_question_is_refused() -> None:
    async def story(network: Network) -> PathResult:
        def forge(message: Message) -> None:
            network.report(replace(message, request=replace(message.request, destination="10.0.0.66")))
            network.answer_whole(message)

        network.on_send = forge
        return await network.measure(QUERY)

    result, network = play(story)
    assert result.status is ResultStatus.COMPLETE
    assert isinstance(network.reports[0].exception(), MessageError)


def test_without_an_answer_the_result_is_failed_and_recorded() -> None:
    result, network = play(lambda network: network.measure(replace(QUERY, timeout_s=0.05)))
    assert result.status is ResultStatus.FAILED
    assert result.warnings == ("no answer within 0.05 s",)
    assert network.recorded[-1].status is ResultStatus.FAILED


def test_a_destination_that_refuses_ends_the_wait_at_once() -> None:
    async def story(network: Network) -> PathResult:
        network.on_send = lambda message: network.measurements.on_unreachable("10.0.0.3", "no point there")
        return await network.measure(replace(QUERY, timeout_s=60.0))

    result, _ = play(story)
    assert result.status is ResultStatus.FAILED
    assert result.warnings == ("destination 10.0.0.3: no point there",)


def test_without_a_route_the_result_is_failed_with_the_reason() -> None:
    async def story(network: Network) -> PathResult:
        def refuse(message: Message) -> None:
            raise HostError("destination 10.0.0.3: network is unreachable")

        network.on_send = refuse
        return await network.measure(replace(QUERY, timeout_s=60.0))

    result, _ = play(story)
    assert result.status is ResultStatus.FAILED
    assert "unreachable" in result.warnings[0]


def test_a_report_is_not_acknowledged_when_it_could_not_be_made_durable() -> None:
    async def story(network: Network) -> PathResult:
        async def full(result: PathResult) -> tuple[str, ...]:
            if result.status is ResultStatus.COMPLETE:
                raise StoreError("spool: disk full")
            network.recorded.append(result)
            return ()

        network.measurements = Measurements(network.send, full)
        network.on_send = network.answer_whole
        return await network.measure(replace(QUERY, timeout_s=0.2))

    result, network = play(story)
    assert result.status is ResultStatus.FAILED
    assert isinstance(network.reports[0].exception(), StoreError)


BOTH = replace(QUERY, both_directions=True)


def come_back(network: Network, message: Message) -> None:
    """What the last point does: back by other points, and under another address of its own."""
    back = way_back(message.request, source="10.0.0.30", now_ms=77)
    records = (record("10.0.0.30", "10.0.0.4"), record("10.0.0.4", "10.0.0.1"))
    network.report(Message(request=back, records=records))


def play_both(answer: Callable[[Network, Message], None]) -> tuple[PathResult, ...]:
    async def main() -> tuple[PathResult, ...]:
        network = Network()
        network.on_send = lambda message: answer(network, message)
        results = await network.measurements.measure(replace(BOTH, timeout_s=1.0))
        await asyncio.gather(*network.reports)
        assert network.measurements.pending == 0
        assert [one.id for one in network.recorded[-2:]] != [results[0].id] * 2
        return results

    return asyncio.run(main())


def test_both_directions_are_asked_for_in_one_question_and_stored_as_two_results() -> None:
    def answer(network: Network, message: Message) -> None:
        network.answer_whole(message)
        come_back(network, message)

    out, back = play_both(answer)
    assert (out.status, out.source, out.destination) == (ResultStatus.COMPLETE, "10.0.0.1", "10.0.0.3")
    assert (back.status, back.source, back.destination) == (ResultStatus.COMPLETE, "10.0.0.30", "10.0.0.1")
    assert [segment.upstream for segment in back.segments] == ["10.0.0.30", "10.0.0.4"]
    assert out.id != back.id


def test_a_lost_way_back_is_asked_for_again_by_the_next_copy_of_the_way_out() -> None:
    def answer(network: Network, message: Message) -> None:
        network.answer_whole(message)
        if message.request.copy == 1:
            come_back(network, message)

    assert [result.status for result in play_both(answer)] == [ResultStatus.COMPLETE] * 2


def test_a_way_back_that_never_comes_fails_alone() -> None:
    out, back = play_both(lambda network, message: network.answer_whole(message))
    assert (out.status, back.status) == (ResultStatus.COMPLETE, ResultStatus.FAILED)


def test_a_way_back_with_other_metrics_than_asked_is_refused() -> None:
    async def main() -> None:
        network = Network()
        other = replace(record("10.0.0.3", "10.0.0.1"), metrics={}, unsupported=("delay",))

        def answer(message: Message) -> None:
            back = replace(way_back(message.request, source="10.0.0.3", now_ms=77), metrics=("delay",))
            network.report(Message(request=back, records=(other,)))

        network.on_send = answer
        await network.measurements.measure(replace(BOTH, timeout_s=0.1))
        with pytest.raises(MessageError, match="differs from the request"):
            await network.reports[0]

    asyncio.run(main())


def test_a_path_that_is_known_is_answered_and_recorded_without_a_packet() -> None:
    asked: list[MeasureRequest] = []

    def known(request: MeasureRequest) -> Whole | None:
        asked.append(request)
        told = (replace(record("10.0.0.1", "10.0.0.2"), told_by="10.0.0.1"),)
        return Whole(
            message=Message(request=request, records=told), request=Standing.UNSIGNED, records=(Standing.UNSIGNED,)
        )

    async def story(network: Network) -> PathResult:
        network.measurements = Measurements(network.send, network.keep, known=known)
        return await network.measure(replace(QUERY, max_age_s=30.0))

    result, network = play(story)
    assert result.status is ResultStatus.COMPLETE
    assert [one.told_by for one in result.segments] == ["10.0.0.1"]
    assert network.sent == []
    assert [one.status for one in network.recorded] == [ResultStatus.PENDING, ResultStatus.COMPLETE]
    assert network.measurements.pending == 0
    assert network.measurements.counters["from_cache"] == network.measurements.counters["complete"] == 1
    assert [one.max_age_ms for one in asked] == [30_000]


@pytest.mark.parametrize("changes", [{"max_age_s": 0.0}, {"max_age_s": 30.0, "both_directions": True}])
def test_a_path_is_walked_when_nothing_older_will_do_or_the_way_back_is_wanted(changes: dict[str, Any]) -> None:
    async def story(network: Network) -> PathResult:
        network.measurements = Measurements(network.send, network.keep, known=lambda _: pytest.fail("asked"))
        return (await network.measurements.measure(replace(QUERY, timeout_s=0.1, **changes)))[0]

    _, network = play(story)
    assert network.sent
