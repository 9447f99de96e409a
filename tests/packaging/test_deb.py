from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.namespaces import Namespaces
from tests.packaging.machine import Machine, machine

REPOSITORY = Path(__file__).parents[2]
BUILD_LIMIT_S = 600
"""It takes a minute alone; a busy machine several."""
START_LIMIT_S = 20.0
INSTALL = ("dpkg", "--force-unsafe-io", "-i")
"""What is forgotten at the end need not be safe from a power cut."""
TYPE_IN_ZSH = r"""
zmodload zsh/zpty
zpty shell TERM=dumb zsh -f -i
zpty -w shell 'autoload -Uz compinit; compinit -D -u; print rea""dy'
zpty -r shell said '*ready*'
zpty -n -w shell $'inpath mp r\t'
zpty -r shell said '*mp run*'
print -r -- $said
"""
UNIT = "/usr/lib/systemd/system/inpath.service"
FILTER = Path(__file__).with_name("call_filter.py")
"""What systemd would do to the system calls of the daemon and of all that it starts."""
CAPABILITIES = "+net_admin,+net_raw,+net_bind_service"

pytestmark = [pytest.mark.slow, pytest.mark.netns, pytest.mark.timeout(BUILD_LIMIT_S)]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with old.deb, new.deb and the filter of system calls."""
    directory = tmp_path_factory.mktemp("packages")
    shutil.copy(FILTER, directory)
    subprocess.run((REPOSITORY / "scripts" / "deb", "--output", directory), check=True, timeout=BUILD_LIMIT_S)
    (built,) = directory.glob("inpath_*.deb")
    repacked = directory / "repacked"
    subprocess.run(("dpkg-deb", "-R", built, repacked), check=True)
    control = repacked / "DEBIAN" / "control"
    control.write_text(re.sub(r"(?m)^(Version: .*)-1$", r"\1-2", control.read_text()))
    subprocess.run(
        ("dpkg-deb", "-Znone", "--root-owner-group", "-b", repacked, directory / "new.deb"),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    built.rename(directory / "old.deb")
    return directory


@contextmanager
def installed(directory: Path, packages: Path) -> Iterator[Machine]:
    """A machine with the older package."""
    with machine(directory, packages) as one:
        one.output("rm", "-rf", "/etc/inpath", "/var/lib/inpath")  # of whoever runs points here
        one.output(*INSTALL, "/packages/old.deb")
        yield one


@pytest.fixture(scope="module")
def host(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine whose installed package nobody changes."""
    with installed(tmp_path_factory.mktemp("host"), packages) as one:
        yield one


@pytest.fixture
def own_host(packages: Path, tmp_path: Path) -> Iterator[Machine]:
    """A machine for one test alone."""
    with installed(tmp_path, packages) as one:
        yield one


def mode(host: Machine, path: str) -> str:
    return host.output("stat", "-c", "%U:%G %a", path).strip()


def test_what_is_installed_is_whole_and_runs_for_every_user(host: Machine) -> None:
    assert host.output("dpkg", "--verify", "inpath") == ""
    assert host.output("inpath", "mp", "example-config") == host.output("cat", "/etc/inpath/inpath.toml")
    shown = host.output("setpriv", "--reuid=65534", "--clear-groups", "--no-new-privs", "inpath", "--help")
    for name in entry_points(group="inpath.commands").names:
        assert f"  {name} " in shown
    assert mode(host, "/etc/inpath") == "root:inpath 750"
    assert mode(host, "/etc/inpath/inpath.toml") == "root:inpath 640"
    assert mode(host, "/var/lib/inpath") == "inpath:inpath 750"
    assert host.run("grep", "-rIl", "-e", "/tmp/tmp", "-e", str(REPOSITORY), "/opt/inpath").stdout == ""
    # Everything is compiled: neither root nor the service ever writes into the package's own folder.
    owned = "dpkg -L inpath | grep ^/opt/inpath | sort"
    assert host.output("bash", "-c", f"diff <(find /opt/inpath | sort) <({owned})") == ""


def test_manual_page_completions_and_unit_are_taken_by_their_programs(host: Machine) -> None:
    page = host.run("man", "--warnings", "-P", "cat", "inpath")
    assert (page.returncode, page.stderr) == (0, "")
    assert "inpath - know the quality of a network path before you use it" in page.stdout
    assert "inpath mp run" in page.stdout
    completed = host.output(
        "bash",
        "-ec",
        ". /usr/share/bash-completion/completions/inpath; COMP_WORDS=(inpath mp r); COMP_CWORD=2; "
        "_inpath_completion inpath; echo ${COMPREPLY[@]}",
    )
    assert completed == "run\n"
    assert host.output("fish", "-c", "complete -C 'inpath mp r'").startswith("run\t")
    assert "inpath mp run" in host.output("zsh", "-f", "-c", TYPE_IN_ZSH)
    verified = host.run("systemd-analyze", "verify", "--man=no", "inpath.service")
    assert "inpath" not in verified.stdout + verified.stderr
    assert "inpath" in host.output("systemd-tmpfiles", "--cat-config")


