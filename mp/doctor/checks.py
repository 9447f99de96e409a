"""What a host must give a measurement point, judged: facts in, findings out.

Facts come from `doctor_facts.py`. A fact that is None could not be looked at, mostly for want of rights; that is a
warning, never an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from interceptor.packet import maximum_payload
from interceptor.packet_queue import LONGEST_PACKET_BYTES
from mp.doctor.facts import SERVICE_USER, KeyFile, Port, RuleTrial, StateDirectory
from mp.doctor.finding import Finding, error, ok, warning
from mp.settings import PointSettings
from prober.clock_state import ClockState
from schemas.errors import HostError, InpathError, StoreError

AS_ROOT = "run the doctor as root to see it"
LEAST_FREE_BYTES = 10_000_000
"""Enough for a thousand results to wait for the database."""
USUAL_FREE_BYTES = 500_000_000
GOOD_CLOCK_MS = 5.0
"""What NTP keeps across a good wide-area network; PTP is a thousand times better."""
USUAL_MTU_BYTES = 1280
"""Below it, requests that cross many points are split into parts."""
_BITS = {10: "CAP_NET_BIND_SERVICE", 12: "CAP_NET_ADMIN", 13: "CAP_NET_RAW"}
_STRICT = 1


def judge_configuration(origin: str, point: PointSettings | None, refusal: InpathError | None) -> Finding:
    """The file, as `inpath mp run` would read it."""
    if refusal is not None and isinstance(refusal.__cause__, PermissionError):
        return warning("configuration", str(refusal), f"{AS_ROOT}; the defaults are looked at instead")
    if refusal is not None:
        return error("configuration", str(refusal), "correct that key (see `inpath mp example-config`)")
    if point is None:
        return error(
            "configuration", f"{origin} has no table [point]", "give it `[point]` with this host's address"
        )
    return ok("configuration", f"{origin}, point {point.name} at {point.address}")


def judge_secrecy(mode: int | None, *, has_password: bool) -> Finding:
    """Who may read the configuration file."""
    if mode is None or not has_password:
        return ok("configuration file", "holds no password")
    if mode & 0o007:
        return warning(
            "configuration file",
            f"holds a password, mode {mode:04o}",
            "chmod o= it, so that others cannot read it",
        )
    return ok("configuration file", f"holds a password, mode {mode:04o}")


def judge_address(address: str, own: Sequence[str]) -> Finding:
    """Whether the point's address is here."""
    if address in own:
        return ok("address", address)
    return error("address", f"{address} is none of {', '.join(own)}", "add it to loopback, or set point.address")


def judge_capabilities(effective: int, *, is_root: bool, needs_low_port: bool) -> Finding:
    """What this process may do, which the daemon needs too."""
    needed = [name for bit, name in _BITS.items() if bit != 10 or needs_low_port]
    missing = [name for bit, name in _BITS.items() if name in needed and not effective >> bit & 1]
    if not missing:
        return ok("capabilities", f"{', '.join(needed)} are there")
    if is_root:
        found = f"{', '.join(missing)} missing although this is root"
        return error("capabilities", found, "grant them to the container or to the service")
    return warning(
        "capabilities", f"{', '.join(missing)} missing here", "the service has its own; as root is seen"
    )


def judge_interception(trials: Mapping[str, RuleTrial], wanted: str) -> Finding:
    """By which back end packets would be queued.

    Args:
        trials: by name of the back end, the preferred one first.
        wanted: `measurement.rules`.
    """
    considered = {name: trial for name, trial in trials.items() if wanted in (name, "auto")}
    for name, trial in considered.items():
        if trial.is_taken:
            others = [other for other, trial in trials.items() if not trial.is_taken]
            beside = f", not by {' or '.join(others)}" if others else ""
            return ok("interception", f"the kernel takes the rule by {name}{beside}")
    reasons = "; ".join(f"{name}: {trial.refusal}" for name, trial in considered.items())
    if not any(trial.is_certain for trial in considered.values()):
        return warning("interception", f"could not be tried ({reasons})", AS_ROOT)
    other = next((name for name, trial in trials.items() if trial.is_taken), None)
    if other is not None:
        return error("interception", reasons, f'set measurement.rules = "{other}", which works here')
    return error(
        "interception", reasons, "install nftables with module nft_queue, or iptables with xt_u32 and xt_NFQUEUE"
    )


