"""Each test gives privileges away in a process of its own, since none can be had back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from mp.config import configuration_from_toml
from mp.privileges import (
    NETWORK,
    OTHER_USER,
    Capability,
    HeldPrivileges,
    configured_ports,
    require_capabilities,
    user_entry,
)
from schemas.errors import ConfigurationError, HostError

ALONE = '[point]\naddress = "10.0.0.1"\n[probe]\nport = 8620\n[http]\nenabled = false\n'
POINT = '[point]\naddress = "10.0.0.1"\n'
BEGINNING = """
import ctypes, json, os, resource, subprocess, sys
from dataclasses import asdict
from mp import privileges
from mp.config import configuration_from_toml
from mp.privileges import *
from schemas.errors import HostError
def tell(value): print(json.dumps(value))
libc = ctypes.CDLL(None, use_errno=True)
STATUS = "import json; from dataclasses import asdict; from mp.privileges import *; "
STATUS += "print(json.dumps(asdict(HeldPrivileges.of())))"
def heir(): return json.loads(subprocess.check_output([sys.executable, "-c", STATUS]))
"""


REAL_TIME = """
resource.setrlimit = lambda *_: None  # as if the limit could, or could not, be raised
resource.getrlimit = lambda _: ({limit}, {limit})
"""


def told(story: str) -> Any:
    """What a process of root's says that has lived the story."""
    done = subprocess.run(
        [sys.executable, "-c", BEGINNING + story], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def bits(*capabilities: Capability) -> int:
    return sum(1 << one for one in capabilities)


NETWORK_BITS = bits(*NETWORK)


def test_what_is_not_kept_is_gone_for_good_and_for_all_that_is_started() -> None:
    own, started = told("drop_to(NETWORK); tell([asdict(HeldPrivileges.of()), heir()])")
    assert own == {
        "effective": NETWORK_BITS,
        "permitted": NETWORK_BITS,
        "inheritable": NETWORK_BITS,
        "bounding": 0,
        "ambient": 0,
        "no_new_privileges": True,
        "is_filtered": False,
    }
    assert started == own


def test_nothing_can_be_had_back() -> None:
    story = f"""
drop_to(NETWORK)
header = (ctypes.c_uint32 * 2)(privileges._CAPABILITY_VERSION_3, 0)
took = libc.capset(header, (ctypes.c_uint32 * 6)({(1 << 32) - 1}, {(1 << 32) - 1}, 0, 0, 0, 0))
tell([took, HeldPrivileges.of().permitted])
"""
    assert told(story) == [-1, NETWORK_BITS]


def test_another_user_than_root_has_nothing_unless_it_is_passed_on() -> None:
    """A daemon with file capabilities or systemd's: here, a process that kept its own over a change of user."""
    story = """
libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
os.setresuid(65534, 65534, 65534)
def status():
    lines = subprocess.check_output(["cat", "/proc/self/status"], text=True).splitlines()
    return {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Cap")}
"""
    without, passed = told(story + "drop_to(NETWORK); one = status(); pass_on(NETWORK); tell([one, status()])")
    assert int(without["CapEff"], 16) == 0
    assert (int(passed["CapEff"], 16), int(passed["CapPrm"], 16)) == (NETWORK_BITS, NETWORK_BITS)
    heirs = told(story + "drop_to(NETWORK, heirs=True); tell(status())")
    assert int(heirs["CapEff"], 16) == NETWORK_BITS


def test_what_was_not_there_cannot_be_kept() -> None:
    story = """
drop_to(frozenset({Capability.NET_RAW}))
try:
    drop_to(NETWORK)
except HostError as error:
    tell(str(error))
"""
    assert "CAP_NET_ADMIN missing" in told(story)


def test_the_packet_process_may_start_the_firewall_again_at_its_end() -> None:
    story = """
with confined_packet_process():
    inside = asdict(HeldPrivileges.of())
tell([inside, heir()])
"""
    inside, after = told(story)
    assert (inside["effective"], inside["permitted"], inside["bounding"]) == (NETWORK_BITS, NETWORK_BITS, 0)
    assert (inside["ambient"], inside["no_new_privileges"], inside["is_filtered"]) == (0, True, True)
    assert after["effective"] == NETWORK_BITS


def test_the_http_process_is_somebody_else_without_any_privilege() -> None:
    user, held = told('confine_http_process("nobody"); tell([os.getresuid(), asdict(HeldPrivileges.of())])')
    assert set(user) == {user_entry("nobody").pw_uid}
    assert held["is_filtered"] and held["no_new_privileges"]
    assert [held[name] for name in ("effective", "permitted", "inheritable", "bounding", "ambient")] == [0] * 5


def test_the_service_keeps_the_right_to_low_ports_until_all_are_open() -> None:
    story = f"""
{REAL_TIME.format(limit=1)}
configuration = configuration_from_toml({POINT!r})
confine_service(configuration)
one = asdict(HeldPrivileges.of())
settle_service(configuration)
tell([one, asdict(HeldPrivileges.of())])
"""
    starting, lasting = told(story)
    kept = bits(*NETWORK, *OTHER_USER)
    assert starting["effective"] == kept | bits(Capability.NET_BIND_SERVICE)
    assert (lasting["effective"], lasting["permitted"], lasting["inheritable"]) == (kept, kept, kept)
    assert lasting["is_filtered"] and lasting["no_new_privileges"] and lasting["bounding"] == 0


@pytest.mark.parametrize(
    ("text", "starting"),
    [
        ("[probe]\nport = 8620\n[http]\nenabled = false\n", NETWORK),
        ('[probe]\nport = 8620\n[http]\nlisten = "127.0.0.1"\n', NETWORK | OTHER_USER),
        (
            '[probe]\nport = 8620\n[http]\nlisten = "127.0.0.1"\nport = 80\ngroup = "adm"\n',
            NETWORK | OTHER_USER | {Capability.NET_BIND_SERVICE, Capability.CHOWN},
        ),
    ],
)
def test_the_service_keeps_no_more_than_its_configuration_asks_for(text: str, starting: set[Capability]) -> None:
    story = f"confine_service(configuration_from_toml({POINT + text!r})); tell(HeldPrivileges.of().effective)"
    assert told(REAL_TIME.format(limit=1) + story) == bits(*starting)


def test_streams_may_still_have_real_time_priority() -> None:
    story = f"""
confine_service(configuration_from_toml({POINT!r}))
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(REAL_TIME_PRIORITY_LIMIT))
tell(os.sched_getscheduler(0) == os.SCHED_FIFO)
"""
    assert told(story) is True


@pytest.mark.parametrize(("limit", "kept"), [(0, {Capability.SYS_NICE}), (1, set())])
def test_the_capability_for_real_time_is_kept_only_where_no_limit_allows_it(
    limit: int, kept: set[Capability]
) -> None:
    story = REAL_TIME.format(limit=limit) + f"confine_service(configuration_from_toml({ALONE!r}))\n"
    assert told(story + "tell(HeldPrivileges.of().effective)") == bits(*NETWORK, *kept)


def test_the_ports_of_a_point_are_those_that_are_open() -> None:
    assert configured_ports(configuration_from_toml(POINT)) == {49862, 862, 49864}
    text = '[bandwidth]\nenabled = false\n[service]\nlisten = "10.0.0.1"\n[metrics]\nlisten = "127.0.0.1"\n'
    assert configured_ports(configuration_from_toml(POINT + text)) == {49862, 862, 49863, 49866}


def test_missing_capabilities_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    raw_alone = replace(HeldPrivileges.of(), effective=bits(Capability.NET_RAW))
    monkeypatch.setattr(HeldPrivileges, "of", lambda process="": raw_alone)
    with pytest.raises(HostError, match="CAP_NET_ADMIN missing") as caught:
        require_capabilities(frozenset((8620,)))
    assert "CAP_NET_BIND_SERVICE" not in str(caught.value)
    with pytest.raises(HostError, match="CAP_NET_BIND_SERVICE, CAP_NET_ADMIN missing"):
        require_capabilities(frozenset((8620, 862)))


def test_root_has_what_is_needed() -> None:
    assert os.geteuid() == 0
    require_capabilities(frozenset((862,)))
    assert HeldPrivileges.of().has(Capability.NET_ADMIN)


@pytest.mark.parametrize(("user", "complaint"), [("no-such-user", "a user of this host"), ("root", "another")])
def test_the_http_process_cannot_become_just_anybody(user: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        user_entry(user)
