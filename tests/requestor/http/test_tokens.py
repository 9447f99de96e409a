from __future__ import annotations

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.http.callers import Caller, Doorkeeper, LocalPolicy, Peer
from requestor.http.problems import RefusedError
from requestor.http.tokens import (
    ID_BYTES,
    SECRET_BYTES,
    Scope,
    Token,
    new_token,
    token_of,
    tokens_from_text,
    tokens_to_text,
)
from schemas.errors import UsageError

NOW_MS = 1_800_000_000_000


def made(*scopes: Scope, lifetime_ms: int | None = 1000) -> tuple[Token, str]:
    random = secrets.token_bytes(ID_BYTES + SECRET_BYTES)
    return new_token("a", scopes or [Scope.QUERY], random=random, now_ms=NOW_MS, lifetime_ms=lifetime_ms)


def keeper(*tokens: Token) -> Doorkeeper:
    policy = LocalPolicy(users=frozenset((0,)), groups=frozenset((7,)))
    return Doorkeeper(policy, {token.id: token for token in tokens})


def test_the_holder_is_known_and_the_file_does_not_hold_the_secret() -> None:
    token, text = made(Scope.READ, lifetime_ms=None)
    tokens = {token.id: token}
    assert token_of(text, tokens) is token
    assert text.rpartition("_")[2] not in tokens_to_text(tokens)
    assert tokens_from_text(tokens_to_text(tokens)) == tokens


@given(st.text(max_size=120))
def test_any_other_text_proves_nothing(text: str) -> None:
    token, _ = made()
    tokens = {token.id: token, "": token}
    assert token_of(text, tokens) is None


def test_a_token_with_one_other_character_proves_nothing() -> None:
    token, text = made()
    for place in range(len(text)):
        other = "x" if text[place] != "x" else "y"
        assert token_of(text[:place] + other + text[place + 1 :], {token.id: token}) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"tokens": [1]}', '{"tokens": [{"id": 1}]}', '{"tokens": 3}'])
def test_a_file_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="token file"):
        tokens_from_text(text)


@pytest.mark.parametrize(
    ("authorization", "at_ms", "reason"),
    [
        (None, NOW_MS, "expected a header"),
        ("Basic YTpi", NOW_MS, "expected a header"),
        ("Bearer ", NOW_MS, "expected a header"),
        ("Bearer inpath_00000000_x", NOW_MS, "not revoked"),
        ("Bearer {}", NOW_MS + 1000, "expired"),
    ],
)
def test_who_is_not_known_is_told_why(authorization: str | None, at_ms: int, reason: str) -> None:
    token, text = made()
    header = None if authorization is None else authorization.format(text)
    with pytest.raises(RefusedError, match=reason) as caught:
        keeper(token).caller_of(None, header, at_ms)
    assert caught.value.problem.status == 401
    assert dict(caught.value.problem.headers)["WWW-Authenticate"].startswith("Bearer")
    assert text not in str(caught.value.problem.to_json())


def test_a_token_may_what_its_scopes_say_until_it_expires() -> None:
    token, text = made(Scope.READ)
    caller = keeper(token).caller_of(None, f"bearer {text}", NOW_MS + 999)
    assert caller.name == f"token:{token.id}"
    caller.require(Scope.READ)
    with pytest.raises(RefusedError, match="scope: got read, expected query"):
        caller.require(Scope.QUERY)
    assert Caller(name="x", scopes=frozenset((Scope.ADMIN,))).may(Scope.QUERY)


def test_local_programs_are_known_by_user_or_group_and_need_no_token() -> None:
    for peer in (Peer(uid=0, groups=frozenset()), Peer(uid=5, groups=frozenset((3, 7)))):
        caller = keeper().caller_of(peer, None, NOW_MS)
        assert caller.name == f"uid:{peer.uid}"
        assert caller.may(Scope.ADMIN)
    with pytest.raises(RefusedError, match="user: got 5"):
        keeper().caller_of(Peer(uid=5, groups=frozenset((3,))), None, NOW_MS)