def judge_queue(number: int, taken: Sequence[int] | None, *, daemon_runs: bool) -> Finding:
    """Whether the netfilter queue is free."""
    if taken is None:
        return warning("queue", f"could not see whether queue {number} is free", AS_ROOT)
    if number not in taken:
        return ok("queue", f"{number} is {'not listed' if daemon_runs else 'free'}")
    if daemon_runs:
        return ok("queue", f"{number} is the daemon's")
    return error("queue", f"{number} belongs to another program", "set measurement.queue to another number")


def judge_forwarding(is_on: bool | None) -> Finding:
    """Whether this host is a router."""
    if is_on is None:
        return warning("forwarding", "could not be read", "see that /proc/sys is there")
    if is_on:
        return ok("forwarding", "IPv4 forwarding is on")
    return warning(
        "forwarding",
        "IPv4 forwarding is off: only a first or last point",
        "on a router: sysctl net.ipv4.ip_forward=1",
    )


def judge_rp_filter(modes: Mapping[str, int]) -> Finding:
    """Whether packets of an asymmetric path would be dropped (RFC 3704).

    Args:
        modes: by interface, and `all`; the greater of the two holds (ip-sysctl).
    """
    strict = sorted(
        name for name, mode in modes.items() if name != "all" and max(mode, modes.get("all", 0)) == _STRICT
    )
    if not strict:
        return ok("rp_filter", "no interface filters strictly by reverse path")
    return warning(
        "rp_filter",
        f"strict on {', '.join(strict)}: packets of asymmetric paths are dropped",
        "set net.ipv4.conf.*.rp_filter=2 there if paths may differ by direction",
    )


def judge_clock(clock: ClockState) -> Finding:
    """How far one-way delays can be believed."""
    if not clock.synchronized:
        return warning(
            "clock",
            "not synchronized: one-way delays will say so, round trips are right",
            "run chrony, NTP or PTP",
        )
    found = f"synchronized, error at most {clock.error_ms:g} ms"
    if clock.error_ms > GOOD_CLOCK_MS:
        return warning("clock", found, "one-way delays are no better than that: choose a nearer time server")
    return ok("clock", found)


def judge_mtu(smallest_bytes: int) -> Finding:
    """How much room a request has."""
    room = maximum_payload(min(smallest_bytes, LONGEST_PACKET_BYTES))
    found = f"smallest MTU {smallest_bytes}, room for {room} octets of a request"
    if smallest_bytes < USUAL_MTU_BYTES:
        return warning("mtu", found, "long paths need requests in parts: raise the MTU if the link can")
    return ok("mtu", found)


def judge_port(port: Port, refusal: str | None, *, is_forbidden: bool, daemon_runs: bool) -> Finding:
    """Whether a port can be taken.

    Args:
        refusal: what the kernel said; None if it gave the port.
        is_forbidden: it said so for want of rights.
    """
    name = f"port {port.purpose}"
    where = f"{port.protocol} {port.address}:{port.number}"
    if refusal is None:
        return ok(name, f"{where} is free")
    if daemon_runs and "in use" in refusal:
        return ok(name, f"{where} is in use, as by the daemon")
    if is_forbidden:
        return warning(name, f"{where} could not be tried: {refusal}", AS_ROOT)
    return error(name, f"{where}: {refusal}", f"end what uses it (ss -lnp), or set {port.key}")


