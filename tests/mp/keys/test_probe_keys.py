from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from mp.keys import probe_keys
from mp.keys.probe_keys import STAMP_LABEL, ProbeKeys
from prober.stamp.authentication import StampKey
from schemas.keyring import NO_KEYS, HmacKey, KeyIdentity, Keyring, KeyState, MessageKey, SigningKey

AREAS = {"west": (IPv4Network("10.1.0.0/16"),), "east": (IPv4Network("10.2.0.0/16"),)}
WEST, EAST, NOWHERE = "10.1.0.1", "10.2.0.1", "192.0.2.1"


def shared(key_id: str, *areas: str, state: KeyState = KeyState.ACTIVE, created_at_ms: int = 0) -> HmacKey:
    identity = KeyIdentity(id=key_id, areas=areas, state=state, created_at_ms=created_at_ms)
    return HmacKey(identity, key_id.encode().ljust(32))


def ring(*keys: MessageKey, area: str = "west") -> Keyring:
    return Keyring(keys, area=area, areas=AREAS)


def key_toward(keys: ProbeKeys, address: str) -> StampKey:
    key = keys.toward(address)
    assert key is not None
    return key


def test_the_key_of_probes_is_made_from_that_of_messages_and_is_another() -> None:
    message_key = shared("w", "west")
    probe_key = key_toward(ProbeKeys(ring(message_key)), WEST)
    assert probe_key.tag(b"abc") == StampKey(message_key.derived(STAMP_LABEL)).tag(b"abc")
    assert probe_key.tag(b"abc") != message_key.tag(b"abc")


def test_each_area_has_the_key_that_it_shares_and_others_have_none() -> None:
    own, both = shared("w", "west"), shared("both", "west", "east")
    keys = ProbeKeys(ring(own, both))
    assert key_toward(keys, WEST).tag(b"") == StampKey(own.derived(STAMP_LABEL)).tag(b"")
    assert key_toward(keys, EAST).tag(b"") == StampKey(both.derived(STAMP_LABEL)).tag(b"")
    assert keys.toward(NOWHERE) is None
    assert ProbeKeys(ring(own)).toward(EAST) is None
    assert ProbeKeys(NO_KEYS).toward(WEST) is None


def test_two_areas_take_each_others_probes() -> None:
    both = shared("both", "west", "east")
    here = key_toward(ProbeKeys(ring(shared("w", "west"), both)), EAST)
    there = key_toward(ProbeKeys(ring(shared("e", "east"), both, area="east")), WEST)
    assert there.verifies(b"abc", here.tag(b"abc"))
    assert here.verifies(b"abc", there.tag(b"abc"))


def test_a_signature_makes_no_key_of_probes() -> None:
    pair = SigningKey(KeyIdentity(id="p", areas=("west",)), bytes(32))
    assert ProbeKeys(ring(pair)).toward(WEST) is None


def test_a_key_that_only_verifies_begins_no_authenticated_session() -> None:
    assert ProbeKeys(ring(shared("w", "west", state=KeyState.ACCEPTED))).toward(WEST) is None


def test_a_key_that_changes_is_the_same_object_with_other_secrets() -> None:
    old, new = shared("old", "west"), shared("new", "west", created_at_ms=1)
    keys = ProbeKeys(ring(old))
    session_key = key_toward(keys, WEST)
    before = session_key.tag(b"abc")
    keys.changed(ring(new, shared("old", "west", state=KeyState.ACCEPTED)))
    assert keys.toward(WEST) is session_key
    assert session_key.tag(b"abc") == StampKey(new.derived(STAMP_LABEL)).tag(b"abc")
    assert session_key.verifies(b"abc", before)
    keys.changed(ring(new))
    assert not session_key.verifies(b"abc", before)


def test_forged_addresses_take_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_keys, "MAX_ADDRESSES", 8)
    keys = ProbeKeys(ring(shared("w", "west")))
    key = key_toward(keys, WEST)
    for number in range(100):
        assert keys.toward(f"10.1.1.{number}") is key
        assert len(keys._by_address) <= 8
    assert keys.toward(WEST) is key


def test_the_first_and_the_last_key_change_the_mode() -> None:
    keys = ProbeKeys(ring())
    assert keys.toward(WEST) is None
    keys.changed(ring(shared("w", "west")))
    assert keys.toward(WEST) is not None
    keys.changed(ring())
    assert keys.toward(WEST) is None


def test_a_key_file_for_all_points_comes_before_those_of_areas() -> None:
    fixed = StampKey(bytes(32))
    keys = ProbeKeys(ring(shared("w", "west")), fixed)
    assert keys.toward(WEST) is keys.toward(NOWHERE) is fixed
    keys.changed(ring())
    assert keys.toward(WEST) is fixed
