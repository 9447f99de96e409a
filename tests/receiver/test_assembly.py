from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.assembly import MAX_TWINS, ReportAssembly, Whole
from schemas.authentication import Standing, sealed, signed_request
from schemas.errors import MessageError
from schemas.keyring import HmacKey, KeyIdentity, Keyring
from schemas.message import Message, SegmentState
from schemas.xml_reader import message_from_xml
from schemas.xml_writer import END_TAG, message_to_xml, untagged_record
from tests.receiver.paths import message, request, usual

MS = 1_000_000
LIFETIME_NS = 5_000 * MS
PARTS = (
    message((usual(0), usual(1)), part=0),
    message((usual(2),), part=1),
    message((usual(3), usual(4)), part=2),
)
WHOLE = message(tuple(map(usual, range(5))))


def taken(assembly: ReportAssembly, report: Message, *, final: bool, now_ns: int = 0) -> Message | None:
    """The whole message, if there is one now."""
    whole = assembly.add(report, final=final, now_ns=now_ns)
    return None if whole is None else whole.message


def add(assembly: ReportAssembly, index: int, *, now_ns: int = 0) -> Message | None:
    return taken(assembly, PARTS[index], final=index == 2, now_ns=now_ns)


def test_a_report_of_one_part_is_whole_at_once() -> None:
    assert taken(ReportAssembly(), WHOLE, final=True) == WHOLE


@given(st.permutations([0, 0, 1, 1, 2, 2]))
def test_parts_join_in_any_order_and_with_duplicates(order: list[int]) -> None:
    assembly = ReportAssembly()
    seen: set[int] = set()
    for index in order:
        whole = add(assembly, index)
        seen.add(index)
        assert whole == (WHOLE if seen == {0, 1, 2} else None)


def test_an_empty_final_part_completes_the_report() -> None:
    assembly = ReportAssembly()
    last = Message(request=request(part=1, last_point="10.0.0.3"))
    assert assembly.add(PARTS[0], final=False, now_ns=0) is None
    assert taken(assembly, last, final=True) == message((usual(0), usual(1)))


def test_parts_of_different_copies_never_mix() -> None:
    assembly = ReportAssembly()
    other = replace(PARTS[2], request=replace(PARTS[2].request, copy=1))
    assert [add(assembly, 0), add(assembly, 1), assembly.add(other, final=True, now_ns=0)] == [None, None, None]
    assert add(assembly, 2) == WHOLE


def test_a_request_is_forgotten_after_its_lifetime() -> None:
    assembly = ReportAssembly()
    add(assembly, 0)
    add(assembly, 1, now_ns=LIFETIME_NS - 1)
    assert len(assembly) == 1
    assert add(assembly, 2, now_ns=LIFETIME_NS) is None
    assembly.expire(2 * LIFETIME_NS)
    assert len(assembly) == 0


def test_the_number_of_open_requests_is_bounded_and_whole_ones_go_first() -> None:
    assembly = ReportAssembly(max_open=3)
    one = PARTS[0]
    add(assembly, 0)
    assembly.add(replace(WHOLE, request=request(identifier="a" * 32)), final=True, now_ns=1)
    for index in range(4):
        assembly.add(replace(one, request=request(identifier=f"{index:032x}")), final=False, now_ns=2 + index)
        assert len(assembly) <= 3
    assert len(assembly) == 3
    # The first request was the oldest of those that were not whole: its last parts find nothing to join.
    assert [add(assembly, 1, now_ns=9), add(assembly, 2, now_ns=9)] == [None, None]


def refused(assembly: ReportAssembly, report: Message, *, final: bool) -> str:
    with pytest.raises(MessageError) as caught:
        assembly.add(report, final=final, now_ns=0)
    return str(caught.value)


def test_a_part_that_came_before_with_other_records_is_refused() -> None:
    assembly = ReportAssembly()
    add(assembly, 0)
    other = message((usual(0), replace(usual(1), age_ms=7)), part=0)
    assert "part 0 came twice and differs" in refused(assembly, other, final=False)
    assert [add(assembly, 1), add(assembly, 2)] == [None, WHOLE]


def test_a_part_of_another_request_under_the_same_id_is_refused() -> None:
    assembly = ReportAssembly()
    add(assembly, 0)
    stranger = replace(PARTS[1], request=replace(PARTS[1].request, destination="10.8.8.8"))
    assert "differs from that of another part" in refused(assembly, stranger, final=False)


def test_parts_must_continue_each_other() -> None:
    assembly = ReportAssembly()
    add(assembly, 0)
    gap = message((usual(3),), part=1)
    assert "lp of" in refused(assembly, gap, final=True)
    assert "expected 10.0.0.3, where the part before ends" in refused(assembly, gap, final=True)
    assert [add(assembly, 1), add(assembly, 2)] == [None, WHOLE]


def test_nothing_may_follow_the_final_part() -> None:
    assembly = ReportAssembly()
    assembly.add(PARTS[1], final=True, now_ns=0)
    assert "got 2 after the final part 1" in refused(assembly, PARTS[2], final=False)
    assert "part 1 came twice and differs" in refused(assembly, PARTS[1], final=False)


def test_a_final_part_below_one_that_is_here_is_refused() -> None:
    assembly = ReportAssembly()
    assembly.add(PARTS[2], final=False, now_ns=0)
    assert "got final part 1, expected the highest, 2" in refused(assembly, PARTS[1], final=True)


