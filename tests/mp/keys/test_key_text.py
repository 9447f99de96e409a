from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mp.keys.key_text import FileKey, fingerprint, key_from_text, key_to_text, public_text, shown, with_identity
from mp.keys.settings import AREA_NAME
from schemas.errors import ConfigurationError
from schemas.keyring import KEY_ID, HmacKey, KeyIdentity, KeyState, SigningKey, VerifyingKey
from schemas.rfc3339 import MAX_TIME_US

SECRET = bytes(range(100, 132))
SECRET_TEXT = base64.b64encode(SECRET).decode()
IDENTITY = KeyIdentity(id="west-1", areas=("west", "east"), created_at_ms=1_700_000_000_123, operator='A "B" Ä')

identities = st.builds(
    KeyIdentity,
    id=st.from_regex(KEY_ID, fullmatch=True),
    areas=st.lists(st.from_regex(AREA_NAME, fullmatch=True), min_size=1, max_size=4).map(tuple),
    state=st.sampled_from(KeyState),
    created_at_ms=st.integers(0, MAX_TIME_US // 1000),
    operator=st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=80),
)
secrets = st.binary(min_size=32, max_size=32)
file_keys = st.one_of(st.builds(HmacKey, identities, secrets), st.builds(SigningKey, identities, secrets))


def described(key: FileKey) -> tuple[Any, ...]:
    return type(key), key.identity, fingerprint(key)


@given(file_keys)
def test_a_key_comes_back_from_its_text(key: FileKey) -> None:
    again = key_from_text(key_to_text(key), "file")
    assert described(again) == described(key)
    assert again.verifies(b"abc", key.tag(b"abc"))


@given(identities, secrets)
def test_the_public_half_comes_back_and_holds_no_secret(identity: KeyIdentity, private: bytes) -> None:
    pair = SigningKey(identity, private)
    text = public_text(pair)
    assert base64.b64encode(private).decode() not in text
    half = key_from_text(text, "file")
    assert type(half) is VerifyingKey
    assert half.identity == identity
    assert half.verifies(b"abc", pair.tag(b"abc"))
    assert fingerprint(half) == fingerprint(pair)
    assert key_to_text(half) == text


def test_what_is_shown_holds_no_secret() -> None:
    for key in (HmacKey(IDENTITY, SECRET), SigningKey(IDENTITY, SECRET)):
        text = repr(shown(key))
        assert "west-1" in text
        assert SECRET_TEXT not in text
        assert SECRET.hex() not in text


def test_keys_with_another_secret_have_another_fingerprint() -> None:
    one, other = HmacKey(IDENTITY, SECRET), HmacKey(IDENTITY, SECRET[::-1])
    assert re.fullmatch("[0-9a-f]{32}", fingerprint(one))
    assert fingerprint(one) != fingerprint(other)
    renamed = with_identity(one, KeyIdentity(id="x", areas=("north",)))
    assert fingerprint(renamed) == fingerprint(one)


GOOD = key_to_text(HmacKey(IDENTITY, SECRET))


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (r'id = ".*"', 'id = "West"', "key file f: got 'id = ...', expected 1 to 16 lower-case"),
        (r'id = ".*"', f'id = "{SECRET_TEXT}"', "key file f: got 'id = ...'"),
        (r'kind = ".*"', f'kind = "{SECRET_TEXT}"', "key file f: got 'kind = ...', expected one of hmac-sha256"),
        (r"areas = .*", "areas = []", "key file f: got 'areas = ...', expected 1 to 64 names"),
        (r"areas = .*", f'areas = ["{SECRET_TEXT}"]', "key file f: got 'areas = ...', expected 1 to 64 names"),
        (r"areas = .*", f'areas = "{SECRET_TEXT}"', "key file f: got 'areas = ...', expected a list"),
        (r"created = .*", f'created = "{SECRET_TEXT}"', "key file f: got 'created = ...', expected a time"),
        (r"state = .*", f'state = "{SECRET_TEXT}"', "key file f: got 'state = ...', expected one of active, acc"),
        (r"operator = .*", 'operator = "a\\\\nb"', "key file f: got 'operator = ...', expected at most 80"),
        (r"secret = .*", f"secret = '{SECRET_TEXT[:-1]}'", "key file f: got 'secret = ...', expected base64"),
        (r"secret = .*", "secret = 'AAAA'", "key file f: got 'secret = ...', expected 32 octets"),
        (r"secret = .*", f"secret = ['{SECRET_TEXT}']", "key file f: got 'secret = ...', expected text"),
        (r"secret = (.*)", r"public = \1", "key file f: got 'public = ...', expected a secret, since the kind"),
        (r"secret = (.*)", r"secret = \1\npublic = \1", "key file f: got 'secret = ...', expected no such key"),
        (r"secret = (.*)", r"sercet = \1", "key file f: got '...', expected the fields id, kind"),
        (r"secret = (.*)", r"secret = \1\nmore = \1", "key file f: got '...', expected the fields id, kind"),
        (r"secret = (.*)", rf"secret = \1\n'{SECRET_TEXT}' = 1", "key file f: got '...', expected the"),
        (r'secret = "(.*)"', r"secret = \1", "key file: got 'f', expected a file that `inpath keys` wrote"),
    ],
)
def test_a_mistake_is_named_and_never_what_stands_there(before: str, after: str, reason: str) -> None:
    text = re.sub(before, after, GOOD)
    assert text != GOOD
    with pytest.raises(ConfigurationError, match=re.escape(reason)) as refused:
        key_from_text(text, "f")
    told = repr((refused.value, str(refused.value), vars(refused.value)))
    assert SECRET_TEXT[:20] not in told
    assert refused.value.__suppress_context__


@given(st.one_of(st.text(max_size=200), st.text(max_size=20).map(lambda text: GOOD + text)))
def test_any_text_is_a_key_or_its_error(text: str) -> None:
    try:
        key = key_from_text(text, "f")
    except ConfigurationError as error:
        assert SECRET_TEXT not in str(error)
    else:
        assert described(key) == described(HmacKey(IDENTITY, SECRET))
