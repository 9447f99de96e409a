from __future__ import annotations

import os
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from mp.keys import directory as directory_module
from mp.keys.directory import MAX_KEYS, KeyDirectory, read_keyring
from mp.keys.key_text import key_to_text, public_text
from mp.keys.settings import Authentication, SecuritySettings
from mp.private_file import write_whole
from schemas.errors import ConfigurationError, HostError, UsageError
from schemas.keyring import HmacKey, KeyIdentity, KeyState, SigningKey

HERE, THERE = "10.1.0.1", "10.2.0.1"


def settings(path: Path | None) -> SecuritySettings:
    areas = {"west": (IPv4Network("10.1.0.0/16"),), "east": (IPv4Network("10.2.0.0/16"),)}
    return SecuritySettings(area="west", areas=areas, keys_dir=path, authentication=Authentication.ACCEPTED)


def shared(key_id: str, *areas: str, created_at_ms: int = 0, state: KeyState = KeyState.ACTIVE) -> HmacKey:
    identity = KeyIdentity(id=key_id, areas=areas or ("west",), created_at_ms=created_at_ms, state=state)
    return HmacKey(identity, key_id.encode().ljust(32))


def pair(key_id: str, *, created_at_ms: int = 0) -> SigningKey:
    identity = KeyIdentity(id=key_id, areas=("west",), created_at_ms=created_at_ms)
    return SigningKey(identity, key_id.encode().ljust(32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def keys(path: Path) -> KeyDirectory:
    found = KeyDirectory(path)
    found.add(shared("w"))
    return found


def states(keys: KeyDirectory) -> dict[str, str]:
    return {key.id: str(key.identity.state) for key in keys.read().values()}


def test_a_point_without_a_directory_has_areas_and_no_key() -> None:
    keyring = read_keyring(settings(None))
    assert len(keyring) == 0
    assert keyring.area_of(THERE) == "east"


def test_a_point_that_authenticates_nothing_reads_no_key(keys: KeyDirectory, path: Path) -> None:
    off = replace(settings(path), authentication=Authentication.OFF)
    assert len(read_keyring(settings(path))) == 1
    assert len(read_keyring(off)) == 0


def test_the_files_of_the_directory_are_the_keys_of_the_point(keys: KeyDirectory, path: Path) -> None:
    keys.add(shared("both", "west", "east"))
    theirs = path / "e.pub"
    theirs.write_text(public_text(SigningKey(KeyIdentity(id="e", areas=("east",)), bytes(32))))
    (path / "readme.txt").write_text("no key")
    (path / ".x.key").write_text("no key")
    keyring = read_keyring(settings(path))
    assert sorted(key.id for key in keyring.keys) == ["both", "e", "w"]
    assert keyring.signer(HERE, HERE) is keyring.key("w")
    assert keyring.signer(HERE, THERE) is keyring.key("both")
    public = keyring.key("e")
    assert public is not None
    assert not public.can_sign
    assert keyring.speaks_for(public, THERE)


def test_a_key_that_others_may_read_stops_everything_and_is_named(keys: KeyDirectory, path: Path) -> None:
    (path / "w.key").chmod(0o644)
    with pytest.raises(
        ConfigurationError, match=r"key file: got '.*/w\.key with mode 0644', expected .*mode 0600"
    ):
        read_keyring(settings(path))


def test_a_service_that_may_not_write_keys_may_read_them(keys: KeyDirectory, path: Path) -> None:
    os.chown(path, 0, 65_533)
    path.chmod(0o750)
    status = keys.add(shared("x")).stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, 65_533, 0o640)
    assert len(read_keyring(settings(path))) == 2


def test_a_directory_that_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(HostError, match=r"security\.keys_dir .*keys: No such file"):
        read_keyring(settings(path))


def test_a_file_is_called_after_the_id_in_it(keys: KeyDirectory, path: Path) -> None:
    (path / "w.key").rename(path / "x.key")
    with pytest.raises(ConfigurationError, match=r"x\.key', expected the name w\.key"):
        keys.read()


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("p.pub", key_to_text(pair("p")), "the public half alone"),
        ("p.key", public_text(pair("p")), "a file with a secret"),
        ("w.pub", public_text(pair("w")), "an id that no other key has"),
    ],
)
def test_a_secret_stands_in_a_key_file_and_nowhere_else(
    keys: KeyDirectory, path: Path, name: str, text: str, reason: str
) -> None:
    (path / name).write_text(text)
    (path / name).chmod(0o600)
    with pytest.raises(ConfigurationError, match=reason):
        keys.read()


