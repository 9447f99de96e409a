from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from prober.challenge import (
    AUTHENTICATED_CHALLENGES,
    CHALLENGES,
    FIRST_GAP_NS,
    MAX_ASKED,
    MAX_REMEMBERED,
    PROVEN_NS,
    RATE_PER_S,
    SILENCE_NS,
    Challenges,
)
from prober.stamp.authentication import StampKey, sole_key
from prober.stamp.packet import ReflectorPacket, SenderPacket, probe_ssid
from prober.stamp.session import Probe
from prober.timestamp import ErrorEstimate

S = 1_000_000_000
NOW_NS = 1_700_000_000 * S
PEER, OTHER = "192.0.2.7", "192.0.2.8"
ERROR = ErrorEstimate.of(1000, synchronized=True)
KEY = StampKey(bytes(range(32)))
HEADERS_BYTES = 28


def challenges(key: StampKey | None = None) -> Challenges:
    return Challenges(random_source=random.Random(7), key_of=sole_key(key))


def reply_to(probe: Probe, key: StampKey | None = None) -> ReflectorPacket:
    """What a reflector sends that does nothing but its duty."""
    sent = SenderPacket.from_bytes(probe.data, key)
    return ReflectorPacket(
        sequence=0,
        timestamp=sent.timestamp + 5,
        error=ERROR,
        received=sent.timestamp + 4,
        sender_sequence=sent.sequence,
        sender_timestamp=sent.timestamp,
        sender_error=sent.error,
        sender_ttl=255,
        ssid=sent.ssid,
    )


