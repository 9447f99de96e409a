"""Forged messages name anybody; probes go to those alone who answered."""

from __future__ import annotations

import random

import pytest

from prober.challenge import RATE_PER_S, Challenges
from prober.prober import NEWCOMERS_PER_S, Prober
from prober.segment import Role
from prober.stamp.datagram import Datagram
from prober.stamp.packet import probe_ssid
from prober.stamp.session import Probe
from schemas.errors import UsageError
from tests.prober.simulated import CLOCK, MS, START_NS, S

OWN, POINT, VICTIM = "10.0.0.2", "10.0.0.1", "203.0.113.9"


def prober(address: str = OWN) -> Prober:
    return Prober(
        address, random_source=random.Random(3), clock=CLOCK, challenges=Challenges(random_source=random.Random(5))
    )


def delivered(probe_or_reply: bytes, address: str, at_ns: int) -> Datagram:
    return Datagram(
        data=probe_or_reply, address=address, port=40_000, ttl=255, tos=0, received_at_ns=at_ns, user_stamped=False
    )


def live(
    asking: Prober, seconds: int, *, answering: Prober | None = None, after_ns: int = START_NS
) -> list[Probe]:
    """All probes that are sent meanwhile; those to POINT reach the one that answers."""
    sent = []
    for at_ns in range(after_ns, after_ns + seconds * S, 20 * MS):
        for probe in asking.due(at_ns):
            sent.append(probe)
            if answering and probe.peer == answering.address:
                reply = answering.probe_received(delivered(probe.data, OWN, at_ns + MS), at_ns + MS)
                assert reply is not None
                asking.reply_received(delivered(reply.data, POINT, at_ns + 2 * MS))
    return sent


def test_a_point_that_answers_is_measured_right_after_its_challenge() -> None:
    asking, point = prober(), prober(POINT)
    asking.want(POINT, START_NS)
    assert asking.next_wakeup_ns() == START_NS
    assert asking.segments(START_NS) == ()
    sent = live(asking, 4, answering=point)
    assert [bool(probe_ssid(probe.data, None)) for probe in sent[:2]] == [True, False]
    assert len(sent) > 20
    assert [one.peer for one in asking.segments(START_NS + 4 * S)] == [POINT]
    assert asking.is_neighbor(POINT)


def test_a_victim_that_messages_name_gets_a_few_challenges_and_no_session() -> None:
    asking = prober()
    for second in range(120):
        asking.want(VICTIM, START_NS + second * S)
        asking.meet(VICTIM, START_NS + second * S)
        sent = live(asking, 1, after_ns=START_NS + second * S)
        assert all(probe_ssid(probe.data, None) for probe in sent)
        assert asking.segments(START_NS + second * S) == ()


def test_messages_that_name_everybody_fill_no_table_and_displace_no_neighbor() -> None:
    asking, point = prober(), prober(POINT)
    asking.want(POINT, START_NS)
    live(asking, 2, answering=point)
    now_ns, challenges = START_NS + 2 * S, 0
    for number in range(2000):
        asking.want(f"198.18.{number // 250}.{1 + number % 250}", now_ns + number * MS)
        challenges += sum(bool(probe_ssid(probe.data, None)) for probe in asking.due(now_ns + number * MS))
    assert [one.peer for one in asking.segments(now_ns)] == [POINT]
    assert challenges <= 3 * RATE_PER_S


def test_a_configured_neighbor_needs_no_challenge() -> None:
    asking = prober(POINT)
    asking.want(OWN, START_NS, configured=True)
    sent = live(asking, 2)
    assert sent and not any(probe_ssid(probe.data, None) for probe in sent)


@pytest.mark.parametrize("address", [OWN, "224.0.0.5", "255.255.255.255", "0.1.2.3", "nobody"])
def test_what_can_be_no_other_point_is_not_even_asked(address: str) -> None:
    asking = prober()
    with pytest.raises(UsageError):
        asking.want(address, START_NS)
    assert live(asking, 1) == []


def test_a_neighbor_that_was_merely_heard_is_challenged_before_it_is_probed() -> None:
    asking, heard = prober(), prober(POINT)
    heard.want(OWN, START_NS, configured=True)
    for at_ns in range(START_NS, START_NS + 5 * S, 20 * MS):
        for probe in heard.due(at_ns):
            asking.probe_received(delivered(probe.data, POINT, at_ns), at_ns)
    asking.want(POINT, START_NS + 5 * S)
    sent = asking.due(START_NS + 5 * S)
    assert [bool(probe_ssid(probe.data, None)) for probe in sent] == [True]


def test_a_point_that_starts_after_it_was_challenged_in_vain_is_challenged_when_it_is_heard() -> None:
    asking, late = prober(), prober(POINT)
    asking.want(POINT, START_NS)
    live(asking, 8)
    now_ns = START_NS + 8 * S
    late.want(OWN, now_ns, configured=True)
    for at_ns in range(now_ns, now_ns + S, 20 * MS):
        for probe in late.due(at_ns):
            asking.probe_received(delivered(probe.data, POINT, at_ns), at_ns)
    asking.want(POINT, now_ns + S)
    sent = live(asking, 1, answering=late, after_ns=now_ns + S)
    assert [bool(probe_ssid(probe.data, None)) for probe in sent] == [True]
    neighbor = asking.segment(POINT)
    assert neighbor is not None
    live(asking, 4, answering=late, after_ns=now_ns + 2 * S)
    assert neighbor.role is Role.SENDER


def test_forged_probes_begin_few_segments_and_a_point_is_noticed_all_the_same() -> None:
    asking, point = prober(), prober(POINT)
    point.want(OWN, START_NS, configured=True)
    genuine = [
        (at_ns, probe) for at_ns in range(START_NS, START_NS + 20 * S, 20 * MS) for probe in point.due(at_ns)
    ]
    forged = genuine[0][1].data
    in_the_first_second, chance = 0, random.Random(1)
    for number in range(20_000):
        now_ns = START_NS + number * MS
        while genuine and genuine[0][0] <= now_ns:
            asking.probe_received(delivered(genuine.pop(0)[1].data, POINT, now_ns), now_ns)
        if chance.random() < 0.5:
            asking.probe_received(delivered(forged, f"198.18.{number // 250}.{1 + number % 250}", now_ns), now_ns)
        if number == 1000:
            in_the_first_second = len(asking.segments(now_ns))
    assert 1 < in_the_first_second <= 2 * NEWCOMERS_PER_S + 1
    heard = {one.peer for one in asking.segments(START_NS + 20 * S)}
    assert POINT in heard
