"""The directory of the keys: one file for each, `ID.key` with a secret or `ID.pub` without one.

Where the directory may be read by its group, that of the service, so may the files that are written.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mp.keys.key_text import MAX_KEY_FILE_BYTES, FileKey, key_from_text, key_to_text, kind_of, with_identity
from mp.keys.settings import Authentication, SecuritySettings
from mp.private_file import (
    GROUP_MODE,
    PRIVATE_MODE,
    make_directory,
    only_one,
    private_directory,
    read_private,
    remove,
    write_whole,
)
from schemas.errors import ConfigurationError, HostError, UsageError
from schemas.keyring import Keyring, KeyState, SigningKey, VerifyingKey

SECRET_SUFFIX = ".key"
PUBLIC_SUFFIX = ".pub"
MAX_KEYS = 64
MAX_OCTETS = 40_000
"""Of all key files: they travel to the packet process in one datagram, with the prefixes of the areas."""
_WHAT = "key file"
_WHAT_DIRECTORY = "security.keys_dir"


def read_keyring(settings: SecuritySettings) -> Keyring:
    """The keys that are in the directory now; none where there is no directory, or authentication is off.

    Raises:
        ConfigurationError: a file others may use, or that holds no key; names file, mode and expectation.
        HostError: it cannot be read.
    """
    if settings.keys_dir is None or settings.authentication is Authentication.OFF:
        return settings.keyring()
    keys = KeyDirectory(settings.keys_dir).read()
    return Keyring(keys.values(), area=settings.area, areas=settings.areas)


class KeyDirectory:
    """The files, and the steps by which keys change; each step leaves points that reload at any time in agreement.

    Args:
        path: the directory; `add` makes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, FileKey]:
        """All keys by id.

        Raises:
            ConfigurationError, HostError: as `read_keyring`.
        """
        directory = private_directory(self._path, _WHAT_DIRECTORY)
        keys: dict[str, FileKey] = {}
        for path in self._files():
            is_secret = path.suffix == SECRET_SUFFIX
            content = read_private(
                path, _WHAT, most_bytes=MAX_KEY_FILE_BYTES, directory=directory, is_secret=is_secret
            )
            key = key_from_text(content.decode(errors="replace"), str(path))
            if key.id != path.stem:
                raise ConfigurationError(_WHAT, str(path), f"the name {key.id}{path.suffix}, after the id in it")
            if is_secret != key.can_sign:
                wanted = "a secret" if is_secret else "the public half alone"
                raise ConfigurationError(_WHAT, str(path), f"a file with {wanted}")
            _add(keys, key, path)
        if _octets(keys.values()) > MAX_OCTETS:
            raise ConfigurationError(
                _WHAT_DIRECTORY, str(self._path), f"keys of at most {MAX_OCTETS} octets in all"
            )
        return keys

    def key(self, key_id: str) -> FileKey:
        """One key.

        Raises:
            UsageError: there is none of that id; and as `read`.
        """
        return _of(self.read(), key_id)

    def add(self, key: FileKey) -> Path:
        """Write the file of a new key; the directory is made if it is missing.

        Raises:
            UsageError: there is one of that id.
            ConfigurationError, HostError: as `read`; HostError too when it cannot be written.
        """
        make_directory(self._path, _WHAT_DIRECTORY)
        with self._changing() as keys:
            return self._add(keys, key)

    def succeed(self, key_id: str, make: Callable[[FileKey], FileKey], *, at_once: bool = False) -> FileKey:
        """Make the successor of a key: for the time being it verifies only, until `activate`.

        Args:
            make: a new key of the same kind and areas, which may sign.
            at_once: activate it, and let the old one verify only.

        Raises:
            UsageError: no such key, or its secret is elsewhere; and as `add`.
        """
        with self._changing() as keys:
            old = _of(keys, key_id)
            if not old.can_sign:
                raise UsageError("id", key_id, "a key whose secret is here: its operator makes the next one")
            successor = _in_state(make(old), KeyState.ACCEPTED)
            self._add(keys, successor)
            return self._activate({**keys, successor.id: successor}, successor.id) if at_once else successor

    def activate(self, key_id: str) -> FileKey:
        """Sign with this key from now on; others of its kind and areas verify only.

        Raises:
            UsageError: no such key, or its secret is elsewhere; and as `add`.
        """
        with self._changing() as keys:
            return self._activate(keys, key_id)

    def retire(self, key_id: str, *, forced: bool = False) -> None:
        """Forget a key: its file is removed.

        Raises:
            UsageError: no such key, or one that signs, and it is not `forced`; and as `add`.
        """
        with self._changing() as keys:
            key = _of(keys, key_id)
            if key.can_sign and key.identity.state is KeyState.ACTIVE and not forced:
                raise UsageError("id", key_id, "a key that no longer signs: activate its successor before")
            for suffix in (PUBLIC_SUFFIX, SECRET_SUFFIX):  # the public half may lie beside its pair
                if (path := self._path / f"{key_id}{suffix}").exists():
                    remove(path, _WHAT)

    def _activate(self, keys: dict[str, FileKey], key_id: str) -> FileKey:
        chosen = _of(keys, key_id)
        if not chosen.can_sign:
            raise UsageError("id", key_id, "a key whose secret is here")
        chosen = _in_state(chosen, KeyState.ACTIVE)
        self._write(chosen)  # first: at no time is there none to sign with
        for key in keys.values():
            if key.id != key_id and key.identity.state is KeyState.ACTIVE and _takes_turns(key, chosen):
                self._write(_in_state(key, KeyState.ACCEPTED))
        return chosen

    def _add(self, keys: dict[str, FileKey], key: FileKey) -> Path:
        if key.id in keys:
            raise UsageError("id", key.id, "one that no key has yet: a file is never replaced")
        if len(keys) >= MAX_KEYS:
            raise UsageError("id", key.id, f"at most {MAX_KEYS} keys: retire some")
        if _octets((*keys.values(), key)) > MAX_OCTETS:
            raise UsageError("id", key.id, f"keys of at most {MAX_OCTETS} octets in all: retire some")
        return self._write(key, is_new=True)

    def _write(self, key: FileKey, *, is_new: bool = False) -> Path:
        path = self._file(key)
        group_reads = self._path.stat().st_mode & stat.S_IRGRP
        mode = GROUP_MODE if group_reads else PRIVATE_MODE
        write_whole(path, key_to_text(key).encode(), _WHAT, mode=mode, is_new=is_new)
        return path

    def _file(self, key: FileKey) -> Path:
        return self._path / f"{key.id}{SECRET_SUFFIX if key.can_sign else PUBLIC_SUFFIX}"

    def _files(self) -> list[Path]:
        try:
            found = sorted(
                path
                for path in self._path.iterdir()
                if path.suffix in (SECRET_SUFFIX, PUBLIC_SUFFIX) and not path.name.startswith(".")
            )
        except OSError as error:
            raise HostError(f"{_WHAT_DIRECTORY} {self._path}: {error.strerror}") from error
        if len(found) > 2 * MAX_KEYS:  # a pair may lie there with both halves
            raise ConfigurationError(_WHAT_DIRECTORY, str(self._path), f"at most {MAX_KEYS} keys")
        return found

    @contextmanager
    def _changing(self) -> Iterator[dict[str, FileKey]]:
        with only_one(self._path, _WHAT_DIRECTORY):
            yield self.read()


def _add(keys: dict[str, FileKey], key: FileKey, path: Path) -> None:
    """The public half may lie beside its pair; nothing else has the id of another."""
    pair = keys.setdefault(key.id, key)
    if pair is key:
        return
    if not isinstance(pair, SigningKey) or not isinstance(key, VerifyingKey):
        raise ConfigurationError(_WHAT, str(path), "an id that no other key has")
    if pair.public_bytes() != key.public_bytes():
        raise ConfigurationError(_WHAT, str(path), f"the public half of {key.id}{SECRET_SUFFIX}")


def _octets(keys: Iterable[FileKey]) -> int:
    return sum(len(key_to_text(key).encode()) for key in keys)


def _of(keys: dict[str, FileKey], key_id: str) -> FileKey:
    if key_id not in keys:
        raise UsageError("id", key_id, "one that `inpath keys list` shows")
    return keys[key_id]


def _in_state(key: FileKey, state: KeyState) -> FileKey:
    return with_identity(key, replace(key.identity, state=state))


def _takes_turns(key: FileKey, other: FileKey) -> bool:
    """Whether one of the two is enough to sign with."""
    return key.can_sign and kind_of(key) == kind_of(other) and {*key.areas} == {*other.areas}
