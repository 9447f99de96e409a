from __future__ import annotations

import base64
import json
import logging
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from mp.config import load_configuration
from mp.keys.command import keys
from mp.keys.directory import read_keyring
from schemas.errors import ConfigurationError, HostError, UsageError
from schemas.keyring import KEY_ID


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "point.toml"
    path.write_text(f'[security]\nkeys_dir = "{tmp_path}/keys"\narea = "west"\n')
    return path


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(keys, [*arguments, "--config", str(config)])


def done(config: Path, *arguments: str) -> str:
    """What a command that must succeed prints on stdout."""
    result = run(config, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def listed(config: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(done(config, "list", "--json"))["keys"]
    return found


def secret_of(config: Path, key_id: str) -> str:
    text = (config.parent / "keys" / f"{key_id}.key").read_text()
    secret: str = tomllib.loads(text)["secret"]
    assert len(base64.b64decode(secret)) == 32
    return secret


def test_a_new_key_is_in_the_directory_and_its_id_is_printed(config: Path) -> None:
    key_id = done(config, "new").strip()
    assert KEY_ID.fullmatch(key_id)
    assert key_id.startswith("west-")
    path = config.parent / "keys" / f"{key_id}.key"
    assert path.stat().st_mode & 0o777 == 0o600
    (shown,) = listed(config)
    assert (shown["id"], shown["kind"], shown["areas"]) == (key_id, "hmac-sha256", ["west"])
    assert (shown["state"], shown["signs"]) == ("active", True)
    keyring = read_keyring(load_configuration(config).security)
    signer = keyring.signer("10.0.0.1", "10.0.0.2")
    assert signer is not None
    assert signer.id == key_id


def test_two_keys_never_have_the_same_secret(config: Path) -> None:
    first, second = (done(config, "new", *kind).strip() for kind in ([], ["--ed25519"]))
    assert secret_of(config, first) != secret_of(config, second)


def test_what_a_key_is_for_is_said_when_it_is_made(config: Path) -> None:
    options = ("--area", "west", "--area", "east", "--accepted", "--operator", "Jane Doe")
    document = json.loads(done(config, "new", "both", *options, "--json"))
    assert (document["id"], document["areas"], document["operator"]) == ("both", ["west", "east"], "Jane Doe")
    assert (document["state"], document["signs"]) == ("accepted", False)
    assert listed(config) == [document]


MANY = ("w", *(f"--area=a{number}" for number in range(65)))


@pytest.mark.parametrize(
    "arguments", [("W",), ("w/../x",), ("w", "--area", "a b"), ("w", "--operator", "a\nb"), MANY]
)
def test_what_cannot_be_meant_makes_no_key(config: Path, arguments: tuple[str, ...]) -> None:
    assert isinstance(run(config, "new", *arguments).exception, UsageError)
    assert not list(config.parent.glob("keys/*"))


def test_a_key_is_never_replaced(config: Path) -> None:
    done(config, "new", "w")
    before = secret_of(config, "w")
    again = run(config, "new", "w")
    assert isinstance(again.exception, UsageError)
    assert "never replaced" in str(again.exception)
    assert secret_of(config, "w") == before


def test_the_documented_change_of_a_key(config: Path) -> None:
    done(config, "new", "w1")
    assert done(config, "rotate", "w1", "w2").strip() == "w2"
    assert {one["id"]: one["signs"] for one in listed(config)} == {"w1": True, "w2": False}
    early = run(config, "retire", "w1")
    assert isinstance(early.exception, UsageError)
    done(config, "activate", "w2")
    assert {one["id"]: one["signs"] for one in listed(config)} == {"w1": False, "w2": True}
    done(config, "retire", "w1")
    assert [one["id"] for one in listed(config)] == ["w2"]


def test_a_change_in_one_step_keeps_both_valid(config: Path) -> None:
    done(config, "new", "w1", "--ed25519")
    key_id = done(config, "rotate", "w1", "--now").strip()
    assert {one["id"]: (one["state"], one["kind"]) for one in listed(config)} == {
        "w1": ("accepted", "ed25519"),
        key_id: ("active", "ed25519"),
    }


def test_operators_who_share_no_secret_hand_out_public_halves(config: Path, tmp_path: Path) -> None:
    done(config, "new", "west-ed", "--ed25519", "--operator", "West Ltd")
    theirs = tmp_path / "east"
    theirs.mkdir()
    other = theirs / "point.toml"
    other.write_text(f'[security]\nkeys_dir = "{theirs}/keys"\narea = "east"\n')
    done(other, "new", "e")
    (theirs / "keys" / "west-ed.pub").write_text(done(config, "public", "west-ed"))
    own = read_keyring(load_configuration(config).security).signer("10.0.0.1", "10.0.0.2")
    there = read_keyring(load_configuration(other).security).key("west-ed")
    assert own is not None
    assert there is not None
    assert there.verifies(b"abc", own.tag(b"abc"))
    shown = json.loads(done(other, "show", "west-ed", "--json"))
    assert (shown["operator"], shown["signs"]) == ("West Ltd", False)
    assert secret_of(config, "west-ed") not in (theirs / "keys" / "west-ed.pub").read_text()


def test_a_shared_secret_has_no_public_half(config: Path) -> None:
    done(config, "new", "w")
    refused = run(config, "public", "w")
    assert isinstance(refused.exception, UsageError)
    assert secret_of(config, "w") not in refused.output


def test_keys_are_shown_to_people(config: Path) -> None:
    done(config, "new", "w", "--operator", "Jane")
    (shown,) = listed(config)
    for text in (done(config, "list"), done(config, "show", "w")):
        for part in ("w", "hmac-sha256", "west", "Jane", "signs", shown["fingerprint"][:10]):
            assert part in text


def test_the_secret_is_printed_when_it_is_asked_for_and_can_be_copied(config: Path) -> None:
    done(config, "new", "w")
    assert done(config, "show", "w", "--secret") == (config.parent / "keys" / "w.key").read_text()
    assert json.loads(done(config, "show", "w", "--secret", "--json"))["file"].count(secret_of(config, "w")) == 1


def test_no_command_tells_a_secret_unasked(config: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    steps = [
        *(("new", "w1"), ("new", "e1", "--ed25519"), ("new", "w1"), ("list",), ("list", "--json")),
        *(("show", "w1"), ("show", "e1", "--json"), ("public", "e1"), ("rotate", "w1", "w2"), ("activate", "w2")),
        *(("rotate", "e1", "e2", "--now"), ("retire", "w2"), ("public", "w2")),
    ]
    results = [run(config, *step) for step in steps]
    told = caplog.text + "".join(result.output + repr(result.exception) for result in results)
    secrets = [secret_of(config, key_id) for key_id in ("w1", "w2", "e1", "e2")]
    assert len(set(secrets)) == 4
    for secret in secrets:
        assert secret not in told
        assert base64.b64decode(secret).hex() not in told


def test_a_file_that_holds_no_key_is_not_repeated(config: Path) -> None:
    done(config, "new", "w")
    secret = secret_of(config, "w")
    path = config.parent / "keys" / "w.key"
    path.write_text(path.read_text().replace("secret =", "state ="))
    refused = run(config, "list")
    assert isinstance(refused.exception, ConfigurationError)
    assert secret not in refused.output + repr(refused.exception)


def parameters(command: click.Command) -> Iterator[click.Parameter]:
    yield from command.params
    if isinstance(command, click.Group):
        for one in command.commands.values():
            yield from parameters(one)


def test_no_secret_can_be_given_where_the_list_of_processes_shows_it() -> None:
    """All that a command takes is known here: a new parameter with a value must be looked at."""
    with_value = {one.name for one in parameters(keys) if not (isinstance(one, click.Option) and one.is_flag)}
    assert with_value == {
        *("new_id", "key_id", "areas", "operator", "config_path"),
        *("name", "days", "directory", "address"),
    }


def test_without_a_directory_the_key_to_set_is_named(tmp_path: Path) -> None:
    path = tmp_path / "point.toml"
    path.write_text("")
    refused = run(path, "new")
    assert isinstance(refused.exception, UsageError)
    assert "security.keys_dir" in str(refused.exception)


def test_a_place_that_is_not_there_is_named(config: Path, tmp_path: Path) -> None:
    config.write_text(f'[security]\nkeys_dir = "{tmp_path}/none/keys"\narea = "west"\n')
    assert isinstance((refused := run(config, "new")).exception, HostError)
    assert "none/keys: No such file" in str(refused.exception)
