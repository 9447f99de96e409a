"""Who is believed: other areas, borders, keys, and those who replay, forge and guess."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

from prober.knowledge.advertisement import advertisement_from_bytes, advertisement_to_bytes
from prober.knowledge.datagram import Datagram, Item, Update, datagram_to_bytes
from prober.knowledge.exchange import ExchangeSettings
from prober.knowledge.flood import Outgoing
from prober.knowledge.seal import opened, seal
from prober.knowledge.tails import tail
from schemas.authentication import Standing
from schemas.keyring import NO_KEYS, HmacKey, KeyIdentity, Keyring
from tests.prober.knowledge.simulated import SimulatedNetwork, chain

A, B, C, D, E = (f"192.0.2.{number}" for number in range(1, 6))


def two_areas(keyrings: dict[str, Keyring] | None = None, *, is_required: bool = False) -> SimulatedNetwork:
    """A - B in the north, C - D - E in the south; B and C are borders of each other."""
    return SimulatedNetwork(
        chain(A, B, C, D, E),
        areas={A: "north", B: "north", C: "south", D: "south", E: "south"},
        borders={B: (C,), C: (B,)},
        settings=ExchangeSettings(is_required=is_required),
        keyring_of=lambda address: (keyrings or {}).get(address, NO_KEYS),
    )


def test_a_border_point_tells_the_path_through_the_other_area_and_who_measured_it() -> None:
    network = two_areas()
    network.seek([A], [E])
    network.points[B].sought.add(E)
    network.run(20_000)
    path = network.far_path(B, E)
    assert path is not None
    records = tail(path, metrics=("delay", "rtt"), max_age_ms=30_000, told_by=B, now_ms=network.wall_ms(B))
    assert records is not None
    assert [(one.upstream, one.current, one.told_by) for one in records] == [(B, C, B), (C, D, B), (D, E, B)]
    assert all(0 < one.age_ms < 20_000 for one in records)


def test_what_comes_over_a_border_goes_no_further() -> None:
    network = two_areas()
    network.seek(network.points, network.points)
    network.run(30_000)
    a, b = (network.points[one].exchange.database for one in (A, B))
    assert [held.origin for held in a.held("south")] == []
    assert [held.origin for held in b.held("south")] == [C, D, E]


def key(name: str, *areas: str) -> HmacKey:
    return HmacKey(KeyIdentity(id=name, areas=areas), name.encode().ljust(32, b"."))


def test_with_signatures_required_borders_vouch_for_what_their_area_signed() -> None:
    north, south, both = key("north", "north"), key("south", "south"), key("both", "north", "south")
    prefixes = {"north": networks(A, B), "south": networks(C, D, E)}
    keyrings = {
        A: Keyring([north], area="north", areas=prefixes),
        B: Keyring([north, both], area="north", areas=prefixes),
        C: Keyring([south, both], area="south", areas=prefixes),
        **{one: Keyring([south], area="south", areas=prefixes) for one in (D, E)},
    }
    network = two_areas(keyrings, is_required=True)
    network.points[B].sought.add(E)
    network.run(20_000)
    assert network.told(B, E) == [C, D, E]


def networks(*addresses: str) -> tuple[IPv4Network, ...]:
    return tuple(IPv4Network(f"{address}/32") for address in addresses)


SECRET = key("area", "")


def signed_chain() -> SimulatedNetwork:
    return SimulatedNetwork(
        chain(A, B, C), keyring_of=lambda _: Keyring([SECRET]), settings=ExchangeSettings(is_required=True)
    )


def test_replayed_datagrams_change_nothing_even_after_a_restart() -> None:
    network = signed_chain()
    network.seek(network.points, network.points)
    network.run(20_000)
    recorded = list(network.traffic)
    network.stop(C)
    network.run(65_000)
    for restarted in (False, True):
        if restarted:
            network.restart(B)
            network.run(3_000)
        before = network.counted("heard-new")
        for source, to, data in recorded:
            network.inject(data, source, to)
        network.run(1)
        assert network.counted("heard-new") == before
        assert network.told(A, C) is None


def test_a_forged_advertisement_is_refused_by_its_seal_whoever_hands_it_on() -> None:
    network = signed_chain()
    network.seek(network.points, network.points)
    network.run(10_000)
    stored = network.points[A].exchange.database.stored(C, 0)
    assert stored is not None
    real = advertisement_from_bytes(opened(b"", stored.sealed, C, NO_KEYS).body)
    lie = advertisement_to_bytes(replace(real, sequence=real.sequence + 1, segments=()))
    wrong = key("area", "")
    wrong._secret = b"x" * 32
    for sealed in (
        seal(b"inpath knowledge: advertisement\0", lie, wrong),
        seal(b"inpath knowledge: advertisement\0", lie, None),
        stored.sealed[: -len(lie)] + lie,
    ):
        hand_on(network, sealed)
    assert network.told(A, C) == [B, C]
    assert network.points[A].exchange.counters["refused-forged"] == 2
    assert network.points[A].exchange.counters["refused-unsigned"] == 1


def hand_on(network: SimulatedNetwork, sealed: bytes) -> None:
    """B itself gives A an item, in a genuine datagram."""
    session = network.points[B].exchange._flood.session(A)
    assert session is not None
    datagram = session.wrap(Update((Item(0, sealed),)))
    data, _ = network.points[B].exchange._sealed(Outgoing(A, datagram))
    network.inject(data, B, A)
    network.run(1_500)


def test_who_signs_believes_nobody_who_does_not() -> None:
    network = SimulatedNetwork(
        chain(A, B, C), keyring_of=lambda address: Keyring([SECRET]) if address != C else NO_KEYS
    )
    network.seek(network.points, network.points)
    network.run(10_000)
    assert network.told(A, B) == [B]
    assert network.told(B, C) is None
    assert network.told(C, B) is None
    assert network.points[A].exchange.standing is Standing.AUTHENTIC
    assert network.points[C].exchange.standing is Standing.UNSIGNED


def test_a_forged_datagram_is_refused() -> None:
    network = signed_chain()
    network.run(5_000)
    source, to, data = next(one for one in reversed(network.traffic) if one[1] == A)
    before = network.points[A].exchange.counters["refused-forged"]
    network.inject(data[:-1] + bytes([data[-1] ^ 1]), source, to)
    assert network.points[A].exchange.counters["refused-forged"] == before + 1
    network.inject(data, C, A)
    assert network.points[A].exchange.counters["refused-stranger"] == 1


def test_who_cannot_see_the_traffic_cannot_get_a_word_in_even_without_keys() -> None:
    network = SimulatedNetwork(chain(A, B, C))
    network.seek(network.points, network.points)
    network.run(10_000)
    stored = network.points[A].exchange.database.stored(C, 0)
    assert stored is not None
    real = advertisement_from_bytes(opened(b"", stored.sealed, C, NO_KEYS).body)
    sealed = seal(b"", advertisement_to_bytes(replace(real, sequence=real.sequence + 1, segments=())), None)
    guess = Datagram(instance=5, to_instance=7, counter=1 << 60, content=Update((Item(0, sealed),)))
    sent_before = len(network.traffic)
    network.inject(seal(b"", datagram_to_bytes(guess), None), B, A)
    network.inject(seal(b"", datagram_to_bytes(guess), None), B, A)
    network.run(5)
    assert network.told(A, C) == [B, C]
    answers = [data for source, _, data in network.traffic[sent_before:] if source == A]
    assert len(answers) <= 1, "and cannot make a point send much"
    network.run(30_000)
    assert [network.told(A, C), network.told(C, A)] == [[B, C], [B, A]]
