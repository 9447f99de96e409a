from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network

import pytest
from hypothesis import given, settings

from processor.trust import Trust
from schemas.authentication import (
    Standing,
    record_standings,
    request_standing,
    sealed,
    signed_request,
)
from schemas.errors import MessageError
from schemas.glance import glance_at
from schemas.keyring import HmacKey, KeyIdentity, Keyring, SigningKey
from schemas.message import MeasureRequest, Message, SegmentRecord, SegmentState
from schemas.xml_reader import message_from_xml
from schemas.xml_writer import END_TAG, message_to_xml, untagged_record
from tests.messages import messages
from tests.statistics import segment_statistics

AREAS = {"west": (IPv4Network("10.1.0.0/16"),), "east": (IPv4Network("10.2.0.0/16"),)}
WEST = HmacKey(KeyIdentity(id="w1", areas=("west",)), b"w" * 32)
EAST = HmacKey(KeyIdentity(id="e1", areas=("east",)), b"e" * 32)
SIGNATURE = SigningKey(KeyIdentity(id="s1", areas=("west",)), b"s" * 32)


def keyring(*keys: HmacKey | SigningKey) -> Keyring:
    return Keyring(keys, area="west", areas=AREAS)


def carried(message: Message, ring: Keyring) -> Message:
    """The message as honest points of one area would have made it: all tags are right."""
    request = replace(message.request, source="10.1.0.1", destination="10.1.0.99", previous_tag=None)
    if request.last_point is not None:
        request = replace(request, last_point="10.1.0.9")
    xml = message_to_xml(Message(request=signed_request(replace(request, tag=None), ring)))
    before = request.last_point or request.source
    for position, record in enumerate(message.records):
        own = replace(record, upstream=before, current=f"10.1.1.{position}", told_by=None, tag=None)
        xml = sealed(xml[: -len(END_TAG)] + untagged_record(own), ring.signer("10.1.0.1", "10.1.0.99"))
        before = own.current
    return message_from_xml(xml)


@pytest.mark.parametrize("key", [WEST, SIGNATURE], ids=["a shared secret", "a signature"])
@settings(max_examples=40)
@given(message=messages())
def test_what_honest_points_wrote_is_authentic_to_each_of_them(
    key: HmacKey | SigningKey, message: Message
) -> None:
    ring = keyring(key)
    whole = carried(message, ring)
    assert request_standing(whole.request, ring) is Standing.AUTHENTIC
    assert set(record_standings(whole, ring)) <= {Standing.AUTHENTIC}
    for count in range(len(whole.records) + 1):
        assert is_extended(replace(whole, records=whole.records[:count]), ring)


def is_extended(message: Message, ring: Keyring) -> bool:
    """Whether a point that wants tags adds its record to the message."""
    try:
        return Trust(ring, is_required=True).refusal(glance_at(message_to_xml(message))) is None
    except MessageError:
        return False


THREE = Message(
    request=MeasureRequest(
        source="10.1.0.1",
        destination="10.1.0.99",
        id="ab" * 16,
        metrics=("delay", "loss"),
        created_at_ms=1_700_000_000_000,
        lifetime_ms=5000,
        max_age_ms=0,
    ),
    records=tuple(
        SegmentRecord(
            upstream="10.1.0.1",
            current="10.1.0.2",
            state=SegmentState.MEASURED,
            recorded_at_ms=1_700_000_000_001,
            age_ms=30,
            metrics={name: segment_statistics(seed)[name] for name in ("delay", "loss")},
        )
        for seed in range(3)
    ),
)
RING = keyring(WEST)
CHAIN = carried(THREE, RING)
OTHER = carried(replace(THREE, request=replace(THREE.request, id="cd" * 16)), RING)


def changed(position: int, **fields: object) -> Callable[[tuple[SegmentRecord, ...]], tuple[SegmentRecord, ...]]:
    def change(records: tuple[SegmentRecord, ...]) -> tuple[SegmentRecord, ...]:
        return tuple(replace(one, **fields) if at == position else one for at, one in enumerate(records))  # type: ignore[arg-type]

    return change


