"""`inpath keys ca`: an authority of one's own, and certificates of points for TLS."""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mp import clock
from mp.commands import config_option
from mp.config import load_configuration
from mp.private_file import PUBLIC_MODE, make_directory, only_one, private_directory, read_private, write_whole
from schemas.errors import UsageError

if TYPE_CHECKING:
    from mp.keys.authority import Certified

AUTHORITY = "ca"
"""Name of its files; those of points have the address."""
MAX_PEM_BYTES = 16_384
_WHAT = "certificate file"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}")

_days_option = click.IntRange(1, 7300)
_directory_option = click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the files are.  [default: tls in security.keys_dir]",
)


@click.group()
def ca() -> None:
    """Certificates for TLS of reports and HTTP, from an authority of your own."""


@ca.command("new")
@click.option("--name", default="inpath", show_default=True, help="For people.")
@click.option("--days", type=_days_option, default=3650, show_default=True, help="How long it is valid.")
@_directory_option
@config_option
def new_authority(name: str, days: int, directory: Path | None, config_path: Path) -> None:
    """Make the authority: ca.pem for every point, ca-key.pem for nobody."""
    from mp.keys.authority import new_authority

    if _NAME.fullmatch(name) is None:
        raise UsageError("name", name, "letters, digits, spaces, dots, underscores and hyphens, at most 63")
    place = _made_directory(directory, config_path)
    with only_one(place, _WHAT):
        made = new_authority(name, now_ms=clock.now_ms(), days=days)
        _write_new(place, AUTHORITY, made)
    click.echo(place / f"{AUTHORITY}.pem")


@ca.command()
@click.argument("address")
@click.option("--days", type=_days_option, default=365, show_default=True, help="How long it is valid.")
@click.option("--renew", is_flag=True, help="Again for the key that is there; only the certificate is replaced.")
@_directory_option
@config_option
def issue(address: str, days: int, directory: Path | None, config_path: Path, *, renew: bool) -> None:
    """Certify the point at ADDRESS: ADDRESS.pem and ADDRESS-key.pem."""
    from mp.keys.authority import issued

    name = _address(address)
    place = _made_directory(directory, config_path)
    with only_one(place, _WHAT):
        authority = _read(place, AUTHORITY)
        key = _read(place, name).key if renew else None
        made = issued(authority, name, now_ms=clock.now_ms(), days=days, key=key)
        if renew:
            _write_certificate(place, name, made, is_new=False)
        else:
            _write_new(place, name, made)
    click.echo(place / f"{name}.pem")


def _address(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except ValueError:
        raise UsageError("address", text, "the IPv4 address of a point") from None


def _made_directory(given: Path | None, config_path: Path) -> Path:
    place = given
    if place is None:
        keys_dir = load_configuration(config_path).security.keys_dir
        if keys_dir is None:
            raise UsageError("security.keys_dir", "", f"a directory for keys, in {config_path}, or --directory")
        place = keys_dir / "tls"
    make_directory(place, "directory")
    private_directory(place, "directory")
    return place


def _write_new(place: Path, name: str, made: Certified) -> None:
    """The key first: a certificate without its key would be of no use to anybody."""
    for path in (place / f"{name}.pem", place / f"{name}-key.pem"):
        if path.exists():
            raise UsageError(_WHAT, str(path), "a name that is not taken: a file is never replaced")
    write_whole(place / f"{name}-key.pem", made.key_pem, _WHAT, is_new=True)
    _write_certificate(place, name, made, is_new=True)


def _write_certificate(place: Path, name: str, made: Certified, *, is_new: bool) -> None:
    write_whole(place / f"{name}.pem", made.certificate_pem, _WHAT, mode=PUBLIC_MODE, is_new=is_new)


def _read(place: Path, name: str) -> Certified:
    from mp.keys.authority import certified_from_pem

    directory = private_directory(place, "directory")
    certificate, key = (
        read_private(path, _WHAT, most_bytes=MAX_PEM_BYTES, directory=directory, is_secret=is_secret)
        for path, is_secret in ((place / f"{name}.pem", False), (place / f"{name}-key.pem", True))
    )
    return certified_from_pem(certificate, key, str(place / f"{name}.pem"))