def sent_within(asking: Challenges, until_ns: int, step_ns: int = S // 10) -> list[tuple[int, Probe]]:
    """All challenges, with their times."""
    return [(at_ns, probe) for at_ns in range(NOW_NS, until_ns, step_ns) for probe in asking.due(at_ns, ERROR)]


@pytest.mark.parametrize("key", [None, KEY])
def test_who_received_a_challenge_proves_it_by_its_reply(key: StampKey | None) -> None:
    asking = challenges(key)
    asking.ask(PEER, NOW_NS)
    assert asking.next_wakeup_ns() == NOW_NS
    (probe,) = asking.due(NOW_NS, ERROR)
    assert probe.peer == PEER and probe_ssid(probe.data, key)
    assert not asking.is_proven(PEER, NOW_NS)
    assert asking.answered(PEER, reply_to(probe, key).to_bytes(key), NOW_NS + 1)
    assert asking.is_proven(PEER, NOW_NS + PROVEN_NS)
    assert not asking.is_proven(PEER, NOW_NS + PROVEN_NS + 2)
    assert asking.next_wakeup_ns() is None
    assert sent_within(asking, NOW_NS + 30 * S) == []


def test_a_guess_an_old_reply_one_from_elsewhere_and_rubbish_prove_nothing() -> None:
    asking = challenges()
    asking.ask(PEER, NOW_NS)
    assert not asking.answered(PEER, bytes(44), NOW_NS)  # before any was sent
    (first,) = asking.due(NOW_NS, ERROR)
    (second,) = asking.due(NOW_NS + FIRST_GAP_NS, ERROR)
    right = reply_to(second)
    wrong = [
        reply_to(first),
        replace(right, sender_sequence=right.sender_sequence ^ 1),
        replace(right, sender_timestamp=right.sender_timestamp ^ 1),
    ]
    for reply in wrong:
        assert not asking.answered(PEER, reply.to_bytes(), NOW_NS + 2 * S)
    assert not asking.answered(OTHER, right.to_bytes(), NOW_NS + 2 * S)
    assert not asking.answered(PEER, b"", NOW_NS + 2 * S)
    assert not asking.answered(PEER, second.data, NOW_NS + 2 * S)
    assert asking.answered(PEER, right.to_bytes(), NOW_NS + 2 * S)
    assert not asking.answered(PEER, right.to_bytes(), NOW_NS + 2 * S)


def test_with_a_key_only_its_owner_proves_anything() -> None:
    asking = challenges(KEY)
    asking.ask(PEER, NOW_NS)
    (probe,) = asking.due(NOW_NS, ERROR)
    reply = reply_to(probe, KEY)
    assert not asking.answered(PEER, reply.to_bytes(), NOW_NS)
    assert not asking.answered(PEER, reply.to_bytes(StampKey(bytes(32))), NOW_NS)


def test_who_stays_silent_is_asked_a_few_times_ever_more_rarely_and_then_left_alone() -> None:
    asking = challenges()
    asking.ask(PEER, NOW_NS)
    times = [(at_ns - NOW_NS) / S for at_ns, _ in sent_within(asking, NOW_NS + 40 * S)]
    assert times == pytest.approx([0, 1, 3])
    given_up_ns = NOW_NS + 7 * S
    asking.ask(PEER, given_up_ns + SILENCE_NS - S)
    assert asking.due(given_up_ns + SILENCE_NS - S, ERROR) == []
    asking.ask(PEER, given_up_ns + SILENCE_NS + S)
    assert len(asking.due(given_up_ns + SILENCE_NS + S, ERROR)) == 1


@pytest.mark.parametrize("after_s", [0.5, 30])
def test_who_was_silent_and_then_comes_is_asked_anew(after_s: float) -> None:
    asking, now_ns = challenges(KEY), NOW_NS + round(after_s * S)
    asking.ask(PEER, NOW_NS)
    sent_within(asking, now_ns)
    asking.came(PEER, now_ns)
    asking.ask(PEER, now_ns)
    (probe,) = asking.due(now_ns, ERROR)
    assert asking.answered(PEER, reply_to(probe, KEY).to_bytes(KEY), now_ns)
    assert asking.is_proven(PEER, now_ns)


def test_one_forged_request_again_and_again_brings_its_victim_a_few_octets_a_second() -> None:
    asking, seconds, octets = challenges(), 300, 0
    for at_ns in range(NOW_NS, NOW_NS + seconds * S, S // 4):
        asking.ask(PEER, at_ns)
        octets += sum(HEADERS_BYTES + len(probe.data) for probe in asking.due(at_ns, ERROR))
    assert octets / seconds < 4


def test_requests_that_name_everybody_bring_all_together_no_more_than_the_rate() -> None:
    asking, seconds, sent = challenges(), 12, 0
    for number in range(seconds * 1000):
        at_ns = NOW_NS + number * S // 1000
        asking.ask(str(IPv4Address("198.18.0.0") + number), at_ns)
        sent += len(asking.due(at_ns, ERROR))
        assert len(asking) <= MAX_ASKED + 2 * MAX_REMEMBERED
    assert RATE_PER_S * seconds * 0.9 < sent <= RATE_PER_S * (seconds + 1)


def test_what_is_remembered_of_addresses_is_bounded() -> None:
    asking = challenges()
    for number in range(3 * MAX_REMEMBERED):
        peer, at_ns = str(IPv4Address("198.18.0.0") + number), NOW_NS + number * S // RATE_PER_S
        asking.ask(peer, at_ns)
        for probe in asking.due(at_ns, ERROR):
            assert asking.answered(probe.peer, reply_to(probe).to_bytes(), at_ns)
    assert len(asking) == MAX_REMEMBERED


def test_a_new_address_gets_its_turn_when_those_before_had_their_time() -> None:
    asking = challenges()
    for number in range(MAX_ASKED):
        asking.ask(str(IPv4Address("198.18.0.0") + number), NOW_NS)
    asking.ask(PEER, NOW_NS)
    assert PEER not in {probe.peer for _, probe in sent_within(asking, NOW_NS + S)}
    asking.ask(PEER, NOW_NS + 2 * S)
    assert PEER in {probe.peer for at_ns in range(2, 8) for probe in asking.due(NOW_NS + at_ns * S, ERROR)}


def test_who_answers_no_more_must_prove_itself_again() -> None:
    asking = challenges()
    asking.ask(PEER, NOW_NS)
    (probe,) = asking.due(NOW_NS, ERROR)
    assert asking.answered(PEER, reply_to(probe).to_bytes(), NOW_NS)
    asking.forget(PEER)
    assert not asking.is_proven(PEER, NOW_NS)
    asking.ask(PEER, NOW_NS)
    assert len(asking.due(NOW_NS, ERROR)) == 1


@pytest.mark.parametrize("step_ns", [3600 * S, -3600 * S])
def test_a_step_of_the_clock_changes_no_waiting_time(step_ns: int) -> None:
    asking = challenges()
    asking.ask(PEER, NOW_NS)
    asking.due(NOW_NS, ERROR)
    asking.clock_stepped(step_ns)
    assert asking.next_wakeup_ns() == NOW_NS + step_ns + FIRST_GAP_NS
    assert asking.due(NOW_NS + step_ns + FIRST_GAP_NS - 1, ERROR) == []
    (probe,) = asking.due(NOW_NS + step_ns + FIRST_GAP_NS, ERROR)
    assert asking.answered(PEER, reply_to(probe).to_bytes(), NOW_NS + step_ns + FIRST_GAP_NS)
    asking.clock_stepped(-step_ns)
    assert asking.is_proven(PEER, NOW_NS + FIRST_GAP_NS)


def test_the_numbers_of_challenges_are_not_to_be_guessed() -> None:
    asking = challenges()
    for number in range(CHALLENGES):
        asking.ask(str(IPv4Address(PEER) + number), NOW_NS)
    numbers = [SenderPacket.from_bytes(probe.data).sequence for probe in asking.due(NOW_NS, ERROR)]
    assert len(set(numbers)) == CHALLENGES and max(numbers) > 1 << 24


def test_challenges_with_a_key_are_larger_and_fewer() -> None:
    asking = challenges(KEY)
    asking.ask(PEER, NOW_NS)
    sent = [probe for second in range(60) for probe in asking.due(NOW_NS + second * 10**9, ERROR)]
    assert len(sent) == AUTHENTICATED_CHALLENGES
    for number in range(100):
        asking.ask(f"10.9.0.{number}", NOW_NS)
    assert len(asking.due(NOW_NS + 61 * 10**9, ERROR)) == RATE_PER_S // 2
    wakeup_ns = asking.next_wakeup_ns()
    assert wakeup_ns is not None and wakeup_ns >= NOW_NS + 61 * 10**9 + 10**8, "no earlier than the next can go"