def test_the_public_half_may_lie_beside_its_pair_and_goes_with_it(keys: KeyDirectory, path: Path) -> None:
    keys.add(pair("p"))
    (path / "p.pub").write_text(public_text(pair("p")))
    assert keys.key("p").can_sign
    keys.retire("p", forced=True)
    assert [one.name for one in path.iterdir()] == ["w.key"]


def test_another_public_half_beside_a_pair_is_refused(keys: KeyDirectory, path: Path) -> None:
    keys.add(pair("p"))
    (path / "p.pub").write_text(public_text(SigningKey(pair("p").identity, bytes(32))))
    with pytest.raises(ConfigurationError, match=r"p\.pub', expected the public half of p\.key"):
        keys.read()


def test_a_key_is_never_replaced(keys: KeyDirectory, path: Path) -> None:
    before = (path / "w.key").read_bytes()
    with pytest.raises(UsageError, match="id: got 'w', expected one that no key has yet"):
        keys.add(HmacKey(KeyIdentity(id="w", areas=("west",)), bytes(32)))
    assert (path / "w.key").read_bytes() == before


def test_there_are_no_more_keys_than_can_be_meant(keys: KeyDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_KEYS == 64
    monkeypatch.setattr(directory_module, "MAX_KEYS", 2)
    keys.add(shared("x"))
    with pytest.raises(UsageError, match="at most 2 keys: retire some"):
        keys.add(shared("y"))


def test_all_keys_together_are_no_larger_than_can_be_told(
    keys: KeyDirectory, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_module, "MAX_OCTETS", 2 * len((path / "w.key").read_bytes()))
    keys.add(shared("x"))
    with pytest.raises(UsageError, match="octets in all: retire some"):
        keys.add(shared("y"))
    monkeypatch.setattr(directory_module, "MAX_OCTETS", 100)
    with pytest.raises(
        ConfigurationError, match=r"security\.keys_dir: got '.*', expected keys of at most 100 oct"
    ):
        keys.read()


def test_the_three_steps_of_a_change(keys: KeyDirectory) -> None:
    keys.succeed("w", lambda old: shared("w2", created_at_ms=1))
    assert states(keys) == {"w": "active", "w2": "accepted"}
    keys.activate("w2")
    assert states(keys) == {"w": "accepted", "w2": "active"}
    keys.retire("w")
    assert states(keys) == {"w2": "active"}


def test_a_change_can_be_taken_back_until_the_old_key_is_gone(keys: KeyDirectory) -> None:
    keys.succeed("w", lambda old: shared("w2", created_at_ms=1), at_once=True)
    assert states(keys) == {"w": "accepted", "w2": "active"}
    keys.activate("w")
    assert states(keys) == {"w": "active", "w2": "accepted"}


def test_keys_of_other_areas_or_kinds_keep_their_state(keys: KeyDirectory) -> None:
    keys.add(shared("both", "west", "east"))
    keys.add(pair("p"))
    keys.succeed("w", lambda old: shared("w2", created_at_ms=1), at_once=True)
    assert states(keys) == {"both": "active", "p": "active", "w": "accepted", "w2": "active"}


def test_a_key_that_signs_is_not_retired_by_mistake(keys: KeyDirectory) -> None:
    with pytest.raises(UsageError, match="activate its successor before"):
        keys.retire("w")
    keys.retire("w", forced=True)
    assert states(keys) == {}


def test_what_only_its_operator_can_do_is_refused(keys: KeyDirectory, path: Path) -> None:
    (path / "e.pub").write_text(public_text(pair("e")))
    with pytest.raises(UsageError, match="expected a key whose secret is here"):
        keys.activate("e")
    with pytest.raises(UsageError, match="its operator makes the next one"):
        keys.succeed("e", lambda old: old)
    keys.retire("e")
    assert states(keys) == {"w": "active"}


def test_an_id_that_is_not_there_is_named(keys: KeyDirectory) -> None:
    for step in (keys.key, keys.activate, keys.retire):
        with pytest.raises(UsageError, match="id: got 'none', expected one that `inpath keys list` shows"):
            step("none")


def test_at_no_moment_of_a_change_is_there_nothing_to_sign_with(
    keys: KeyDirectory, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys.succeed("w", lambda old: shared("w2", created_at_ms=1))
    signers: list[str] = []
    write = write_whole

    def write_and_look(*arguments: object, **options: object) -> None:
        write(*arguments, **options)  # type: ignore[arg-type]
        key = read_keyring(settings(path)).signer(HERE, HERE)
        signers.append("nobody" if key is None else key.id)

    monkeypatch.setattr(directory_module, "write_whole", write_and_look)
    keys.activate("w2")
    assert signers == ["w2", "w2"]
