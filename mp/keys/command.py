"""`inpath keys`: the keys by which points believe each other.

No secret is ever an argument, where others could read it in the list of processes.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from mp import clock
from mp.commands import config_option
from mp.config import load_configuration
from mp.keys.ca_command import ca
from mp.keys.directory import KeyDirectory
from mp.keys.key_text import (
    KEY_ID_TEXT,
    MAX_AREAS,
    OPERATOR,
    OPERATOR_TEXT,
    FileKey,
    KeyKind,
    key_to_text,
    kind_of,
    public_text,
    shown,
)
from mp.keys.settings import AREA_NAME, AREA_NAME_TEXT, SecuritySettings
from schemas.errors import UsageError
from schemas.keyring import (
    ED25519_KEY_BYTES,
    HMAC_SECRET_BYTES,
    KEY_ID,
    HmacKey,
    KeyIdentity,
    KeyState,
    SigningKey,
    VerifyingKey,
)

_ID_RANDOM_BYTES = 3
_ID_AREA_LETTERS = 9
"""With a hyphen and the hexadecimal digits, as long as an id may be."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_id_argument = click.argument("key_id", metavar="ID")
_new_id_argument = click.argument("new_id", metavar="[NEW]", required=False)


@click.group()
def keys() -> None:
    """The keys of this point (`security.keys_dir`); a running point reads them anew on SIGHUP."""


keys.add_command(ca)


@keys.command()
@_new_id_argument
@click.option("--area", "areas", multiple=True, help="Area whose points share it; may be given more than once.")
@click.option("--ed25519", "is_pair", is_flag=True, help="A pair for operators who share no secret.")
@click.option("--accepted", is_flag=True, help="Verifies only, until `activate`.")
@click.option("--operator", default="", help="Whose it is, for people.")
@json_option
@config_option
def new(
    new_id: str | None,
    areas: tuple[str, ...],
    operator: str,
    config_path: Path,
    *,
    is_pair: bool,
    accepted: bool,
    as_json: bool,
) -> None:
    """Make a key for this point's area, or for those given, and print its id."""
    settings, directory = _opened(config_path)
    areas = _checked(areas or (settings.area,))
    if OPERATOR.fullmatch(operator) is None:
        raise UsageError("operator", operator, OPERATOR_TEXT)
    identity = KeyIdentity(
        id=_new_id(new_id, areas[0]),
        areas=areas,
        state=KeyState.ACCEPTED if accepted else KeyState.ACTIVE,
        created_at_ms=clock.now_ms(),
        operator=operator,
    )
    made = _made(KeyKind.ED25519 if is_pair else KeyKind.HMAC, identity)
    path = directory.add(made)
    _tell(made, f"{path} is written", as_json=as_json)


@keys.command()
@_id_argument
@click.option("--secret", "with_secret", is_flag=True, help="Print the key's file on stdout, secret and all.")
@json_option
@config_option
def show(key_id: str, config_path: Path, *, with_secret: bool, as_json: bool) -> None:
    """Show one key; its secret only when that is asked for."""
    _, directory = _opened(config_path)
    key = directory.key(key_id)
    if with_secret:
        text = key_to_text(key)
        click.echo(json.dumps({**shown(key), "file": text}) if as_json else text, nl=as_json)
        return
    _print(shown(key), as_json=as_json)


@keys.command("list")
@json_option
@config_option
def list_keys(config_path: Path, *, as_json: bool) -> None:
    """Show all keys, without their secrets."""
    _, directory = _opened(config_path)
    documents = [shown(key) for key in directory.read().values()]
    if as_json:
        click.echo(json.dumps({"keys": documents}, indent=2))
        return
    from mp.keys.view import print_keys

    print_keys(documents)


