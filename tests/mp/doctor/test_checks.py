from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mp.doctor import checks
from mp.doctor.facts import KeyFile, Port, RuleTrial, StateDirectory, has_password, trial_from_refusal
from mp.doctor.finding import Finding, Level, error, exit_code, findings_text, ok, warning
from mp.settings import PointSettings
from prober.clock_state import ClockState
from schemas.errors import ConfigurationError, HostError, StoreError, UsageError

POINT = PointSettings(address="192.0.2.1", name="border-1", area="", serves=(), state_dir=Path("/x"))
TAKEN = RuleTrial(None, is_certain=True)
REFUSED = RuleTrial("no nft_queue", is_certain=True)
UNTRIED = RuleTrial("not permitted", is_certain=False)
PROBES = Port(purpose="of probes", protocol="udp", address="192.0.2.1", number=862, key="probe.port")
STATUS: dict[str, Any] = {
    "version": "1.2",
    "uptime_s": 61.0,
    "packet_process": {"pid": 7, "rules": "iptables", "restarts": 0},
}
ALL_THREE = 1 << 10 | 1 << 12 | 1 << 13


def state(*, free_bytes: int = 10**9, is_writable: bool = True, exists: bool = True) -> StateDirectory:
    return StateDirectory(
        path=Path("/var/lib/inpath"), exists=exists, is_writable=is_writable, free_bytes=free_bytes
    )


def status(**process: Any) -> dict[str, Any]:
    return {**STATUS, "packet_process": {**STATUS["packet_process"], **process}}