def test_an_upgrade_keeps_what_the_operator_and_the_daemon_wrote(own_host: Machine) -> None:
    own_host.output("sh", "-c", "echo '# mine' >>/etc/inpath/inpath.toml; chmod 0600 /etc/inpath/inpath.toml")
    own_host.output("sh", "-c", "echo result >/var/lib/inpath/results.db")
    own_host.output(*INSTALL, "/packages/new.deb")
    assert own_host.output("dpkg-query", "-W", "-f", "${Version}", "inpath").endswith("-2")
    assert own_host.output("tail", "-n1", "/etc/inpath/inpath.toml") == "# mine\n"
    assert mode(own_host, "/etc/inpath/inpath.toml") == "root:inpath 600"
    assert own_host.output("cat", "/var/lib/inpath/results.db") == "result\n"
    own_host.output("inpath", "--version")


def test_a_removal_keeps_configuration_and_results_and_a_purge_only_foreign_files_and_the_user(
    own_host: Machine,
) -> None:
    own_host.output("sh", "-c", "echo secret >/etc/inpath/stamp.key; echo result >/var/lib/inpath/results.db")
    own_host.output("sh", "-c", "mkdir -p /run/inpath; touch /opt/inpath/lib/left.pyc")
    own_host.output("dpkg", "-r", "inpath")
    assert own_host.run("test", "-e", "/opt/inpath").returncode == 1
    own_host.output("test", "-e", "/var/lib/inpath/results.db")
    own_host.output("test", "-e", "/etc/inpath/inpath.toml")
    own_host.output("dpkg", "-P", "inpath")
    assert own_host.left("*inpath*") == ["/etc/inpath"]
    assert own_host.output("ls", "/etc/inpath") == "stamp.key\n"
    assert own_host.output("getent", "passwd", "inpath").strip().endswith("/usr/sbin/nologin")
    assert own_host.output("find", "/etc", "/opt", "/usr", "/var", "-xdev", "-user", "inpath") == ""


def test_a_token_that_root_makes_is_for_the_service_to_read(own_host: Machine) -> None:
    own_host.output("inpath", "token", "new", "callserver")
    assert mode(own_host, "/etc/inpath/http-tokens.json") == "root:inpath 640"
    listed = own_host.output(
        "setpriv", "--reuid=inpath", "--regid=inpath", "--clear-groups", "inpath", "token", "list"
    )
    assert "callserver" in listed


def test_daemon_and_http_run_with_the_rights_of_the_unit_alone(host: Machine, namespaces: Namespaces) -> None:
    router, _ = namespaces.chain("deb", "next")
    text = f'[point]\naddress = "{router.addresses[0]}"\n'
    host.output("sh", "-c", f"printf '%s' '{text}' >/etc/inpath/inpath.toml; install -d -o inpath /run/inpath")
    # The directory of the packages is root's alone.
    host.output("install", "-m", "0644", f"/packages/{FILTER.name}", "/usr/local/lib")
    unit = host.output("cat", UNIT)
    (granted,) = re.findall("(?m)^AmbientCapabilities=(.*)$", unit)
    assert [f"+{name.removeprefix('CAP_').lower()}" for name in granted.split()] == CAPABILITIES.split(",")
    assert "\nUser=inpath\nGroup=inpath\n" in unit and "\nSupplementaryGroups=root\n" in unit
    (start,) = re.findall("(?m)^ExecStart=(.*)$", unit)
    rights = (
        "setpriv --reuid=inpath --regid=inpath --groups=root --no-new-privs "
        f"--inh-caps=-all,{CAPABILITIES} --ambient-caps=-all,{CAPABILITIES} --bounding-set=-all,{CAPABILITIES} "
        f"/usr/bin/python3 -B /usr/local/lib/{FILTER.name} {UNIT}"
    )
    daemon = subprocess.Popen(
        host.command(*rights.split(), *start.split(), network=router.name), stderr=subprocess.PIPE, text=True
    )
    with daemon:
        try:
            status = awaited_status(host, router.name)
            asked = host.run(
                *("curl", "-sS", "--max-time", "20", "--unix-socket", "/run/inpath/http.sock"),
                "http://inpath/v1/point",
                network=router.name,
            )
            after = awaited_status(host, router.name)
        finally:
            daemon.terminate()
        assert daemon.stderr is not None
        log = daemon.stderr.read()
    assert status, log
    document = json.loads(status)
    assert document["packet_process"]["rules"] in ("iptables", "nft")
    assert document["packet_process"]["restarts"] == 0
    assert "queue_waiting" in document["packet_process"]["counters"]
    assert json.loads(asked.stdout)["point"]["address"] == router.addresses[0], asked.stderr + log
    assert json.loads(after)["http"]["pid"] and json.loads(after)["http"]["restarts"] == 0, log
    assert daemon.returncode == 0, log
    assert "INPATH" not in router.run("iptables-save")
    assert mode(host, "/var/lib/inpath/spool.db") == "inpath:inpath 644"


def awaited_status(host: Machine, network: str) -> str:
    """What the daemon says of itself once it has heard of its packet process; empty if it never does."""
    deadline_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline_s:
        asked = host.run("inpath", "mp", "status", "--json", network=network)
        if asked.returncode == 0 and "queue_waiting" in asked.stdout:
            return asked.stdout
        time.sleep(0.3)
    return ""
