from __future__ import annotations

import hashlib
import hmac
import subprocess
import sys
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import UsageError
from schemas.keyring import (
    KEY_ID,
    NO_KEYS,
    HmacKey,
    KeyIdentity,
    Keyring,
    KeyState,
    MessageKey,
    SigningKey,
    VerifyingKey,
)

SECRET = bytes(range(32))
# RFC 8032 section 7.1, test 2.
PRIVATE = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
AREAS = {
    "west": (IPv4Network("10.1.0.0/16"),),
    "east": (IPv4Network("10.2.0.0/16"), IPv4Network("10.1.7.0/24")),
    "north": (IPv4Network("10.3.0.0/16"),),
}
WEST, EAST, NORTH, NOWHERE = "10.1.0.1", "10.2.0.1", "10.3.0.1", "192.0.2.1"
EAST_INSIDE_WEST = "10.1.7.9"


def shared(
    key_id: str, *areas: str, state: KeyState = KeyState.ACTIVE, created_at_ms: int = 0, secret: bytes = SECRET
) -> HmacKey:
    return HmacKey(KeyIdentity(id=key_id, areas=areas, state=state, created_at_ms=created_at_ms), secret)


def pair(key_id: str, *areas: str, state: KeyState = KeyState.ACTIVE, created_at_ms: int = 0) -> SigningKey:
    return SigningKey(KeyIdentity(id=key_id, areas=areas, state=state, created_at_ms=created_at_ms), PRIVATE)


def public(key_id: str, *areas: str) -> VerifyingKey:
    return VerifyingKey(KeyIdentity(id=key_id, areas=areas), PUBLIC)


def ring(*keys: MessageKey, area: str = "west") -> Keyring:
    return Keyring(keys, area=area, areas=AREAS)


def signer_id(keyring: Keyring, asker: str, destination: str) -> str | None:
    key = keyring.signer(asker, destination)
    return None if key is None else key.id


def test_a_shared_key_tags_with_the_first_half_of_hmac_sha_256() -> None:
    key = shared("w", "west")
    assert key.tag(b"abc") == hmac.new(SECRET, b"abc", hashlib.sha256).digest()[:16]


def test_a_pair_signs_as_rfc_8032_does() -> None:
    assert pair("w", "west").tag(b"\x72") == SIGNATURE
    assert pair("w", "west").public_bytes() == PUBLIC
    assert public("w", "west").verifies(b"\x72", SIGNATURE)


@pytest.mark.parametrize("key", [shared("w", "west"), pair("w", "west")])
@given(data=st.binary(max_size=200), other=st.binary(max_size=200), place=st.integers(0, 15))
def test_a_tag_is_right_for_its_data_alone(
    key: HmacKey | SigningKey, data: bytes, other: bytes, place: int
) -> None:
    tag = key.tag(data)
    assert key.verifies(data, tag)
    assert key.verifies(other, tag) is (other == data)
    changed = bytearray(tag)
    changed[place] ^= 1
    assert not key.verifies(data, bytes(changed))


@pytest.mark.parametrize("key", [shared("w", "west"), pair("w", "west"), public("w", "west")])
@pytest.mark.parametrize("tag", [b"", b"x", bytes(15), bytes(16), bytes(17), bytes(63), bytes(64), bytes(65)])
def test_a_tag_of_another_kind_or_length_is_wrong_and_no_error(key: MessageKey, tag: bytes) -> None:
    assert key.verifies(b"abc", tag) is False


def test_a_public_half_cannot_sign() -> None:
    with pytest.raises(UsageError, match="expected one whose private half is here"):
        public("w", "west").tag(b"abc")
    assert not public("w", "west").can_sign


@pytest.mark.parametrize("make", [HmacKey, SigningKey, VerifyingKey])
@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_another_length_is_refused_and_not_repeated(
    make: type[HmacKey | VerifyingKey], length: int
) -> None:
    with pytest.raises(UsageError, match=f"key w: got '{length} octets', expected 32 octets"):
        make(KeyIdentity(id="w", areas=("west",)), b"s" * length)


def test_a_derived_secret_is_that_of_hkdf_and_depends_on_its_label() -> None:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    derived = shared("w", "west").derived(b"label")
    assert derived == HKDF(SHA256(), 32, None, b"label").derive(SECRET)
    assert derived != shared("w", "west").derived(b"other")


def test_no_secret_is_in_what_is_printed() -> None:
    for key in (shared("w", "west"), pair("w", "west")):
        for text in (repr(key), str(key), f"{key}", repr(ring(key)), repr(key.identity)):
            assert "w" in text
            for secret in (SECRET, PRIVATE):
                assert secret.hex() not in text
                assert repr(secret)[2:-1] not in text


def test_the_longest_prefix_says_whose_an_address_is() -> None:
    keyring = ring()
    assert [keyring.area_of(one) for one in (WEST, EAST, EAST_INSIDE_WEST, NORTH, NOWHERE)] == [
        *("west", "east", "east", "north", None)
    ]


