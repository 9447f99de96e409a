from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.decision import Decision, Forward, HandOver, PassThrough, SendReport
from processor.pipeline import Pipeline, PointIdentity, UpstreamAsked
from processor.segment_table import FRESH_MS, PreparedSegment, SegmentTable
from processor.tail_table import Tail, TailSegment, TailTable
from processor.trust import Trust
from schemas.authentication import Standing, record_standings, signed_request
from schemas.keyring import NO_KEYS, HmacKey, KeyIdentity, Keyring
from schemas.message import Carrier, MeasureRequest, Message, SegmentState
from schemas.payload import message_from_payload, payload_from_xml
from schemas.xml_writer import message_to_xml
from tests.statistics import segment_statistics

NOW_MS = 1_700_000_000_000
ROOM = 1468
REQUEST = MeasureRequest(
    source="10.0.0.1",
    destination="10.0.0.200",
    id="ab" * 16,
    metrics=("delay", "loss"),
    created_at_ms=NOW_MS,
    lifetime_ms=5000,
    max_age_ms=0,
)


class Point:
    """A point on a small network, with the upstreams that it would begin to measure."""

    def __init__(
        self,
        address: str,
        *,
        serves: tuple[str, ...] = (),
        keyring: Keyring = NO_KEYS,
        is_required: bool = False,
    ) -> None:
        self.asked: list[UpstreamAsked] = []
        self.wanted: list[str] = []
        self.segments = SegmentTable()
        self.tails = TailTable()
        self.paths_asked: list[str] = []
        identity = PointIdentity(
            address=address,
            own_addresses=frozenset({address, f"192.168.0.{address.rsplit('.', 1)[1]}"}),
            serves=tuple(IPv4Network(prefix) for prefix in serves),
        )
        self.pipeline = Pipeline(
            identity,
            self.segments,
            self._asked,
            tails=self.tails,
            on_path=self.paths_asked.append,
            trust=Trust(keyring, is_required=is_required),
        )

    def _asked(self, asked: UpstreamAsked) -> None:
        self.asked.append(asked)
        if asked.missing == asked.metrics:
            self.wanted.append(asked.upstream)

    def knows(self, upstream: str, *, newest_ms: int = NOW_MS, seed: int = 1) -> Point:
        self.segments.put(PreparedSegment.of(upstream, newest_ms, segment_statistics(seed)))
        return self

    def takes(self, message: Message | bytes, *, room: int = ROOM, now_ms: int = NOW_MS) -> Decision:
        payload = message if isinstance(message, bytes) else message_to_xml(message)
        return self.pipeline.process(
            payload, source=REQUEST.source, destination=REQUEST.destination, now_ms=now_ms, room=room
        )


def test_a_point_on_the_way_appends_what_it_knows_and_forwards() -> None:
    decision = Point("10.0.0.2").knows("10.0.0.1", newest_ms=NOW_MS - 70).takes(Message(request=REQUEST))
    assert isinstance(decision, Forward)
    (record,) = message_from_payload(decision.payload).records
    assert (record.upstream, record.current, record.state) == ("10.0.0.1", "10.0.0.2", SegmentState.MEASURED)
    assert (record.recorded_at_ms, record.age_ms) == (NOW_MS, 70)
    known = segment_statistics(1)
    assert record.metrics == {name: known[name] for name in REQUEST.metrics}


def test_only_the_metrics_that_were_asked_for_are_appended() -> None:
    point = Point("10.0.0.2").knows("10.0.0.1")
    decision = point.takes(Message(request=replace(REQUEST, metrics=("loss",))))
    assert isinstance(decision, Forward)
    assert list(message_from_payload(decision.payload).records[0].metrics) == ["loss"]


def test_a_metric_that_the_point_cannot_give_is_unsupported() -> None:
    point = Point("10.0.0.2").knows("10.0.0.1")
    decision = point.takes(Message(request=replace(REQUEST, metrics=("delay", "dns-time"))))
    assert isinstance(decision, Forward)
    assert message_from_payload(decision.payload).records[0].unsupported == ("dns-time",)


def test_a_hello_ends_at_the_first_point_and_is_told_as_one() -> None:
    point = Point("10.0.0.2")
    decision = point.takes(Message(request=replace(REQUEST, hello=True)))
    assert isinstance(decision, SendReport)
    assert (decision.report.asker, decision.report.final) == (REQUEST.source, True)
    assert [record.current for record in message_from_payload(decision.report.payload).records] == ["10.0.0.2"]
    assert point.asked == [UpstreamAsked("10.0.0.1", REQUEST.metrics, REQUEST.metrics, hello=True)]


def test_the_reports_of_a_way_back_go_to_its_destination_who_asked() -> None:
    decision = Point(REQUEST.destination).takes(Message(request=replace(REQUEST, returning=True)))
    assert isinstance(decision, SendReport)
    assert decision.report.asker == REQUEST.destination


