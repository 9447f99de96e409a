"""What the doctor looks at, without changing anything: thin, each one fact of the host."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import re
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interceptor.firewall import CommandRunner, InterceptionRule, IptablesRules, NftRules, run_command
from mp.keys.directory import read_keyring
from mp.keys.settings import SecuritySettings
from mp.settings import Configuration
from prober.stamp.authentication import StampKey
from receiver.store.database import Database
from receiver.store.schema_version import current_revision
from requestor.client import Client
from schemas.errors import HostError, InpathError, StoreError, UsageError

SERVICE_USER = "inpath"
"""As in `packaging/systemd`."""
_SETTINGS = Path("/proc/sys/net/ipv4")
_QUEUES = Path("/proc/thread-self/net/netfilter/nfnetlink_queue")
_SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True)
class RuleTrial:
    """What the kernel said of the rule by one back end."""

    refusal: str | None
    """None: it takes the rule."""
    is_certain: bool
    """False: rights were missing, or only a user namespace could be tried, where modules are not loaded."""

    @property
    def is_taken(self) -> bool:
        """Whether this back end works."""
        return self.refusal is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port that the daemon takes."""

    purpose: str
    protocol: str
    address: str
    number: int
    key: str
    """Where it is configured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateDirectory:
    """Where the spool is."""

    path: Path
    exists: bool
    is_writable: bool
    """It, or the nearest directory above it that exists."""
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFile:
    """The key of the probes."""

    path: Path | None
    refusal: InpathError | None = None
    is_forbidden: bool = False
    """This user may not read it."""
    is_of_service: bool = True
    """It belongs to the user of the service, or there is no such user here."""


def is_root() -> bool:
    """Whether this process is the superuser."""
    return os.geteuid() == 0


def effective_capabilities() -> int:
    """The bits of linux/capability.h that this process has."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), 16)


def in_throw_away_namespace(*, as_root: bool) -> CommandRunner:
    """Runs programs in a network namespace of their own, which goes with them: no rule of the host is touched."""
    inside = ("unshare", "--net", "--") if as_root else ("unshare", "--user", "--map-root-user", "--net", "--")

    def run(arguments: Sequence[str], stdin: str = "") -> str:
        return run_command((*inside, *arguments), stdin)

    return run


def try_rules(rule: InterceptionRule, *, as_root: bool) -> Mapping[str, RuleTrial]:
    """Show the rule to the kernel by each back end, in the order in which the daemon would choose."""
    run = in_throw_away_namespace(as_root=as_root)
    trials = {}
    for backend in (NftRules(run), IptablesRules(run)):
        try:
            backend.probe(rule)
        except HostError as error:
            trials[backend.name] = trial_from_refusal(str(error), as_root=as_root)
        else:
            trials[backend.name] = RuleTrial(None, is_certain=True)
    return trials


def trial_from_refusal(text: str, *, as_root: bool) -> RuleTrial:
    """Tell what the firewall refused from what the namespace around it did."""
    refusal = text.partition(" -- ")[2] or text
    if "unshare: failed to execute" in refusal:
        return RuleTrial(f"{refusal.split()[0]} is not installed", is_certain=True)
    return RuleTrial(refusal, is_certain=as_root and "unshare: " not in refusal)


def taken_queues() -> tuple[int, ...] | None:
    """Numbers of the netfilter queues of this namespace that somebody listens to."""
    try:
        return tuple(int(line.split()[0]) for line in _QUEUES.read_text().splitlines())
    except PermissionError:
        return None
    except OSError:  # no program has used a queue yet, so that the kernel's module is not there
        return ()


def forwards() -> bool | None:
    """Whether the kernel forwards IPv4."""
    try:
        return (_SETTINGS / "ip_forward").read_text().strip() == "1"
    except OSError:
        return None


def rp_filters() -> dict[str, int]:
    """By interface, and `all`: 0 off, 1 strict, 2 loose."""
    modes = {}
    for file in _SETTINGS.glob("conf/*/rp_filter"):
        if file.parent.name not in ("default", "lo"):
            with contextlib.suppress(OSError):  # an interface may go at any moment
                modes[file.parent.name] = int(file.read_text())
    return modes