def test_without_prefixes_the_world_is_the_own_area() -> None:
    keyring = Keyring([shared("w", "west")], area="west")
    assert keyring.area_of(NOWHERE) == "west"
    assert signer_id(keyring, NOWHERE, EAST) == "w"


def test_inside_an_area_its_own_key_signs_though_wider_ones_are_newer() -> None:
    keyring = ring(
        shared("all", "west", "east", "north", created_at_ms=9),
        shared("both", "west", "east", created_at_ms=9),
        shared("w", "west"),
    )
    assert signer_id(keyring, WEST, WEST) == "w"
    assert signer_id(keyring, WEST, EAST) == signer_id(keyring, EAST, WEST) == "both"
    assert signer_id(keyring, WEST, EAST_INSIDE_WEST) == "both"
    assert signer_id(keyring, EAST, NORTH) == "all"
    assert signer_id(keyring, WEST, NOWHERE) is None


def test_a_point_between_signs_with_a_key_of_all_three_areas_and_no_less() -> None:
    narrow = shared("ends", "west", "east")
    assert signer_id(ring(narrow, area="north"), WEST, EAST) is None
    assert signer_id(ring(narrow, shared("all", "west", "east", "north"), area="north"), WEST, EAST) == "all"


def test_the_newest_active_key_signs_and_the_others_verify() -> None:
    old, young = shared("old", "west", created_at_ms=1), shared("young", "west", created_at_ms=2)
    coming = shared("coming", "west", state=KeyState.ACCEPTED, created_at_ms=3)
    keyring = ring(young, coming, old)
    assert signer_id(keyring, WEST, WEST) == "young"
    assert [keyring.key(one) for one in ("old", "young", "coming", "none")] == [old, young, coming, None]
    assert [key.id for key in keyring.shared_with("west")] == ["young", "old", "coming"]


def test_of_keys_alike_all_points_choose_the_same() -> None:
    one, other = shared("a", "west"), shared("b", "west")
    assert signer_id(ring(one, other), WEST, WEST) == signer_id(ring(other, one), WEST, WEST) == "a"


def test_where_no_secret_is_shared_the_own_signature_is_taken() -> None:
    keyring = ring(shared("w", "west"), pair("own", "west"), public("theirs", "east"))
    assert signer_id(keyring, WEST, WEST) == "w"
    assert signer_id(keyring, WEST, EAST) == "own"
    assert signer_id(keyring, NOWHERE, WEST) == "own"


def test_a_pair_that_is_only_accepted_does_not_sign() -> None:
    old, new = pair("old", "west"), pair("new", "west", state=KeyState.ACCEPTED, created_at_ms=5)
    assert signer_id(ring(old, new), WEST, EAST) == "old"
    assert signer_id(ring(new), WEST, EAST) is None


def test_a_key_speaks_for_points_of_its_areas_alone() -> None:
    keyring = ring(key := shared("w", "west"), both := shared("both", "west", "east"))
    assert keyring.speaks_for(key, WEST)
    assert not keyring.speaks_for(key, EAST_INSIDE_WEST)
    assert keyring.speaks_for(both, EAST)
    assert not keyring.speaks_for(both, NOWHERE)


def test_a_point_without_keys_signs_nothing() -> None:
    assert len(NO_KEYS) == 0
    assert NO_KEYS.signer(WEST, EAST) is None
    assert NO_KEYS.key("w") is None


@given(st.integers(0, 2**32 - 1), st.dictionaries(st.integers(0, 32), st.integers(0, 2**32 - 1), max_size=6))
def test_the_area_is_that_of_the_longest_of_any_prefixes(number: int, prefixes: dict[int, int]) -> None:
    areas = {f"a{length}": (IPv4Network((base, length), strict=False),) for length, base in prefixes.items()}
    address = str(IPv4Network((number, 32)).network_address)
    holding = [length for length in prefixes if IPv4Network(address).subnet_of(areas[f"a{length}"][0])]
    expected = f"a{max(holding)}" if holding else (None if areas else "own")
    assert Keyring(area="own", areas=areas).area_of(address) == expected


def test_key_ids_are_those_of_the_grammar() -> None:
    assert KEY_ID.fullmatch("west-3f9a1c")
    assert not any(KEY_ID.fullmatch(one) for one in ("", "-a", "A", "a" * 17, "a/b", "a\n", "ä"))


def test_the_library_for_signatures_is_not_loaded_without_such_keys() -> None:
    code = (
        "import sys; from schemas.keyring import *; "
        "key = HmacKey(KeyIdentity(id='w', areas=('a',)), bytes(32)); "
        "Keyring([key], area='a').signer('1.1.1.1', '1.1.1.1'); "
        "sys.exit(any(name.startswith('cryptography') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