def test_more_records_than_a_path_can_have_are_refused() -> None:
    records = tuple(usual(0) for _ in range(2))
    loop = tuple(replace(record, upstream="10.0.0.1", current="10.0.0.1") for record in records * 64)
    assembly = ReportAssembly()
    first = Message(request=request(), records=loop)
    second = Message(request=request(part=1, last_point="10.0.0.1"), records=loop)
    assembly.add(first, final=False, now_ns=0)
    assert "got 256, expected at most 255" in refused(assembly, second, final=True)


RING = Keyring((HmacKey(KeyIdentity(id="a1", areas=("",)), b"k" * 32),))


def signed_parts(previous_tag: bytes | None = None, *, parts: Sequence[Message] = PARTS) -> list[Message]:
    """Parts as honest points make them; `previous_tag` is what the second part says instead of the truth."""
    made: list[Message] = []
    for part in parts:
        told = made[-1].records[-1].tag if made else None
        before = None if told is None else told.octets
        if len(made) == 1:
            before = previous_tag or before
        xml = message_to_xml(Message(request=signed_request(replace(part.request, previous_tag=before), RING)))
        for one in part.records:
            xml = sealed(xml[: -len(END_TAG)] + untagged_record(one), RING.key("a1"))
        made.append(message_from_xml(xml))
    return made


def joined(parts: list[Message], order: list[int]) -> Whole:
    assembly = ReportAssembly(keyring=RING)
    wholes = [assembly.add(parts[index], final=index == 2, now_ns=0) for index in order]
    assert wholes[-1] is not None
    return wholes[-1]


@given(st.permutations([0, 1, 2]))
def test_parts_of_honest_points_are_authentic_in_any_order(order: list[int]) -> None:
    whole = joined(signed_parts(), order)
    assert (whole.standing, whole.request) == (Standing.AUTHENTIC, Standing.AUTHENTIC)
    assert len(whole.records) == 5


def test_a_part_that_does_not_continue_the_one_before_it_is_forged_from_its_first_record() -> None:
    whole = joined(signed_parts(previous_tag=b"x" * 16), [0, 1, 2])
    right, wrong = Standing.AUTHENTIC, Standing.FORGED
    assert whole.records == (right, right, wrong, right, right)
    assert whole.standing is wrong


def slice_of(index: int, metrics: tuple[str, ...], *, age_ms: int, state: SegmentState) -> Message:
    asked = replace(request(), metrics=metrics, slice_index=index, slices=2)
    pending = state is SegmentState.PENDING
    one = replace(
        usual(0), state=state, age_ms=0 if pending else age_ms, metrics={}, unsupported=() if pending else metrics
    )
    return Message(request=asked, records=(one,))


def test_slices_join_to_one_record_of_all_metrics_as_old_as_the_oldest() -> None:
    assembly = ReportAssembly()
    first = slice_of(0, ("delay", "loss"), age_ms=20, state=SegmentState.MEASURED)
    second = slice_of(1, ("rtt",), age_ms=50, state=SegmentState.MEASURED)
    assert taken(assembly, second, final=True) is None
    whole = taken(assembly, first, final=True)
    assert whole is not None
    assert whole.request.metrics == ("delay", "loss", "rtt")
    assert (whole.records[0].unsupported, whole.records[0].age_ms) == (("delay", "loss", "rtt"), 50)


def test_a_segment_that_one_slice_found_pending_is_pending() -> None:
    assembly = ReportAssembly()
    assembly.add(slice_of(0, ("delay",), age_ms=9, state=SegmentState.PENDING), final=True, now_ns=0)
    whole = taken(assembly, slice_of(1, ("rtt",), age_ms=9, state=SegmentState.MEASURED), final=True)
    assert whole is not None
    assert (whole.records[0].state, whole.records[0].unsupported) == (SegmentState.PENDING, ())


def test_more_slices_than_anybody_sends_are_refused() -> None:
    one = slice_of(0, ("delay",), age_ms=9, state=SegmentState.MEASURED)
    many = replace(one, request=replace(one.request, slices=9))
    assert "got 9, expected at most 8" in refused(ReportAssembly(), many, final=True)


def test_twins_of_signed_parts_join_each_with_its_own_chain() -> None:
    """A link that doubled a datagram made two chains, whose records were written at different times."""
    late = [
        replace(part, records=tuple(replace(one, recorded_at_ms=one.recorded_at_ms + 1) for one in part.records))
        for part in PARTS
    ]
    chains = [signed_parts(), signed_parts(parts=late)]
    assembly = ReportAssembly(keyring=RING)
    add_signed = [(chains[0][0], False), (chains[1][0], False), (chains[1][1], False), (chains[0][2], True)]
    wholes = [assembly.add(part, final=final, now_ns=0) for part, final in add_signed]
    assert wholes[-1] is not None and wholes[-1].standing is Standing.FORGED, "nothing fits together yet"
    whole = assembly.add(chains[0][1], final=False, now_ns=0)
    assert whole is not None
    assert (whole.standing, whole.message) == (Standing.AUTHENTIC, joined(chains[0], [0, 1, 2]).message)


def test_no_more_twins_are_kept_than_anybody_makes() -> None:
    assembly = ReportAssembly(keyring=RING)
    for number in range(MAX_TWINS):
        part = replace(PARTS[0], records=tuple(replace(one, age_ms=number) for one in PARTS[0].records))
        assembly.add(signed_parts(parts=[part])[0], final=False, now_ns=0)
    another = replace(PARTS[0], records=tuple(replace(one, age_ms=99) for one in PARTS[0].records))
    assert "came twice and differs" in refused(assembly, signed_parts(parts=[another])[0], final=False)
