from __future__ import annotations

import pytest

from prober.stamp.session_tally import ReflectorKind, SessionTally


def tally(fates: str, *, stateless: bool = False, first: int = 0) -> SessionTally:
    """A session; each probe is (a)nswered, lost (t)here, or its reply lost (b)ack."""
    made, number = SessionTally(), first
    for probe, fate in enumerate(fates):
        made.probe_sent(extended=True)
        if fate == "a":
            reply = probe if stateless else number
            made.probe_answered(extended=True)
            made.reply_numbered(reply, like_probe=reply == probe)
        number += fate in "ab"
    return made


def kind(told: SessionTally) -> ReflectorKind:
    return told.reflector


@pytest.mark.parametrize(
    ("fates", "there", "back"),
    [("aaaaaa", 0, 0), ("ataaba", 1, 1), ("taaaaa", 1, 0), ("attabba", 2, 2), ("aatbtbaa", 2, 2)],
)
def test_a_stateful_reflector_tells_the_losses_of_both_directions(fates: str, there: int, back: int) -> None:
    told = tally(fates)
    assert (told.sent, told.answered) == (len(fates), fates.count("a"))
    assert (told.lost_there, told.lost_back) == (there, back)


def test_a_stateless_reflector_tells_the_loss_of_the_round_trip_alone() -> None:
    told = tally("atabaa", stateless=True)
    assert (told.sent, told.answered, told.lost_there, told.lost_back) == (6, 4, None, None)
    assert kind(told) is ReflectorKind.UNKNOWN
    told.followed_up(told=False)
    assert kind(told) is ReflectorKind.STATELESS


def test_without_a_loss_either_kind_tells_that_there_was_none() -> None:
    told = tally("aaaa", stateless=True)
    assert (told.lost_there, told.lost_back) == (0, 0)
    assert kind(told) is ReflectorKind.UNKNOWN


def test_a_follow_up_shows_a_counter_although_it_runs_like_the_probes() -> None:
    told = tally("aabba")
    assert kind(told) is ReflectorKind.UNKNOWN
    told.followed_up(told=True)
    told.followed_up(told=False)
    assert kind(told) is ReflectorKind.STATEFUL
    assert (told.lost_there, told.lost_back) == (0, 2)


def test_a_counter_that_does_not_begin_at_zero_is_taken_from_its_first_reply() -> None:
    told = tally("aatabaa", first=90_000)
    assert kind(told) is ReflectorKind.STATEFUL
    assert (told.lost_there, told.lost_back) == (1, 1)


def test_probes_that_the_peer_drops_for_their_extensions_are_not_counted() -> None:
    told = SessionTally()
    for probe in range(20):
        told.probe_sent(extended=probe % 2 == 0)
        if probe % 2:
            told.probe_answered(extended=False)
            told.reply_numbered(probe // 2, like_probe=False)
    assert (told.sent, told.answered, told.lost_there, told.lost_back) == (10, 10, 0, 0)


def test_a_peer_that_answers_nothing_has_lost_all() -> None:
    told = tally("tttt")
    assert (told.sent, told.answered, told.lost_there, told.lost_back) == (4, 0, None, None)