@pytest.mark.parametrize(
    ("finding", "level", "words"),
    [
        (checks.judge_configuration("f.toml", POINT, None), "ok", "f.toml, point border-1 at 192.0.2.1"),
        (checks.judge_configuration("f.toml", None, None), "error", "f.toml has no table [point]"),
        (
            checks.judge_configuration("f", None, ConfigurationError("probe.port", 0, "1 to 65535")),
            "error",
            "probe.port: got 0, expected 1 to 65535",
        ),
        (checks.judge_secrecy(0o644, has_password=False), "ok", "holds no password"),
        (checks.judge_secrecy(0o640, has_password=True), "ok", "mode 0640"),
        (checks.judge_secrecy(0o644, has_password=True), "warning", "mode 0644"),
        (checks.judge_address("192.0.2.1", ("127.0.0.1", "192.0.2.1")), "ok", "192.0.2.1"),
        (checks.judge_address("192.0.2.1", ("127.0.0.1",)), "error", "192.0.2.1 is none of 127.0.0.1"),
        (checks.judge_capabilities(ALL_THREE, is_root=True, needs_low_port=True), "ok", "CAP_NET_RAW"),
        (checks.judge_capabilities(1 << 12 | 1 << 13, is_root=False, needs_low_port=False), "ok", "CAP_NET_ADMIN"),
        (
            checks.judge_capabilities(1 << 12, is_root=True, needs_low_port=True),
            "error",
            "CAP_NET_BIND_SERVICE, CAP_NET_RAW missing although",
        ),
        (checks.judge_capabilities(0, is_root=False, needs_low_port=False), "warning", "CAP_NET_ADMIN"),
        (
            checks.judge_interception({"nft": REFUSED, "iptables": TAKEN}, "auto"),
            "ok",
            "by iptables, not by nft",
        ),
        (checks.judge_interception({"nft": TAKEN, "iptables": TAKEN}, "iptables"), "ok", "by iptables"),
        (checks.judge_interception({"nft": REFUSED, "iptables": TAKEN}, "nft"), "error", "nft: no nft_queue"),
        (checks.judge_interception({"nft": REFUSED, "iptables": REFUSED}, "auto"), "error", "iptables: no nft"),
        (checks.judge_interception({"nft": UNTRIED, "iptables": UNTRIED}, "auto"), "warning", "not be tried"),
        (checks.judge_queue(4986, (), daemon_runs=False), "ok", "4986 is free"),
        (checks.judge_queue(4986, (1, 4986), daemon_runs=True), "ok", "the daemon's"),
        (checks.judge_queue(4986, (4986,), daemon_runs=False), "error", "belongs to another program"),
        (checks.judge_queue(4986, None, daemon_runs=False), "warning", "could not see"),
        (checks.judge_forwarding(True), "ok", "is on"),
        (checks.judge_forwarding(False), "warning", "only a first or last point"),
        (checks.judge_forwarding(None), "warning", "could not be read"),
        (checks.judge_rp_filter({"all": 0, "eth0": 0}), "ok", "no interface"),
        (checks.judge_rp_filter({"all": 2, "eth0": 1}), "ok", "no interface"),
        (checks.judge_rp_filter({"all": 1, "eth0": 0, "eth1": 2}), "warning", "strict on eth0:"),
        (checks.judge_clock(ClockState(synchronized=True, error_ms=0.1)), "ok", "error at most 0.1 ms"),
        (checks.judge_clock(ClockState(synchronized=True, error_ms=40)), "warning", "at most 40 ms"),
        (checks.judge_clock(ClockState(synchronized=False, error_ms=16_000)), "warning", "not synchronized"),
        (checks.judge_mtu(1500), "ok", "smallest MTU 1500, room for 1468"),
        (checks.judge_mtu(65_535), "ok", "smallest MTU 65535"),
        (checks.judge_mtu(576), "warning", "room for 544"),
        (checks.judge_port(PROBES, None, is_forbidden=False, daemon_runs=False), "ok", "862 is free"),
        (checks.judge_port(PROBES, "in use", is_forbidden=False, daemon_runs=True), "ok", "by the daemon"),
        (checks.judge_port(PROBES, "in use", is_forbidden=False, daemon_runs=False), "error", "862: in use"),
        (checks.judge_port(PROBES, "no such address", is_forbidden=False, daemon_runs=True), "error", "no such"),
        (checks.judge_port(PROBES, "denied", is_forbidden=True, daemon_runs=False), "warning", "not be tried"),
        (checks.judge_database("sqlite:///x", "0003", "0003", None), "ok", "has revision 0003"),
        (checks.judge_database("sqlite:///x", None, "0003", None), "ok", "tables will be made"),
        (checks.judge_database("sqlite:///x", "0002", "0003", None), "ok", "brought to 0003"),
        (checks.judge_database("sqlite:///x", "0004", "0003", None), "error", "this version knows 0003"),
        (checks.judge_database("m", None, "0003", StoreError("m: refused")), "warning", "m: refused"),
        (checks.judge_state_directory(state(), is_root=True), "ok", "/var/lib/inpath, 1000 MB free"),
        (checks.judge_state_directory(state(exists=False), is_root=True), "ok", "will be made"),
        (checks.judge_state_directory(state(free_bytes=10**8), is_root=True), "warning", "100 MB"),
        (checks.judge_state_directory(state(free_bytes=10**6), is_root=True), "error", "1 MB"),
        (checks.judge_state_directory(state(is_writable=False), is_root=True), "error", "cannot be written"),
        (checks.judge_state_directory(state(is_writable=False), is_root=False), "warning", "by this user"),
        (checks.judge_key(KeyFile(path=None), has_keys=False), "ok", "not authenticated"),
        (checks.judge_key(KeyFile(path=None), has_keys=True), "ok", "authenticated where both points share a key"),
        (checks.judge_key(KeyFile(path=Path("/k")), has_keys=True), "ok", "/k is private"),
        (
            checks.judge_key(KeyFile(path=Path("/k"), is_of_service=False), has_keys=True),
            "warning",
            "not the service's",
        ),
        (
            checks.judge_key(KeyFile(path=Path("/k"), refusal=HostError("no such file")), has_keys=True),
            "error",
            "no such file",
        ),
        (
            checks.judge_key(
                KeyFile(path=Path("/k"), refusal=HostError("denied"), is_forbidden=True), has_keys=True
            ),
            "warning",
            "denied",
        ),
        (
            checks.judge_key(
                KeyFile(path=Path("/k"), refusal=UsageError("key file", "mode 0644", "0600")), has_keys=True
            ),
            "error",
            "mode 0644",
        ),
        (checks.judge_keyring({"a1": "active"}, is_required=True, refusal=None), "ok", "a1 (active)"),
        (checks.judge_keyring({}, is_required=False, refusal=None), "warning", "there is none"),
        (checks.judge_keyring({}, is_required=True, refusal=None), "error", "is required"),
        (checks.judge_keyring({}, is_required=False, refusal=HostError("denied")), "error", "denied"),
        (checks.judge_daemon(STATUS, None, "1.2"), "ok", "version 1.2 up 61 s, rules iptables"),
        (checks.judge_daemon(None, HostError("nobody there"), "1.2"), "warning", "nobody there"),
        (checks.judge_daemon(STATUS, None, "1.3"), "warning", "version 1.2"),
        (checks.judge_daemon(status(restarts=2), None, "1.2"), "warning", "restarted 2 times"),
        (checks.judge_daemon(status(pid=None), None, "1.2"), "error", "packet process gone"),
    ],
)
def test_each_outcome_has_its_level_says_what_was_found_and_advises(
    finding: Finding, level: str, words: str
) -> None:
    assert (finding.level, words in finding.found) == (level, True), finding
    assert bool(finding.advice) == (level != "ok")
    assert "\n" not in finding.found + finding.advice