def ports_of(configuration: Configuration, address: str) -> tuple[Port, ...]:
    """What the daemon listens on."""
    measurement = configuration.measurement
    ports = [
        Port(purpose=purpose, protocol=protocol, address=address, number=number, key=key)
        for purpose, protocol, number, key in (
            ("of requests", "udp", measurement.port, "measurement.port"),
            ("of reports", "tcp", measurement.port, "measurement.port"),
            ("of probes", "udp", configuration.probe.port, "probe.port"),
        )
    ]
    if configuration.knowledge.is_enabled:
        number = configuration.knowledge.port
        ports.append(
            Port(purpose="of knowledge", protocol="udp", address=address, number=number, key="knowledge.port")
        )
    if configuration.bandwidth.is_enabled:
        number = configuration.bandwidth.port
        ports.append(
            Port(purpose="of streams", protocol="udp", address=address, number=number, key="bandwidth.port")
        )
    listeners = (
        ("of the service", "service", configuration.service),
        ("of HTTP", "http", configuration.http),
        ("of metrics", "metrics", configuration.metrics),
    )
    for purpose, table, settings in listeners:
        if settings.listen is not None:
            ports.append(
                Port(
                    purpose=purpose,
                    protocol="tcp",
                    address=settings.listen,
                    number=settings.port,
                    key=f"{table}.port",
                )
            )
    return tuple(ports)


def try_port(port: Port) -> tuple[str | None, bool]:
    """Take a port and give it back at once: what the kernel says against it, and whether for want of rights."""
    kind = socket.SOCK_DGRAM if port.protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as door:
        if kind is socket.SOCK_STREAM:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the daemon does
        try:
            door.bind((port.address, port.number))
        except OSError as error:
            return os.strerror(error.errno or 0).lower(), error.errno == errno.EACCES
    return None, False


def has_password(url: str) -> bool:
    """Whether the URL of a database holds one."""
    return re.search("://[^/@]*:[^/@]+@", url) is not None


def database_revision(url: str) -> tuple[str, str | None, StoreError | None]:
    """Name of the database, revision of its tables, and why that cannot be told; makes no file."""
    path = Path(url.removeprefix(_SQLITE).partition("?")[0])
    try:
        if url.startswith(_SQLITE) and not path.exists():
            return f"{_SQLITE}{path}", None, None
        database = Database(url)
    except (StoreError, PermissionError) as error:
        refusal = error if isinstance(error, StoreError) else StoreError(f"{path}: {error.strerror}")
        return url.partition(":")[0], None, refusal
    try:
        return database.name, current_revision(database), None
    except StoreError as error:
        return database.name, None, error
    finally:
        database.close()


def state_directory(path: Path) -> StateDirectory:
    """Look at it, or at where it would be made."""
    exists = os.access(path, os.F_OK)
    nearest = next(one for one in (path.absolute(), *path.absolute().parents) if os.access(one, os.F_OK))
    return StateDirectory(
        path=path,
        exists=exists,
        is_writable=os.access(nearest, os.W_OK | os.X_OK),
        free_bytes=shutil.disk_usage(nearest).free,
    )


def key_file(path: Path | None) -> KeyFile:
    """Read it as the daemon would."""
    if path is None:
        return KeyFile(path=None)
    try:
        StampKey.from_file(path)
    except (HostError, UsageError) as error:
        return KeyFile(path=path, refusal=error, is_forbidden=isinstance(error.__cause__, PermissionError))
    return KeyFile(path=path, is_of_service=path.stat().st_uid in service_users())


def keyring(settings: SecuritySettings) -> tuple[dict[str, str], InpathError | None]:
    """What each key does, by its id; and why they cannot be read, if they cannot."""
    try:
        return {key.id: str(key.identity.state) for key in read_keyring(settings).keys}, None
    except InpathError as error:
        return {}, error


def service_users() -> tuple[int, ...]:
    """Who the daemon may be: the user of the packaged service, or without the package whoever asks."""
    try:
        return (pwd.getpwnam(SERVICE_USER).pw_uid,)
    except KeyError:
        return (os.geteuid(),)


def mode_of(path: Path) -> int | None:
    """Permission bits of a file, None if it is not there."""
    try:
        return path.stat().st_mode & 0o7777
    except OSError:
        return None


def daemon_status(path: Path) -> tuple[Mapping[str, Any] | None, InpathError | None]:
    """What the daemon says of itself, or why it does not."""
    try:
        with Client(path) as client:
            return client.status(), None
    except InpathError as error:
        return None, error