def test_only_the_last_point_is_asked_for_the_way_back() -> None:
    both = Message(request=replace(REQUEST, return_id="cd" * 16))
    last = Point(REQUEST.destination).takes(both)
    assert isinstance(last, SendReport)
    assert last.report.wants_return
    first = Point("10.0.0.2").knows("10.0.0.1").takes(both)
    assert isinstance(first, Forward)
    small = payload_from_xml(first.payload, len(first.payload) - 1)
    assert small is not None
    rooms = range(len(small), len(small) + 60)
    middle = [Point("10.0.0.3").knows("10.0.0.2", seed=2).takes(first.payload, room=room) for room in rooms]
    handed_over = [decision.report for decision in middle if isinstance(decision, HandOver)]
    assert handed_over
    assert not any(report.wants_return for report in handed_over)


def test_a_measured_upstream_that_is_asked_for_is_told_too() -> None:
    point = Point("10.0.0.2").knows("10.0.0.1")
    point.takes(Message(request=REQUEST))
    assert point.asked == [UpstreamAsked("10.0.0.1", REQUEST.metrics, (), hello=False)]


def test_an_unknown_upstream_makes_a_pending_record_and_is_wanted() -> None:
    point = Point("10.0.0.2")
    decision = point.takes(Message(request=REQUEST))
    assert isinstance(decision, Forward)
    assert message_from_payload(decision.payload).records[0].state is SegmentState.PENDING
    assert point.wanted == ["10.0.0.1"]


@pytest.mark.parametrize(
    ("age_ms", "max_age_ms", "state"),
    [
        (FRESH_MS, 0, SegmentState.MEASURED),
        (FRESH_MS + 1, 0, SegmentState.PENDING),
        (FRESH_MS + 1, 20_000, SegmentState.MEASURED),
        (20_001, 20_000, SegmentState.PENDING),
    ],
)
def test_data_older_than_the_request_accepts_is_pending(age_ms: int, max_age_ms: int, state: SegmentState) -> None:
    point = Point("10.0.0.2").knows("10.0.0.1", newest_ms=NOW_MS - age_ms)
    decision = point.takes(Message(request=replace(REQUEST, max_age_ms=max_age_ms)))
    assert isinstance(decision, Forward)
    assert message_from_payload(decision.payload).records[0].state is state


@pytest.mark.parametrize(
    "point", [Point("10.0.0.200"), Point("10.0.0.9", serves=("10.0.0.128/25",))], ids=["owns", "serves"]
)
def test_the_point_that_owns_or_serves_the_destination_reports(point: Point) -> None:
    decision = point.takes(Message(request=REQUEST))
    assert isinstance(decision, SendReport)
    assert (decision.report.asker, decision.report.id, decision.report.final) == ("10.0.0.1", "ab" * 16, True)
    assert len(message_from_payload(decision.report.payload).records) == 1


def test_another_address_of_the_host_is_its_destination_too() -> None:
    request = replace(REQUEST, destination="192.168.0.7")
    decision = Point("10.0.0.7").pipeline.process(
        message_to_xml(Message(request=request)),
        source=request.source,
        destination=request.destination,
        now_ms=NOW_MS,
        room=ROOM,
    )
    assert isinstance(decision, SendReport)


@pytest.mark.parametrize(
    ("point", "message", "reason"),
    [
        (Point("10.0.0.2"), b"<m>", "malformed"),
        (Point("10.0.0.2"), Message(request=replace(REQUEST, source="10.0.0.66")), "expected the packet's"),
        (Point("10.0.0.1"), Message(request=REQUEST), "sent the request itself"),
        (
            Point("10.0.0.2"),
            Message(request=replace(REQUEST, part=1, last_point="10.0.0.2")),
            "on the path already",
        ),
    ],
    ids=["malformed", "other addresses", "own request", "loop"],
)
def test_what_is_not_for_this_point_passes_unchanged(point: Point, message: Message | bytes, reason: str) -> None:
    decision = point.takes(message)
    assert isinstance(decision, PassThrough)
    assert reason in decision.reason
    assert point.wanted == []


def walk(points: int, room: int) -> tuple[list[Message], list[int]]:
    """A request over `points` points in a row: the messages reported, and the sizes of the datagrams."""
    payload = message_to_xml(Message(request=REQUEST))
    reports: list[Message] = []
    sizes: list[int] = []
    upstream = REQUEST.source
    for number in range(2, points + 1):
        address = REQUEST.destination if number == points else f"10.0.1.{number}"
        decision = Point(address).knows(upstream, seed=number).takes(payload, room=room)
        match decision:
            case Forward(payload):
                sizes.append(len(payload))
            case HandOver(report, payload):
                reports.append(message_from_payload(report.payload))
                sizes.append(len(payload))
            case SendReport(report):
                reports.append(message_from_payload(report.payload))
            case _:
                raise AssertionError(decision)
        upstream = address
    return reports, sizes


