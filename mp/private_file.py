"""Files that not everybody may read or write: checked when they are read, and seen by others only when whole."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import ConfigurationError, HostError

PRIVATE_MODE = 0o600
GROUP_MODE = 0o640
PUBLIC_MODE = 0o644
DIRECTORY_MODE = 0o700


def private_directory(path: Path, what: str) -> os.stat_result:
    """The state of a directory in which nobody but its owner can put files.

    Raises:
        ConfigurationError: others can.
        HostError: it cannot be looked at.
    """
    with _named(what, path):
        status = path.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigurationError(what, str(path), "a directory")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigurationError(what, _with_mode(path, status), "one that its owner alone may write (chmod go-w)")
    return status


def make_directory(path: Path, what: str) -> None:
    """Make a directory for its owner alone, unless it is there; by root, for that of the one above.

    Raises:
        HostError: it cannot be made.
    """
    with _named(what, path):
        try:
            path.mkdir(mode=DIRECTORY_MODE)
        except FileExistsError:
            return
        if os.geteuid() == 0:
            above = path.parent.stat()
            os.chown(path, above.st_uid, above.st_gid)


def read_private(path: Path, what: str, *, most_bytes: int, directory: os.stat_result, is_secret: bool) -> bytes:
    """The content of a file of the directory.

    A secret may be read by its owner alone, or besides by the group to which the directory was given: that of the
    service. What is no secret may be read by all. Neither may be written by others.

    Args:
        what: kind of file, for errors.
        directory: its state, from `private_directory`.

    Raises:
        ConfigurationError: others may do more, it belongs to somebody else, is no file, or is too long.
        HostError: it cannot be read.
    """
    # Without O_NONBLOCK, a pipe of that name would stop whoever opens it.
    with _named(what, path), open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(what, str(path), "a regular file")
        _require_owner(path, what, status, directory)
        _require_mode(path, what, status, directory, is_secret=is_secret)
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ConfigurationError(what, str(path), f"at most {most_bytes} octets")
    return content


def _require_owner(path: Path, what: str, status: os.stat_result, directory: os.stat_result) -> None:
    if status.st_uid not in (0, os.geteuid(), directory.st_uid):
        shown = f"{path} of user {status.st_uid}"
        raise ConfigurationError(what, shown, f"a file of root or of user {directory.st_uid}, as its directory")


def _require_mode(
    path: Path, what: str, status: os.stat_result, directory: os.stat_result, *, is_secret: bool
) -> None:
    if not is_secret:
        wrong, expected = stat.S_IWGRP | stat.S_IWOTH, "a file that its owner alone may write (mode 0644)"
    elif status.st_gid == directory.st_gid:
        wrong, expected = 0o037, "a file that others may not touch (mode 0600, or 0640 for the directory's group)"
    else:
        wrong = 0o077
        expected = f"a file that its owner alone may touch (mode 0600), or of group {directory.st_gid} (mode 0640)"
    if status.st_mode & wrong:
        raise ConfigurationError(what, _with_mode(path, status), expected)


def _with_mode(path: Path, status: os.stat_result) -> str:
    return f"{path} with mode {stat.S_IMODE(status.st_mode):04o}"


@contextmanager
def only_one(directory: Path, what: str) -> Iterator[None]:
    """Hold a lock on the directory: files in it are replaced, so that they cannot be locked themselves.

    Raises:
        HostError: it cannot be opened.
    """
    with _named(what, directory):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_whole(path: Path, content: bytes, what: str, *, mode: int = PRIVATE_MODE, is_new: bool = False) -> None:
    """Write a file that has its name only when it is on the disk; made by root, it is its directory owner's.

    Args:
        is_new: there must be none of that name.

    Raises:
        HostError: it cannot be written, or there is one.
    """
    written = path.with_name(f".{path.name}.new")
    with _named(what, path):
        written.unlink(missing_ok=True)
        descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with open(descriptor, "wb") as file:
                os.fchmod(descriptor, mode)  # whatever the umask is
                _give_to_owner(descriptor, path.parent)
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            if is_new:
                os.link(written, path)  # refuses to replace, unlike a rename
            else:
                written.replace(path)
        finally:
            written.unlink(missing_ok=True)
        _sync(path.parent)


def remove(path: Path, what: str) -> None:
    """Take a file away for good.

    Raises:
        HostError: it cannot be removed.
    """
    with _named(what, path):
        path.unlink()
        _sync(path.parent)


def _give_to_owner(descriptor: int, directory: Path) -> None:
    if os.geteuid() == 0:
        status = directory.stat()
        os.fchown(descriptor, status.st_uid, status.st_gid)


def _sync(directory: Path) -> None:
    """A name is on the disk only when its directory is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _named(what: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostError(f"{what} {path}: {error.strerror}") from error