@pytest.mark.parametrize(
    ("attack", "first_bad"),
    [
        (changed(0, recorded_at_ms=1), 0),
        (changed(1, age_ms=77), 1),
        (changed(2, unsupported=("loss",)), 2),
        (changed(1, told_by="10.1.0.7"), 1),
        (lambda records: records[1:], 0),
        (lambda records: (records[0], records[2]), 1),
        (lambda records: (records[0], records[0], *records[1:]), 1),
        (lambda records: (records[1], records[0], records[2]), 0),
        (lambda records: (records[0], OTHER.records[1], records[2]), 1),
        (lambda records: OTHER.records, 0),
    ],
    ids=[
        "a changed record",
        "a changed age",
        "changed metrics",
        "another author",
        "the first removed",
        "one removed in the middle",
        "one inserted",
        "two in another order",
        "one of another request",
        "all of another request",
    ],
)
def test_the_first_record_that_was_tampered_with_is_found(
    attack: Callable[[tuple[SegmentRecord, ...]], tuple[SegmentRecord, ...]], first_bad: int
) -> None:
    tampered = replace(CHAIN, records=attack(CHAIN.records))
    standings = record_standings(tampered, RING)
    assert standings[:first_bad] == (Standing.AUTHENTIC,) * first_bad
    assert standings[first_bad] is Standing.FORGED
    assert not is_extended(tampered, RING)


@pytest.mark.parametrize(
    "change",
    [{"id": "ef" * 16}, {"destination": "10.1.0.98"}, {"copy": 3}, {"max_age_ms": 1}, {"lifetime_ms": 1}],
    ids=lambda change: next(iter(change)),
)
def test_a_request_that_was_changed_is_forged_and_so_is_what_follows(change: dict[str, object]) -> None:
    tampered = replace(CHAIN, request=replace(CHAIN.request, **change))  # type: ignore[arg-type]
    assert request_standing(tampered.request, RING) is Standing.FORGED
    assert record_standings(tampered, RING)[0] is Standing.FORGED


def test_a_hand_over_leaves_the_tag_of_the_source_right() -> None:
    handed = replace(CHAIN.request, part=2, last_point="10.1.1.5", previous_tag=b"t" * 16)
    assert request_standing(handed, RING) is Standing.AUTHENTIC


def test_a_tag_of_a_key_that_is_not_held_here_is_neither_right_nor_wrong() -> None:
    stranger = keyring(EAST)
    assert set(record_standings(CHAIN, stranger)) == {Standing.UNKNOWN_KEY}
    assert request_standing(CHAIN.request, stranger) is Standing.UNKNOWN_KEY


def test_a_point_of_another_area_cannot_speak_for_this_one_with_its_own_key() -> None:
    both = Keyring((WEST, EAST), area="west", areas=AREAS)
    bare = replace(CHAIN.request, tag=None)
    only_east = Keyring((EAST,), area="east", areas=AREAS)
    forged = signed_request(replace(bare, destination="10.2.0.1", source="10.2.0.2"), only_east)
    assert request_standing(forged, both) is Standing.AUTHENTIC
    head = message_to_xml(Message(request=CHAIN.request))[: -len(END_TAG)]
    body = untagged_record(replace(CHAIN.records[0], tag=None))
    as_west = message_from_xml(sealed(head + body, EAST))
    assert record_standings(as_west, both) == (Standing.FORGED,)


def test_without_a_key_nothing_is_signed_and_all_is_told_so() -> None:
    bare = carried(THREE, keyring())
    assert bare.request.tag is None
    assert {request_standing(bare.request, RING), *record_standings(bare, RING)} == {Standing.UNSIGNED}


def test_a_tag_taken_away_is_seen_by_who_holds_the_key() -> None:
    stripped = replace(CHAIN, records=changed(1, tag=None)(CHAIN.records))
    assert record_standings(stripped, RING) == (Standing.AUTHENTIC, Standing.UNSIGNED, Standing.FORGED)


def test_a_request_is_signed_for_who_asked_also_on_the_way_back() -> None:
    request = MeasureRequest(
        source="10.2.0.1",
        destination="10.1.0.1",
        id="ab" * 16,
        metrics=("loss",),
        created_at_ms=1,
        lifetime_ms=1,
        max_age_ms=0,
        returning=True,
    )
    both = HmacKey(KeyIdentity(id="we", areas=("east", "west")), b"b" * 32)
    signed = signed_request(request, Keyring((both, EAST), area="east", areas=AREAS))
    assert signed.tag is not None
    assert signed.tag.key_id == "we"
