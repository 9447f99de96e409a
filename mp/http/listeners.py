"""The sockets on which the HTTP service is reached, and who may use the one for local programs."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import ssl
import stat
from pathlib import Path

from mp.http.settings import HttpSettings
from requestor.http.callers import LocalPolicy
from schemas.errors import ConfigurationError, HostError

BACKLOG = 128
SOCKET_MODE = 0o660
"""Owner and group: the kernel refuses everybody else before the service sees them."""


def local_policy(settings: HttpSettings) -> LocalPolicy:
    """Root, the daemon's own user, and those that the configuration lists, else the socket's group.

    Raises:
        ConfigurationError: no such user or group on this host.
    """
    users = frozenset((0, os.geteuid(), *(_uid(name) for name in settings.users)))
    groups = frozenset(_gid("http.groups", name) for name in settings.groups)
    if not settings.users and not settings.groups:
        groups = frozenset((_socket_group(settings),))
    return LocalPolicy(users=users, groups=groups)


def open_listeners(settings: HttpSettings) -> list[socket.socket]:
    """The Unix socket and, when configured, the TCP socket, both listening.

    Raises:
        HostError: a socket cannot be had, or certificate and key are not fit.
        ConfigurationError: no such group on this host.
    """
    group = _socket_group(settings)
    _check_certificate(settings)
    listeners = [_unix_listener(settings.socket, group)]
    if settings.listen is not None:
        try:
            listeners.append(_tcp_listener(settings.listen, settings.port))
        except HostError:
            close_listeners(listeners)
            raise
    return listeners


def close_listeners(listeners: list[socket.socket]) -> None:
    """Close them, and take the Unix socket's name away."""
    for listener in listeners:
        if listener.family == socket.AF_UNIX:
            Path(listener.getsockname()).unlink(missing_ok=True)
        listener.close()


def _unix_listener(path: Path, group: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_socket():
            if _is_served(path):
                raise HostError(f"http.socket {path}: in use by another program, expected one of its own")
            path.unlink()
        listener.bind(str(path))
        os.chown(path, -1, group)
        path.chmod(SOCKET_MODE)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise HostError(f"http.socket {path}: {error.strerror or error}") from error
    except HostError:
        listener.close()
        raise
    return listener


def _is_served(path: Path) -> bool:
    """Whether somebody listens there; the socket that a killed daemon left behind refuses."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as door:
        return door.connect_ex(str(path)) in (0, errno.EAGAIN)


def _tcp_listener(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise HostError(
            f"http tcp {address}:{port}: {error.strerror}, expected a free port on an own address"
        ) from error
    return listener


def _check_certificate(settings: HttpSettings) -> None:
    """Now, and not when the first client comes."""
    if settings.certificate is None or settings.key is None:
        return
    try:
        if stat.S_IMODE(settings.key.stat().st_mode) & 0o007:
            raise ConfigurationError(
                "http.key", str(settings.key), "a file that not everybody may use (chmod 600)"
            )
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.certificate, settings.key)
    except OSError as error:  # also what the TLS library says
        raise HostError(
            f"http.certificate {settings.certificate}, http.key {settings.key}: {error.strerror or error}"
        ) from error


def _uid(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ConfigurationError("http.users", name, "a user of this host") from None


def _gid(key: str, name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigurationError(key, name, "a group of this host") from None


def _socket_group(settings: HttpSettings) -> int:
    return _gid("http.group", settings.group) if settings.group else os.getegid()
