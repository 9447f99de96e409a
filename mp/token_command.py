"""`inpath token`: who may ask over HTTP from another host."""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path
from typing import Any

import click

from mp import clock
from mp.commands import config_option
from mp.config import load_configuration
from mp.http.token_file import changed_tokens, read_tokens
from requestor.http.tokens import ID_BYTES, MAX_TOKENS, SECRET_BYTES, Scope, Token, new_token
from schemas.errors import UsageError
from schemas.rfc3339 import rfc3339_from_us

_LIFETIME = re.compile(r"([1-9][0-9]{0,4})([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 168}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
_MS_PER_HOUR = 3_600_000


@click.group()
def token() -> None:
    """Bearer tokens for the HTTP service over TCP; a running point knows a change within seconds."""


@token.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([str(scope) for scope in Scope]),
    default=(str(Scope.QUERY),),
    show_default=True,
    help="What its holder may do; may be given more than once.",
)
@click.option("--expires", default="90d", show_default=True, help="Lifetime such as 12h, 90d, 52w, or `never`.")
@config_option
def new(name: str, scopes: tuple[str, ...], expires: str, config_path: Path) -> None:
    """Make a token for NAME and print it; it cannot be shown again."""
    if _NAME.fullmatch(name) is None:
        raise UsageError("name", name, "letters, digits, dot, underscore, @ and hyphen, at most 63")
    lifetime_ms = _lifetime_ms(expires)
    made, text = new_token(
        name,
        [Scope(scope) for scope in scopes],
        random=secrets.token_bytes(ID_BYTES + SECRET_BYTES),
        now_ms=clock.now_ms(),
        lifetime_ms=lifetime_ms,
    )
    with changed_tokens(_file(config_path)) as tokens:
        if len(tokens) >= MAX_TOKENS:
            raise UsageError("name", name, f"at most {MAX_TOKENS} tokens: revoke some")
        tokens[made.id] = made
    click.echo(text)


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@config_option
def list_tokens(config_path: Path, *, as_json: bool) -> None:
    """Show the tokens, without what would let somebody use them."""
    now_ms = clock.now_ms()
    documents = [_shown(one, now_ms) for one in read_tokens(_file(config_path)).values()]
    if as_json:
        click.echo(json.dumps({"tokens": documents}, indent=2))
        return
    for one in documents:
        scopes = ",".join(one["scopes"])
        state = "expired" if one["expired"] else "valid"
        click.echo(f"{one['id']}  {one['name']:<24}  {scopes:<18}  {state:<8} {one['expires_at'] or 'never'}")


@token.command()
@click.argument("identifier", metavar="ID")
@config_option
def revoke(identifier: str, config_path: Path) -> None:
    """Make the token with the id ID worthless."""
    with changed_tokens(_file(config_path)) as tokens:
        if tokens.pop(identifier, None) is None:
            raise UsageError("id", identifier, "one that `inpath token list` shows")
    click.echo(f"inpath: token {identifier} is revoked", err=True)


def _file(config_path: Path) -> Path:
    return load_configuration(config_path).http.token_file


def _lifetime_ms(text: str) -> int | None:
    if text == "never":
        return None
    found = _LIFETIME.fullmatch(text)
    if found is None:
        raise UsageError("expires", text, "a number of hours, days or weeks such as 12h, 90d, 52w, or never")
    return int(found[1]) * _HOURS[found[2]] * _MS_PER_HOUR


def _shown(one: Token, now_ms: int) -> dict[str, Any]:
    expires_ms = one.expires_at_ms
    return {
        "id": one.id,
        "name": one.name,
        "scopes": sorted(one.scopes),
        "created_at": rfc3339_from_us(one.created_at_ms * 1000, decimals=3),
        "expires_at": None if expires_ms is None else rfc3339_from_us(expires_ms * 1000, decimals=3),
        "expired": expires_ms is not None and now_ms >= expires_ms,
    }