def test_the_message_grows_plainly_then_compressed() -> None:
    reports, sizes = walk(12, ROOM)
    assert len(reports) == 1
    assert len(reports[0].records) == 11
    assert max(sizes) <= ROOM
    assert sizes.index(max(sizes)) < len(sizes) - 1, "compression made it smaller again"


def test_records_that_no_longer_fit_are_handed_over_and_none_is_missing() -> None:
    reports, sizes = walk(60, 544)
    assert max(sizes) <= 544
    assert len(reports) > 2
    assert [report.request.part for report in reports] == list(range(len(reports)))
    records = [record for report in reports for record in report.records]
    assert [record.current for record in records] == [f"10.0.1.{n}" for n in range(2, 60)] + [REQUEST.destination]
    assert [r.upstream for r in records] == [REQUEST.source, *(r.current for r in records[:-1])]


def test_a_message_without_room_for_one_record_passes_unchanged() -> None:
    decision = Point("10.0.0.2").knows("10.0.0.1").takes(Message(request=REQUEST), room=60)
    assert isinstance(decision, PassThrough)


@given(st.binary(max_size=400))
def test_any_octets_give_a_decision(data: bytes) -> None:
    assert isinstance(Point("10.0.0.2").takes(data), PassThrough)


def test_a_document_that_ends_in_a_comment_is_written_anew_and_extended() -> None:
    point = Point("10.0.0.2").knows("10.0.0.1")
    decision = point.takes(message_to_xml(Message(request=REQUEST)) + b"<!-- end -->")
    assert isinstance(decision, Forward)
    assert len(message_from_payload(decision.payload).records) == 1


AREA = Keyring((HmacKey(KeyIdentity(id="a1", areas=("",)), b"k" * 32),))


def signed(request: MeasureRequest = REQUEST) -> Message:
    return Message(request=signed_request(request, AREA))


def test_points_with_a_key_sign_what_they_add_and_check_what_came() -> None:
    first = Point("10.0.0.2", keyring=AREA).knows("10.0.0.1").takes(signed())
    assert isinstance(first, Forward)
    last = Point("10.0.0.200", keyring=AREA).knows("10.0.0.2").takes(first.payload)
    assert isinstance(last, SendReport)
    whole = message_from_payload(last.report.payload)
    assert set(record_standings(whole, AREA)) == {Standing.AUTHENTIC}


@pytest.mark.parametrize("place", [b"<ts>", b"<up>10.0.0.", b"<lt>"], ids=["a record", "a chain", "the request"])
def test_nothing_is_added_to_what_was_changed_on_the_way_and_nobody_is_probed(place: bytes) -> None:
    first = Point("10.0.0.2", keyring=AREA).knows("10.0.0.1").takes(signed())
    assert isinstance(first, Forward)
    at = first.payload.index(place) + len(place)
    tampered = first.payload[:at] + b"2" + first.payload[at + 1 :]
    point = Point("10.0.0.3", keyring=AREA).knows("10.0.0.2")
    assert isinstance(point.takes(tampered), PassThrough)
    assert point.asked == []


@pytest.mark.parametrize("is_required", [False, True])
def test_what_nobody_signed_is_extended_only_where_no_signature_is_required(is_required: bool) -> None:
    point = Point("10.0.0.2", keyring=AREA, is_required=is_required).knows("10.0.0.1")
    assert isinstance(point.takes(Message(request=REQUEST)), PassThrough if is_required else Forward)
    assert isinstance(point.takes(signed()), Forward)


def test_records_handed_over_are_chained_to_those_that_go_on() -> None:
    message: Message | bytes = signed()
    reports = []
    for number in range(2, 30):
        point = Point(f"10.0.0.{number}", keyring=AREA).knows(f"10.0.0.{number - 1}", seed=number)
        decision = point.takes(message, room=600)
        assert isinstance(decision, Forward | HandOver)
        if isinstance(decision, HandOver):
            reports.append(message_from_payload(decision.report.payload))
        message = decision.payload
    assert len(reports) >= 2
    for before, after in pairwise(reports):
        assert set(record_standings(after, AREA)) == {Standing.AUTHENTIC}
        tag = before.records[-1].tag
        assert tag is not None and after.request.previous_tag == tag.octets


def tail_of(*ends: str, newest_ms: int = NOW_MS) -> Tail:
    return tuple(
        TailSegment(current=current, segment=PreparedSegment.of(upstream, newest_ms, segment_statistics(1)))
        for upstream, current in pairwise(ends)
    )


