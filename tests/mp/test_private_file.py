from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from mp.private_file import make_directory, only_one, private_directory, read_private, remove, write_whole
from schemas.errors import ConfigurationError, HostError

OTHER_GROUP = 65_533
OTHER_USER = 65_532


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    make_directory(tmp_path / "keys", "directory")
    return tmp_path / "keys"


def content(path: Path, *, is_secret: bool = True) -> bytes:
    directory = private_directory(path.parent, "directory")
    return read_private(path, "key file", most_bytes=10, directory=directory, is_secret=is_secret)


def written(directory: Path, mode: int) -> Path:
    path = directory / "one.key"
    write_whole(path, b"secret", "key file")
    path.chmod(mode)
    return path


def test_what_is_written_is_read_and_is_for_its_owner_alone(directory: Path) -> None:
    assert directory.stat().st_mode & 0o777 == 0o700
    path = directory / "one.key"
    before = os.umask(0)
    try:
        write_whole(path, b"first", "key file")
        write_whole(path, b"secret", "key file")
    finally:
        os.umask(before)
    assert content(path) == b"secret"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in directory.iterdir()] == ["one.key"]


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_the_group_to_which_the_directory_was_given_may_read(directory: Path, mode: int) -> None:
    os.chown(directory, 0, OTHER_GROUP)
    path = written(directory, mode)
    assert path.stat().st_gid == OTHER_GROUP
    assert content(path) == b"secret"


@pytest.mark.parametrize("mode", [0o660, 0o604, 0o602, 0o601, 0o650, 0o777])
def test_a_file_that_others_can_touch_is_refused_by_name_and_mode(directory: Path, mode: int) -> None:
    reason = f"got '{re.escape(str(directory))}/one.key with mode {mode:04o}', expected .*mode 0600"
    with pytest.raises(ConfigurationError, match=reason):
        content(written(directory, mode))


def test_another_group_may_not_read(directory: Path) -> None:
    path = written(directory, 0o640)
    os.chown(path, 0, OTHER_GROUP)
    with pytest.raises(
        ConfigurationError, match=r"one.key with mode 0640', expected .*mode 0600\), or of group 0"
    ):
        content(path)
    path.chmod(0o600)
    assert content(path) == b"secret"


def test_a_file_of_somebody_else_is_refused(directory: Path) -> None:
    path = written(directory, 0o600)
    os.chown(path, OTHER_USER, 0)
    with pytest.raises(ConfigurationError, match=f"one.key of user {OTHER_USER}', expected a file of root"):
        content(path)
    os.chown(directory, OTHER_USER, 0)
    assert content(path) == b"secret"


def test_what_is_no_secret_may_be_read_by_all_and_written_by_its_owner(directory: Path) -> None:
    assert content(written(directory, 0o644), is_secret=False) == b"secret"
    for mode in (0o664, 0o646):
        with pytest.raises(ConfigurationError, match=f"mode {mode:04o}.*mode 0644"):
            content(written(directory, mode), is_secret=False)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_directory_in_which_others_can_put_files_is_refused(directory: Path, mode: int) -> None:
    path = written(directory, 0o600)
    directory.chmod(mode)
    with pytest.raises(ConfigurationError, match=rf"keys with mode {mode:04o}.*chmod go-w"):
        content(path)


def test_what_is_no_file_of_that_size_is_refused(directory: Path) -> None:
    path = directory / "one.key"
    write_whole(path, bytes(11), "key file")
    with pytest.raises(ConfigurationError, match="at most 10 octets"):
        content(path)
    remove(path, "key file")
    os.mkfifo(path, 0o600)  # nobody writes: whoever waited for it would wait for ever
    with pytest.raises(ConfigurationError, match="a regular file"):
        content(path)
    with pytest.raises(HostError, match=r"key file .*none\.key: No such file"):
        content(directory / "none.key")
    with pytest.raises(ConfigurationError, match="expected a directory"):
        private_directory(path, "directory")


def test_a_new_file_replaces_none(directory: Path) -> None:
    path = directory / "one.key"
    write_whole(path, b"first", "key file", is_new=True)
    with pytest.raises(HostError, match="key file .*one.key: File exists"):
        write_whole(path, b"second", "key file", is_new=True)
    assert content(path) == b"first"
    assert [one.name for one in directory.iterdir()] == ["one.key"]


def test_what_root_makes_belongs_to_whom_the_place_belongs(tmp_path: Path) -> None:
    os.chown(tmp_path, OTHER_USER, OTHER_GROUP)
    make_directory(tmp_path / "keys", "directory")
    make_directory(tmp_path / "keys", "directory")
    write_whole(tmp_path / "keys" / "one.key", b"secret", "key file")
    for path in (tmp_path / "keys", tmp_path / "keys" / "one.key"):
        assert (path.stat().st_uid, path.stat().st_gid) == (OTHER_USER, OTHER_GROUP)


def test_a_failed_write_leaves_what_was_there(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = directory / "one.key"
    write_whole(path, b"first", "key file")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HostError, match="No space left"):
        write_whole(path, b"second", "key file")
    assert path.read_bytes() == b"first"
    assert [one.name for one in directory.iterdir()] == ["one.key"]


def test_one_at_a_time_changes_a_directory(directory: Path) -> None:
    import fcntl

    with only_one(directory, "key file"):
        descriptor = os.open(directory, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)
    with pytest.raises(HostError, match="none: No such file"), only_one(directory / "none", "key file"):
        pass
