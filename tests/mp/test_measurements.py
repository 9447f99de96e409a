"""Requests on a network of one line: what is sent comes back as the test decides."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from mp.keys.credentials import Credentials
from mp.measurements import Measurements
from receiver.assembly import Whole
from requestor.query import PathQuery, way_back
from schemas.authentication import Standing, sealed
from schemas.errors import HostError, MessageError, StoreError
from schemas.keyring import HmacKey, KeyIdentity, Keyring
from schemas.message import Carrier, MeasureRequest, Message, SegmentRecord, SegmentState
from schemas.result import Flag, PathResult, ResultStatus
from schemas.xml_codec import END_TAG, message_from_xml, message_to_xml, untagged_record
from tests.statistics import loss_of

QUERY = PathQuery(source="10.0.0.1", destination="10.0.0.3", metrics=("loss",), timeout_s=3.0, max_age_s=15.0)


def record(upstream: str, current: str, *, at_ms: int = 5) -> SegmentRecord:
    return SegmentRecord(
        upstream=upstream,
        current=current,
        state=SegmentState.MEASURED,
        recorded_at_ms=at_ms,
        metrics={"loss": loss_of(100, 1)},
    )


class Network:
    """Keeps what was sent and recorded; `on_send` may answer."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.recorded: list[PathResult] = []
        self.on_send: Callable[[Message], None] = lambda message: None
        self.room = 1468
        self.carriers: list[Carrier] = []
        self.credentials = Credentials()
        self.measurements = Measurements(
            self.send, self.keep, credentials=self.credentials, room=lambda: self.room
        )
        self.reports: list[asyncio.Task[bool]] = []

    async def measure(self, query: PathQuery) -> PathResult:
        (result,) = await self.measurements.measure(query)
        return result

    def send(self, payload: bytes, destination: str, carrier: Carrier) -> None:
        message = message_from_xml(payload)
        assert destination == message.request.destination
        self.carriers.append(carrier)
        self.sent.append(message)
        self.on_send(message)

    async def keep(self, result: PathResult) -> tuple[str, ...]:
        self.recorded.append(result)
        return ()

    def report(self, message: Message, *, final: bool = True) -> None:
        self.reports.append(asyncio.get_running_loop().create_task(self._report(message, final)))

    async def _report(self, message: Message, final: bool) -> bool:
        return await self.measurements.on_report(message, final)

    def answer_whole(self, message: Message) -> None:
        self.report(replace(message, records=(record("10.0.0.1", "10.0.0.2"), record("10.0.0.2", "10.0.0.3"))))


def play(story: Callable[[Network], Awaitable[PathResult]]) -> tuple[PathResult, Network]:
    async def main() -> tuple[PathResult, Network]:
        network = Network()
        result = await story(network)
        await asyncio.gather(*network.reports, return_exceptions=True)
        return result, network

    return asyncio.run(main())


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


KEYS = Keyring((HmacKey(KeyIdentity(id="a1", areas=("",)), b"k" * 32),))


def sealed_answer(message: Message) -> Message:
    """What honest points make of it."""
    xml = message_to_xml(message)
    for ends in (("10.0.0.1", "10.0.0.2"), ("10.0.0.2", "10.0.0.3")):
        xml = sealed(xml[: -len(END_TAG)] + untagged_record(record(*ends)), KEYS.key("a1"))
    return message_from_xml(xml)


def play_signed(
    answer: Callable[[Message], Message], *, is_required: bool, timeout_s: float = 3.0
) -> tuple[PathResult, Network]:
    async def story(network: Network) -> PathResult:
        network.credentials.keyring, network.credentials.is_required = KEYS, is_required
        network.on_send = lambda message: network.report(answer(message))
        return await network.measure(replace(QUERY, timeout_s=timeout_s))

    return play(story)


def test_an_answer_of_honest_points_is_authentic() -> None:
    result, _ = play_signed(sealed_answer, is_required=True)
    assert (result.status, result.authenticity) == (ResultStatus.COMPLETE, Standing.AUTHENTIC)
    assert {segment.authenticity for segment in result.segments} == {Standing.AUTHENTIC}
    assert result.composed["loss"].flags == ()


def tampered_answer(message: Message) -> Message:
    first, second = sealed_answer(message).records
    return replace(message, records=(first, replace(second, metrics={"loss": loss_of(100, 0)})))


def test_a_record_that_was_changed_is_named_and_the_answer_marked() -> None:
    result, network = play_signed(tampered_answer, is_required=False)
    assert result.authenticity is Standing.FORGED
    assert [segment.authenticity for segment in result.segments] == [Standing.AUTHENTIC, Standing.FORGED]
    assert Flag.UNVERIFIED in result.composed["loss"].flags
    assert result.warnings[0] == "the record of 10.0.0.3 has a wrong tag: somebody changed the message"
    # Each time, a true copy might have come.
    assert network.measurements.counters["forged"] == network.measurements.counters["copies_sent"] > 1


def test_where_tags_are_required_a_forged_answer_is_none_and_a_true_copy_still_is() -> None:
    def answer(message: Message) -> Message:
        return (tampered_answer if message.request.copy == 0 else sealed_answer)(message)

    result, _ = play_signed(answer, is_required=True)
    assert (result.status, result.authenticity) == (ResultStatus.COMPLETE, Standing.AUTHENTIC)
    failed, _ = play_signed(tampered_answer, is_required=True, timeout_s=0.2)
    assert failed.status is ResultStatus.FAILED
    assert "the record of 10.0.0.3 has a wrong tag" in failed.warnings[1]


def test_an_unsigned_answer_is_marked_by_a_point_that_holds_keys_and_only_there() -> None:
    def unsigned(message: Message) -> Message:
        records = (record("10.0.0.1", "10.0.0.2"), record("10.0.0.2", "10.0.0.3"))
        return replace(message, records=records)

    result, _ = play_signed(unsigned, is_required=False)
    assert result.authenticity is Standing.UNSIGNED
    assert Flag.UNVERIFIED in result.composed["loss"].flags


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
