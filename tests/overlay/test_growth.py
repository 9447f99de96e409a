"""A path longer than any of the Internet, every metric, every point signing: whole, whatever the links do."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interceptor.packet import decode_packet
from receiver.assembly import ReportAssembly
from receiver.composition import compose
from requestor.query import DEFAULT_METRICS
from schemas.authentication import Standing
from schemas.keyring import HmacKey, KeyIdentity, Keyring
from schemas.message import Message
from schemas.payload import message_from_payload
from schemas.result import ResultStatus
from tests.overlay.chain import ALL, Chain, Faults

POINTS = 64
KEYRING = Keyring([HmacKey(KeyIdentity(id="lab", areas=("",)), bytes(range(32)))])
ROUGH = Faults(
    loss_ratio=0.002, duplication_ratio=0.3, link_duplication_ratio=0.02, least_delay_ms=1, most_delay_ms=30
)


def long_chain(mtu_bytes: int, faults: Faults | None = None) -> Chain:
    return Chain(POINTS, mtu_bytes=mtu_bytes, faults=faults, seed=64, keyring=KEYRING, in_slices=True)


def assert_whole(chain: Chain) -> None:
    """The answer tells of each segment all that there is to tell, and all of it by its author."""
    assert chain.whole is not None, f"{chain.copies_sent} copies, {len(chain.reports)} reports, {chain.refused}"
    records = chain.whole.message.records
    assert [record.upstream for record in records] == chain.addresses[:-1]
    assert [record.current for record in records] == chain.addresses[1:]
    assert (chain.whole.standing, len(chain.whole.records)) == (Standing.AUTHENTIC, POINTS - 1)
    composition = compose(ALL, records, waited_ms=0, max_age_ms=60_000)
    assert composition.status is ResultStatus.COMPLETE
    truth = chain.true_composition().composed
    assert {name: replace(one, oldest_age_s=None) for name, one in composition.composed.items()} == {
        name: replace(one, oldest_age_s=None) for name, one in truth.items()
    }


@pytest.mark.parametrize("faults", [Faults(), ROUGH], ids=["good links", "links that lose and reorder"])
@pytest.mark.parametrize(("mtu_bytes", "slices"), [(1500, 2), (576, 4)])
def test_sixty_four_points_tell_every_metric_and_no_datagram_exceeds_the_mtu(
    mtu_bytes: int, slices: int, faults: Faults
) -> None:
    chain = long_chain(mtu_bytes, faults)
    assert len(chain.slices) == slices
    chain.ask()
    assert_whole(chain)
    assert max(map(len, chain.packets)) <= mtu_bytes
    asked = {message_from_payload(decode_packet(packet).payload).request.metrics for packet in chain.packets}
    assert asked == set(chain.slices)


@pytest.mark.parametrize("mtu_bytes", [1500, 576])
def test_without_faults_nothing_is_sent_twice_and_nothing_refused(mtu_bytes: int) -> None:
    chain = reports_of_a_long_answer(mtu_bytes)
    assert (chain.copies_sent, chain.refused) == (1, [])
    assert len(chain.packets) == (POINTS - 1) * len(chain.slices)
    for index in range(len(chain.slices)):
        parts = [(m.request.part, final) for m, final in chain.reports if m.request.slice_index == index]
        assert [part for part, _ in parts] == list(range(len(parts)))
        assert [final for _, final in parts] == [False] * (len(parts) - 1) + [True]


@cache
def reports_of_a_long_answer(mtu_bytes: int) -> Chain:
    chain = long_chain(mtu_bytes)
    chain.ask()
    assert_whole(chain)
    return chain


@given(st.data())
@settings(max_examples=4, deadline=None)
@pytest.mark.parametrize("mtu_bytes", [1500, 576])
def test_parts_of_all_slices_in_any_order_and_number_join_to_the_same_answer(
    mtu_bytes: int, data: st.DataObject
) -> None:
    chain = reports_of_a_long_answer(mtu_bytes)
    doubled = data.draw(st.lists(st.sampled_from(range(len(chain.reports))), max_size=20))
    arrivals = data.draw(st.permutations([*range(len(chain.reports)), *doubled]))
    assembly = ReportAssembly(keyring=KEYRING)
    missing = set(range(len(chain.reports)))
    for arrival in arrivals:
        message, final = chain.reports[arrival]
        missing.discard(arrival)
        whole = assembly.add(message, final=final, now_ns=0)
        assert whole == (None if missing else chain.whole)


def test_the_usual_question_over_sixty_four_points_is_one_slice_and_few_reports() -> None:
    chain = Chain(POINTS, metrics=DEFAULT_METRICS, keyring=KEYRING, in_slices=True)
    answer = chain.ask()
    assert answer is not None and len(answer.records) == POINTS - 1
    assert chain.slices == (DEFAULT_METRICS,)
    assert len(chain.packets) == POINTS - 1
    assert len(chain.reports) <= 9


def test_one_changed_figure_among_sixty_four_signed_records_is_known_to_the_receiver() -> None:
    chain = reports_of_a_long_answer(576)
    assembly = ReportAssembly(keyring=KEYRING)
    wholes = [assembly.add(_older(message), final=final, now_ns=0) for message, final in chain.reports]
    assert wholes[-1] is not None
    assert wholes[-1].standing is Standing.FORGED
    standings = dict(zip(chain.addresses[1:], wholes[-1].records, strict=True))
    assert standings[chain.addresses[30]] is Standing.FORGED
    assert standings[chain.addresses[1]] is Standing.AUTHENTIC


def _older(message: Message) -> Message:
    """The message with the age of point 30's record changed, where it is one of the first slice."""
    records = tuple(
        replace(record, age_ms=record.age_ms + 1)
        if message.request.slice_index == 0 and record.current == "10.0.0.31"
        else record
        for record in message.records
    )
    return replace(message, records=records)
