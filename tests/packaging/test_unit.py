from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from mp.priority import REAL_TIME_PRIORITY
from tests.packaging.call_filter import allowed_calls

PACKAGING = Path(__file__).parents[2] / "packaging"
UNIT = PACKAGING / "systemd" / "inpath.service"
GREATEST_EXPOSURE = 2.5
"""Of 10, as systemd-analyze counts; a service without any of this has 9.6."""


def setting(key: str) -> list[str]:
    return re.findall(rf"(?m)^{key}=(.*)$", UNIT.read_text())


def test_the_daemon_has_three_capabilities_and_no_way_to_more() -> None:
    wanted = {"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_NET_BIND_SERVICE"}
    assert set(setting("AmbientCapabilities")[0].split()) == wanted
    assert set(setting("CapabilityBoundingSet")[0].split()) == wanted
    assert setting("NoNewPrivileges") == ["yes"]
    assert setting("User") == ["inpath"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("RestrictNamespaces", "yes"),
        ("SystemCallArchitectures", "native"),
    ],
)
def test_the_rest_of_the_machine_is_closed_to_it(key: str, value: str) -> None:
    assert setting(key) == [value]


@pytest.mark.parametrize("call", ["clock_adjtime", "capset", "chown", "setpriority", "sched_setscheduler"])
def test_the_calls_that_the_daemon_needs_stay_allowed(call: str) -> None:
    assert call in allowed_calls(UNIT.read_text())
    assert setting("ProtectClock") == []


@pytest.mark.parametrize("call", ["mount", "bpf", "init_module", "ptrace", "reboot", "settimeofday", "pivot_root"])
def test_the_calls_that_it_never_needs_are_refused(call: str) -> None:
    assert call not in allowed_calls(UNIT.read_text())


def test_packets_may_come_first_and_nothing_may_go_further() -> None:
    assert setting("LimitRTPRIO") == [str(REAL_TIME_PRIORITY)]
    assert setting("RestrictRealtime") == []


def test_systemd_waits_for_the_daemons_word_and_watches_it() -> None:
    assert setting("Type") == ["notify"]
    assert 10 <= int(setting("WatchdogSec")[0]) <= 60


def test_systemd_finds_nothing_to_complain_of_and_little_that_is_open(tmp_path: Path) -> None:
    unit = tmp_path / "inpath.service"
    unit.write_text(UNIT.read_text().replace("/opt/inpath/bin/inpath", "/bin/true"))
    verified = subprocess.run(
        ("systemd-analyze", "verify", "--man=no", unit), capture_output=True, text=True, timeout=30
    )
    assert "inpath" not in verified.stdout + verified.stderr
    judged = subprocess.run(
        ("systemd-analyze", "security", "--offline=true", "--no-pager", UNIT),
        capture_output=True,
        text=True,
        timeout=30,
    )
    (exposure,) = re.findall(r"Overall exposure level for inpath.service: ([0-9.]+)", judged.stdout)
    assert float(exposure) <= GREATEST_EXPOSURE


def test_user_and_directories_are_those_of_the_unit() -> None:
    directories = (PACKAGING / "systemd" / "inpath.tmpfiles").read_text()
    assert re.findall(r"(?m)^d +(\S+) +0750 inpath inpath", directories) == ["/run/inpath", "/var/lib/inpath"]
    assert setting("StateDirectory") == setting("RuntimeDirectory") == ["inpath"]
    assert re.search(r"(?m)^u +inpath +- ", (PACKAGING / "systemd" / "inpath.sysusers").read_text())


@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_a_maintainer_script_is_one_that_the_shell_reads_and_stops_at_errors(name: str) -> None:
    script = PACKAGING / "debian" / name
    assert script.read_text().startswith("#!/bin/sh\nset -e\n")
    assert subprocess.run(("sh", "-n", script), timeout=10, check=False).returncode == 0
