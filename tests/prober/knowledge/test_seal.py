from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.knowledge.seal import MAX_SEAL_BYTES, opened, seal
from schemas.authentication import Standing
from schemas.errors import MessageError
from schemas.keyring import NO_KEYS, HmacKey, KeyIdentity, Keyring, MessageKey, SigningKey

A = "192.0.2.1"
SECRET = HmacKey(KeyIdentity(id="area-2026.1", areas=("",)), b"s" * 32)
PAIR = SigningKey(KeyIdentity(id="a" * 16, areas=("",)), b"p" * 32)


@pytest.mark.parametrize("key", [SECRET, PAIR])
def test_what_is_sealed_is_known_to_be_its_authors(key: MessageKey) -> None:
    sealed = seal(b"for this", b"body", key)
    what = opened(b"for this", sealed, A, Keyring([key]))
    assert (what.body, what.standing) == (b"body", Standing.AUTHENTIC)
    assert len(seal(b"", b"", PAIR)) == MAX_SEAL_BYTES


def test_without_a_key_nothing_vouches_for_it() -> None:
    assert opened(b"", seal(b"", b"body", None), A, NO_KEYS).standing is Standing.UNSIGNED
    assert opened(b"", seal(b"", b"body", SECRET), A, NO_KEYS).standing is Standing.UNKNOWN_KEY


def test_a_tag_serves_one_purpose_and_one_body_alone() -> None:
    sealed = seal(b"advertisement", b"body", SECRET)
    ring = Keyring([SECRET])
    assert opened(b"datagram", sealed, A, ring).standing is Standing.FORGED
    assert opened(b"advertisement", sealed[:-1] + b"z", A, ring).standing is Standing.FORGED


def test_a_key_of_another_area_says_nothing() -> None:
    foreign = HmacKey(KeyIdentity(id="south", areas=("south",)), b"s" * 32)
    assert opened(b"", seal(b"", b"", foreign), A, Keyring([foreign])).standing is Standing.FORGED


@given(st.binary(max_size=100))
def test_any_octets_are_opened_or_refused(data: bytes) -> None:
    try:
        what = opened(b"", data, A, Keyring([SECRET]))
    except MessageError:
        return
    assert data.endswith(what.body)
    assert what.standing is not Standing.AUTHENTIC


@given(st.binary(max_size=40), st.integers(0, 200), st.integers(1, 255))
def test_a_changed_octet_is_noticed(body: bytes, at: int, change: int) -> None:
    sealed = bytearray(seal(b"", body, SECRET))
    sealed[at % len(sealed)] ^= change
    try:
        assert opened(b"", bytes(sealed), A, Keyring([SECRET])).standing is not Standing.AUTHENTIC
    except MessageError as error:
        assert str(error).startswith("seal: ")
