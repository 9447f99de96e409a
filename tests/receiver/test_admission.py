from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from receiver.admission import MAX_PEERS, Admission, AdmissionLimits

LIMITS = AdmissionLimits(
    connections=4, connections_per_peer=3, peer_octets_per_s=1000, octets_per_s=2000, burst_s=2
)


def opened(*peers: str) -> Admission:
    admission = Admission(LIMITS)
    for peer in peers:
        admission.opened(peer)
    return admission


def test_a_peer_has_no_more_than_its_connections() -> None:
    assert opened("a", "a").refusal("a") is None
    assert opened("a", "a", "a").refusal("a") == "3 of that address are open"


def test_when_all_are_taken_who_has_most_gives_way() -> None:
    full = opened("a", "a", "a", "b")
    assert (full.refusal("c"), full.greediest("c")) == (None, "a")
    assert full.greediest("b") == "a"


def test_nobody_gives_way_to_a_peer_that_would_then_have_as_many() -> None:
    full = opened("a", "a", "b", "b")
    assert full.greediest("a") is None
    assert full.refusal("a") == "4 are open"
    full = opened("a", "b", "c", "d")
    assert full.refusal("e") == "4 are open"


def test_a_closed_connection_is_a_free_place_again() -> None:
    full = opened("a", "b", "c", "d")
    full.closed("a")
    assert (len(full), full.refusal("e")) == (3, None)


def test_what_comes_within_the_burst_is_not_slowed_down() -> None:
    admission = Admission(LIMITS)
    assert admission.wait_s("a", 2000, 100.0) == 0
    assert admission.wait_s("a", 500, 100.0) == 0.5
    assert admission.wait_s("a", 500, 101.0) == 0


def test_many_peers_share_what_is_taken_in_all() -> None:
    admission = Admission(LIMITS)
    assert [admission.wait_s(peer, 2000, 100.0) for peer in "abc"] == [0, 0, 1.0]


def test_a_new_connection_does_not_make_a_peer_faster() -> None:
    admission = Admission(LIMITS)
    admission.opened("a")
    admission.wait_s("a", 4000, 100.0)
    admission.closed("a")
    admission.opened("a")
    assert admission.wait_s("a", 0, 100.0) == 2.0


def test_the_paces_of_no_more_peers_than_that_are_remembered() -> None:
    admission = Admission(LIMITS)
    for number in range(MAX_PEERS + 10):
        admission.wait_s(str(number), 1, 100.0)
    assert len(admission._paces) == MAX_PEERS


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 5000)), min_size=1, max_size=50))
def test_who_waits_as_told_never_passes_the_rate(sent: list[tuple[float, int]]) -> None:
    admission, now_s, octets = Admission(LIMITS), 1000.0, 0
    for pause_s, size in sent:
        now_s += pause_s
        octets += size
        now_s += admission.wait_s("a", size, now_s)
        assert octets <= LIMITS.peer_octets_per_s * (now_s - 1000.0 + LIMITS.burst_s) + 1e-6