def knowing_the_rest(*, newest_ms: int = NOW_MS) -> Point:
    point = Point("10.0.0.2").knows("10.0.0.1")
    point.tails.put(REQUEST.destination, tail_of("10.0.0.2", "10.0.0.3", "10.0.0.200", newest_ms=newest_ms))
    return point


def test_a_point_that_knows_the_rest_of_the_path_answers_at_once_and_says_who_told() -> None:
    decision = knowing_the_rest(newest_ms=NOW_MS - 900).takes(Message(request=replace(REQUEST, max_age_ms=1000)))
    assert isinstance(decision, SendReport)
    records = message_from_payload(decision.report.payload).records
    told = [(record.upstream, record.current, record.told_by, record.age_ms) for record in records]
    assert told == [
        ("10.0.0.1", "10.0.0.2", None, 0),
        ("10.0.0.2", "10.0.0.3", "10.0.0.2", 900),
        ("10.0.0.3", "10.0.0.200", "10.0.0.2", 900),
    ]


@pytest.mark.parametrize(
    ("request_changes", "age_ms"),
    [
        ({"max_age_ms": 0}, 0),
        ({"max_age_ms": 1000}, 1001),
        ({"max_age_ms": 1000, "destination": "10.0.0.201"}, 0),
        ({"max_age_ms": 1000, "return_id": "cd" * 16}, 0),
    ],
    ids=["the whole path is to be walked", "too old", "another destination", "a way back is wanted"],
)
def test_a_path_is_walked_where_an_answer_from_knowledge_will_not_do(
    request_changes: dict[str, Any], age_ms: int
) -> None:
    request = replace(REQUEST, **request_changes)
    point = knowing_the_rest(newest_ms=NOW_MS - age_ms)
    decision = point.pipeline.process(
        message_to_xml(Message(request=request)),
        source=request.source,
        destination=request.destination,
        now_ms=NOW_MS,
        room=ROOM,
    )
    assert isinstance(decision, Forward)


def test_a_path_with_a_point_that_has_told_already_is_walked() -> None:
    point = knowing_the_rest()
    point.tails.put(REQUEST.destination, tail_of("10.0.0.2", "10.0.0.7", "10.0.0.200"))
    request = replace(REQUEST, max_age_ms=1000)
    from_7 = Point("10.0.0.7").knows(REQUEST.source).takes(Message(request=request))
    assert isinstance(from_7, Forward)
    assert isinstance(point.takes(from_7.payload), Forward)


def test_a_metric_that_its_own_point_may_know_is_walked_for() -> None:
    request = replace(REQUEST, metrics=(*REQUEST.metrics, "icmp-rtt"), max_age_ms=1000)
    assert isinstance(knowing_the_rest().takes(Message(request=request)), Forward)


def test_a_path_is_asked_for_by_requests_that_would_take_an_answer_from_knowledge() -> None:
    point = Point("10.0.0.2")
    for changes in (
        {"max_age_ms": 0},
        {"max_age_ms": 1000, "return_id": "cd" * 16},
        {"max_age_ms": 1000, "hello": True},
    ):
        point.takes(Message(request=replace(REQUEST, **changes)))
    assert point.paths_asked == []
    point.takes(Message(request=replace(REQUEST, max_age_ms=1000)))
    assert point.paths_asked == [REQUEST.destination]


def relayed(
    point: Point,
    *,
    source: str = REQUEST.source,
    destination: str = "192.168.0.2",
    request: MeasureRequest = REQUEST,
) -> Decision:
    return point.pipeline.process(
        message_to_xml(Message(request=REQUEST)), source=source, destination=destination, now_ms=NOW_MS, room=ROOM
    )


def test_what_the_point_before_sent_to_this_one_is_extended_and_relayed_on() -> None:
    decision = relayed(Point("10.0.0.2").knows("10.0.0.1"))
    assert isinstance(decision, Forward)
    assert decision.relay_toward == REQUEST.destination
    assert [record.current for record in message_from_payload(decision.payload).records] == ["10.0.0.2"]


def test_the_last_point_reports_what_was_relayed_to_it_and_says_so() -> None:
    decision = relayed(Point("10.0.0.2", serves=("10.0.0.200/32",)).knows("10.0.0.1"))
    assert isinstance(decision, SendReport)
    assert decision.report.carrier is Carrier.RELAY


@pytest.mark.parametrize(
    ("source", "destination"),
    [("10.0.0.66", "10.0.0.2"), ("10.0.0.1", "10.0.0.77")],
    ids=["from somebody else", "to somebody else"],
)
def test_nothing_is_relayed_for_whom_the_message_does_not_name_last(source: str, destination: str) -> None:
    point = Point("10.0.0.2").knows("10.0.0.1")
    assert isinstance(relayed(point, source=source, destination=destination), PassThrough)
    assert point.asked == []
