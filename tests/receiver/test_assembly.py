from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.assembly import ReportAssembly
from schemas.errors import MessageError
from schemas.message import Message
from tests.receiver.paths import message, request, usual

MS = 1_000_000
LIFETIME_NS = 5_000 * MS
PARTS = (
    message((usual(0), usual(1)), part=0),
    message((usual(2),), part=1),
    message((usual(3), usual(4)), part=2),
)
WHOLE = message(tuple(map(usual, range(5))))


def add(assembly: ReportAssembly, index: int, *, now_ns: int = 0) -> Message | None:
    return assembly.add(PARTS[index], final=index == 2, now_ns=now_ns)


def test_a_report_of_one_part_is_whole_at_once() -> None:
    assert ReportAssembly().add(WHOLE, final=True, now_ns=0) == WHOLE


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
    assert assembly.add(last, final=True, now_ns=0) == message((usual(0), usual(1)))


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