def judge_database(name: str, revision: str | None, head: str, refusal: StoreError | None) -> Finding:
    """Whether results can be stored.

    Args:
        name: the URL without secrets.
        revision: of its tables; None before there are any.
        head: the revision of this version.
    """
    if refusal is not None:
        return warning("database", str(refusal), "results wait in the spool until it is there: see store.url")
    if revision is None:
        return ok("database", f"{name} is empty, its tables will be made")
    if revision > head:
        found = f"{name} has revision {revision}, this version knows {head}"
        return error("database", found, "install the newer version of inpath that made it")
    if revision < head:
        return ok("database", f"{name} has revision {revision}, will be brought to {head} (back it up before)")
    return ok("database", f"{name} has revision {revision}")


def judge_state_directory(directory: StateDirectory, *, is_root: bool) -> Finding:
    """Whether spool and embedded database have a place."""
    check, path = "state directory", directory.path
    if not directory.is_writable:
        if is_root:
            return error(check, f"{path} cannot be written", "mount it writable, or set point.state_dir")
        return warning(check, f"{path} cannot be written by this user", AS_ROOT)
    found = f"{path}{'' if directory.exists else ' will be made'}, {directory.free_bytes / 1e6:.0f} MB free"
    if directory.free_bytes < LEAST_FREE_BYTES:
        return error(check, found, "free some: results could not be made durable")
    if directory.free_bytes < USUAL_FREE_BYTES:
        return warning(check, found, "free some: results of a long outage of the database need room")
    return ok(check, found)


def judge_key(key: KeyFile, *, has_keys: bool) -> Finding:
    """Whether the probes' own key can be used.

    Args:
        key: what is known of its file.
        has_keys: there are others, by which probes between points that share one are authenticated without it.
    """
    check = "key of probes"
    if key.path is None:
        told = (
            "probes are authenticated where both points share a key"
            if has_keys
            else "probes are not authenticated"
        )
        return ok(check, f"none of their own is set: {told}")
    match key.refusal:
        case None if not key.is_of_service:
            found = f"{key.path} is private, but not the service's"
            return warning(check, found, f"chown {SERVICE_USER} it, which alone may read it")
        case None:
            return ok(check, f"{key.path} is private and holds a key")
        case HostError() if key.is_forbidden:
            return warning(check, str(key.refusal), AS_ROOT)
        case refusal:
            return error(check, str(refusal), "make it with 64 random hexadecimal digits and mode 0400")


def judge_keyring(keys: Mapping[str, str], *, is_required: bool, refusal: InpathError | None) -> Finding:
    """Whether messages can be signed.

    Args:
        keys: what each does, by its id.
        is_required: nothing unsigned is measured.
        refusal: why they cannot be read.
    """
    if refusal is not None:
        return error("keys", str(refusal), "see docs/keys.md: directory and files belong to the service alone")
    if keys:
        return ok("keys", ", ".join(f"{key_id} ({state})" for key_id, state in sorted(keys.items())))
    if is_required:
        return error("keys", "there is none, and authentication is required", "make one: inpath keys new")
    return warning("keys", "there is none: any router can change an answer", "make one: inpath keys new")


def judge_daemon(status: Mapping[str, Any] | None, refusal: InpathError | None, installed: str) -> Finding:
    """Whether the daemon runs and is this version.

    Args:
        status: its own account.
        refusal: why there is none.
        installed: the version of this command.
    """
    if status is None:
        return warning("daemon", str(refusal), "start it: systemctl start inpath (or read its log)")
    process = status["packet_process"]
    found = f"version {status['version']} up {status['uptime_s']:.0f} s, rules {process['rules']}"
    if process["pid"] is None:
        return error("daemon", f"{found}, packet process gone", "read its log: journalctl -u inpath")
    if status["version"] != installed:
        return warning("daemon", found, f"restart it to run version {installed}")
    if process["restarts"]:
        found += f", packet process restarted {process['restarts']} times"
        return warning("daemon", found, "read its log: journalctl -u inpath")
    return ok("daemon", found)