@pytest.mark.parametrize(
    ("text", "as_root", "trial"),
    [
        (
            "unshare --net -- nft --check: failed with code 1: Could not process rule",
            True,
            RuleTrial("nft --check: failed with code 1: Could not process rule", is_certain=True),
        ),
        (
            "unshare --user --net -- nft --check: failed with code 1: Could not process rule",
            False,
            RuleTrial("nft --check: failed with code 1: Could not process rule", is_certain=False),
        ),
        (
            "unshare --net -- nft -f: failed with code 127: unshare: failed to execute nft: No such file",
            False,
            RuleTrial("nft is not installed", is_certain=True),
        ),
        (
            "unshare --net -- nft -f: failed with code 1: unshare: unshare failed: Operation not permitted",
            True,
            RuleTrial("nft -f: failed with code 1: unshare: unshare failed: Operation not permitted", False),
        ),
    ],
)
def test_a_refusal_of_the_firewall_is_told_from_one_of_the_namespace(
    text: str, as_root: bool, trial: RuleTrial
) -> None:
    assert trial_from_refusal(text, as_root=as_root) == trial


def test_only_a_password_makes_a_secret_of_the_configuration() -> None:
    assert has_password("mysql+pymysql://inpath:secret@db/inpath")
    assert not has_password("mysql+pymysql://inpath@db/inpath")
    assert not has_password("sqlite:////var/lib/inpath/results.db")


def test_only_an_error_makes_the_exit_code_one() -> None:
    assert exit_code([]) == exit_code([ok("a", "b"), warning("c", "d", "e")]) == 0
    assert exit_code([ok("a", "b"), error("c", "d", "e")]) == 1


def test_people_read_a_line_for_each_finding_its_advice_and_a_sum() -> None:
    text = findings_text([ok("clock", "good"), error("key", "bad", "mend it")])
    assert text.splitlines() == [
        "ok       clock  good",
        "error    key    bad",
        "                -> mend it",
        "2 checks: 1 ok, 0 warning, 1 error",
    ]


def test_programs_read_the_same() -> None:
    assert warning("clock", "bad", "mend it").to_json() == {
        "check": "clock",
        "level": str(Level.WARNING),
        "found": "bad",
        "advice": "mend it",
    }
