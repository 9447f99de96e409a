"""What becomes of answers by what their tags are worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from schemas.authentication import Standing, sealed
from schemas.keyring import HmacKey, KeyIdentity, Keyring
from schemas.message import Message
from schemas.result import Flag, PathResult, ResultStatus
from schemas.xml_reader import message_from_xml
from schemas.xml_writer import END_TAG, message_to_xml, untagged_record
from tests.mp.asking import QUERY, Network, play, record
from tests.statistics import loss_of

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
