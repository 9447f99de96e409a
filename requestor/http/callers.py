"""Who asks, and what they may: a local program by its user, any other by its token (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from requestor.http.problems import RefusedError, refused
from requestor.http.tokens import Scope, Token, token_of

_CHALLENGE = (("WWW-Authenticate", 'Bearer realm="inpath"'),)
"""RFC 6750 section 3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A local program: what the kernel says of it (unix(7), SO_PEERCRED and SO_PEERGROUPS)."""

    uid: int
    groups: frozenset[int]
    """Its primary and its supplementary ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPolicy:
    """Which local programs may ask, besides root and the user of the point."""

    users: frozenset[int]
    groups: frozenset[int]

    def allows(self, peer: Peer) -> bool:
        """Whether the user or one of its groups is listed."""
        return peer.uid in self.users or not self.groups.isdisjoint(peer.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whoever sent a request."""

    name: str
    """`uid:1000` or `token:a1b2c3d4`: what rates are limited and measurements are kept by."""
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether the caller has the scope; `admin` has them all."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def require(self, scope: Scope) -> None:
        """Refuse who may not.

        Raises:
            RefusedError: the caller lacks the scope.
        """
        if not self.may(scope):
            held = ", ".join(sorted(self.scopes)) or "none"
            raise refused(
                "forbidden",
                HTTPStatus.FORBIDDEN,
                f"scope: got {held}, expected {scope} or admin",
                field="scope",
                value=held,
                expected=f"{scope} or admin",
            )


class Doorkeeper:
    """Knows who may ask.

    Args:
        policy: of the Unix socket.
        tokens: of the TCP port, by their ids; exchanged as a whole when the file changes.
    """

    def __init__(self, policy: LocalPolicy, tokens: Mapping[str, Token]) -> None:
        self._policy = policy
        self.tokens = tokens

    def caller_of(self, peer: Peer | None, authorization: str | None, now_ms: int) -> Caller:
        """Who sent a request.

        Args:
            peer: of the Unix socket; None over TCP.
            authorization: the header, if there is one; over the Unix socket nobody needs it.
            now_ms: milliseconds since the Unix epoch.

        Raises:
            RefusedError: nobody who may ask.
        """
        if peer is not None:
            return self._local(peer)
        scheme, _, text = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not text:
            raise _unauthorized("authorization", None, "a header `Authorization: Bearer TOKEN`")
        token = token_of(text.strip(), self.tokens)
        if token is None:
            raise _unauthorized("authorization", "another token", "a token of `inpath token new`, not revoked")
        if token.expires_at_ms is not None and now_ms >= token.expires_at_ms:
            raise _unauthorized("authorization", f"token {token.id}, expired", "a token that has not expired")
        return Caller(name=f"token:{token.id}", scopes=token.scopes)

    def _local(self, peer: Peer) -> Caller:
        if not self._policy.allows(peer):
            raise refused(
                "forbidden",
                HTTPStatus.FORBIDDEN,
                f"user: got {peer.uid}, expected one that http.users, http.groups or the socket's group names",
                field="user",
                value=peer.uid,
                expected="one that http.users, http.groups or the socket's group names",
            )
        return Caller(name=f"uid:{peer.uid}", scopes=frozenset(Scope))


def _unauthorized(name: str, value: object, expected: str) -> RefusedError:
    return refused(
        "unauthorized",
        HTTPStatus.UNAUTHORIZED,
        f"{name}: got {value or 'nothing'}, expected {expected}",
        field=name,
        value=value,
        expected=expected,
        headers=_CHALLENGE,
    )