@keys.command()
@_id_argument
@_new_id_argument
@click.option("--now", "at_once", is_flag=True, help="Sign with it at once: where no other point must follow.")
@json_option
@config_option
def rotate(key_id: str, new_id: str | None, config_path: Path, *, at_once: bool, as_json: bool) -> None:
    """First step of a change: make the successor of ID, which verifies until `activate`; both are valid."""
    _, directory = _opened(config_path)
    made = directory.succeed(key_id, lambda old: _successor(old, new_id), at_once=at_once)
    told = (
        "signs now" if at_once else "verifies: copy its file to all points that have the other, then activate it"
    )
    _tell(made, f"{made.id}, the successor of {key_id}, {told}", as_json=as_json)


@keys.command()
@_id_argument
@json_option
@config_option
def activate(key_id: str, config_path: Path, *, as_json: bool) -> None:
    """Second step, when all points have ID: sign with it; the one before is still accepted."""
    _, directory = _opened(config_path)
    key = directory.activate(key_id)
    _tell(key, f"{key_id} signs; its predecessor is still accepted", as_json=as_json)


@keys.command()
@_id_argument
@click.option("--force", "forced", is_flag=True, help="Even a key that this point signs with.")
@config_option
def retire(key_id: str, config_path: Path, *, forced: bool) -> None:
    """Last step, when all points sign with another: remove ID."""
    _, directory = _opened(config_path)
    directory.retire(key_id, forced=forced)
    click.echo(f"inpath: key {key_id} is removed", err=True)


@keys.command()
@_id_argument
@config_option
def public(key_id: str, config_path: Path) -> None:
    """Print the public half of the pair ID, for the file ID.pub of other operators."""
    _, directory = _opened(config_path)
    key = directory.key(key_id)
    if not isinstance(key, VerifyingKey):
        raise UsageError("id", key_id, "an Ed25519 key: a shared secret has no public half")
    click.echo(public_text(key), nl=False)


def _opened(config_path: Path) -> tuple[SecuritySettings, KeyDirectory]:
    settings = load_configuration(config_path).security
    if settings.keys_dir is None:
        raise UsageError("security.keys_dir", "", f"a directory for keys, in {config_path}")
    return settings, KeyDirectory(settings.keys_dir)


def _checked(areas: tuple[str, ...]) -> tuple[str, ...]:
    """Each area once."""
    for area in areas:
        if AREA_NAME.fullmatch(area) is None:
            raise UsageError("area", area, AREA_NAME_TEXT)
    areas = tuple(dict.fromkeys(areas))
    if len(areas) > MAX_AREAS:
        raise UsageError("area", f"{len(areas)} areas", f"at most {MAX_AREAS}")
    return areas


def _new_id(given: str | None, area: str) -> str:
    """An id that was never used before: a point that missed a change must not take one key for the other."""
    if given is None:
        stem = re.sub(r"[^a-z0-9]+", "-", area.lower())[:_ID_AREA_LETTERS]
        return f"{stem}-{secrets.token_hex(_ID_RANDOM_BYTES)}"
    if KEY_ID.fullmatch(given) is None:
        raise UsageError("id", given, KEY_ID_TEXT)
    return given


def _made(kind: KeyKind, identity: KeyIdentity) -> FileKey:
    match kind:
        case KeyKind.HMAC:
            return HmacKey(identity, secrets.token_bytes(HMAC_SECRET_BYTES))
        case KeyKind.ED25519:
            return SigningKey(identity, secrets.token_bytes(ED25519_KEY_BYTES))


def _successor(old: FileKey, new_id: str | None) -> FileKey:
    identity = KeyIdentity(
        id=_new_id(new_id, old.areas[0]),
        areas=old.areas,
        # Newer than the old one even when the clock was set back in between: the newest is signed with.
        created_at_ms=max(clock.now_ms(), old.identity.created_at_ms + 1),
        operator=old.identity.operator,
    )
    return _made(kind_of(old), identity)


def _tell(key: FileKey, what: str, *, as_json: bool) -> None:
    click.echo(json.dumps(shown(key), indent=2) if as_json else key.id)
    click.echo(f"inpath: {what}", err=True)


def _print(document: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    for name, value in document.items():
        text = ", ".join(value) if isinstance(value, list) else {True: "yes", False: "no"}.get(value, value)
        click.echo(f"{name.replace('_', ' '):<12}{text}")
