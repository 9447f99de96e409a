from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from click.testing import CliRunner

from mp.config import configuration_from_toml
from mp.doctor import facts
from mp.doctor.command import doctor
from receiver.store.schema_version import HEAD, upgrade
from tests.namespaces import Namespace, Namespaces, in_namespace

AS_NOBODY = """
import json, os, sys
from importlib.metadata import version
from pathlib import Path
import sqlalchemy.dialects.sqlite
from mp.doctor import examination as doctor
doctor.version = lambda name, known=version("inpath"): known  # the environment may be closed to others
doctor.examine(Path(sys.argv[1]))  # whatever is imported late is there now
os.setgid(65534)
os.setuid(65534)
print(json.dumps([finding.to_json() for finding in doctor.examine(Path(sys.argv[1]))]))
"""


@dataclass(frozen=True, slots=True)
class Host:
    """A host in a namespace, and the configuration of its point."""

    namespace: Namespace
    config: Path

    def examine(self, *prefix: str) -> tuple[int, dict[str, dict[str, Any]]]:
        """Exit code and findings by check."""
        program = "from mp.doctor.command import doctor; doctor()"
        command = (sys.executable, "-c", program, "--json", "--config", str(self.config))
        done = subprocess.run(
            ("ip", "netns", "exec", self.namespace.name, *prefix, *command),
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.stderr == ""
        return done.returncode, {finding["check"]: finding for finding in json.loads(done.stdout)}


def levels(findings: dict[str, dict[str, Any]], level: str) -> set[str]:
    return {name for name, finding in findings.items() if finding["level"] == level}


@pytest.fixture
def host(namespaces: Namespaces) -> Iterator[Host]:
    router, _ = namespaces.chain("doctor", "next")
    with TemporaryDirectory(prefix="inpath-doctor-") as directory:  # pytest's own is closed to other users
        os.chmod(directory, 0o755)
        yield Host(router, configured(Path(directory), router.addresses[0]))


def configured(directory: Path, address: str) -> Path:
    key = directory / "stamp.key"
    key.write_text("00" * 32)
    key.chmod(0o400)
    config = directory / "inpath.toml"
    config.write_text(
        f'[point]\naddress = "{address}"\nstate_dir = "{directory / "state"}"\n'
        f'[probe]\nkey_file = "{key}"\n[clock]\nassumed_error_ms = 0.5\n'
        f'[service]\nsocket = "{directory / "service.sock"}"\n'
    )
    return config


@pytest.mark.netns
def test_a_good_router_has_no_error_and_stays_as_it_was(host: Host) -> None:
    before = host.namespace.run("iptables-save"), host.namespace.run("nft", "list", "ruleset")
    code, findings = host.examine()
    assert (code, levels(findings, "error")) == (0, set())
    assert levels(findings, "warning") == {"daemon", "keys"}
    assert "by iptables" in findings["interception"]["found"] or "by nft" in findings["interception"]["found"]
    assert findings["queue"]["found"] == "4986 is free"
    assert findings["port of probes"]["found"] == f"udp {host.namespace.addresses[0]}:862 is free"
    assert "will be made" in findings["state directory"]["found"]
    assert "tables will be made" in findings["database"]["found"]
    assert before == (host.namespace.run("iptables-save"), host.namespace.run("nft", "list", "ruleset"))
    assert sorted(path.name for path in host.config.parent.iterdir()) == ["inpath.toml", "stamp.key"]


@pytest.mark.netns
def test_what_is_wrong_is_found(host: Host) -> None:
    with in_namespace(host.namespace.name):
        squatter = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        squatter.bind((host.namespace.addresses[0], 862))
    settings = "echo 0 > ip_forward; echo 1 > conf/l0/rp_filter; ip link set l0 mtu 1000"
    host.namespace.run("sh", "-c", f"cd /proc/sys/net/ipv4; {settings}")
    (host.config.parent / "stamp.key").chmod(0o644)
    with squatter:
        code, findings = host.examine()
    assert code == 1
    assert levels(findings, "error") == {"port of probes", "key of probes"}
    assert levels(findings, "warning") == {"daemon", "forwarding", "keys", "rp_filter", "mtu"}
    assert "address already in use" in findings["port of probes"]["found"]
    assert "strict on l0" in findings["rp_filter"]["found"]


@pytest.mark.netns
def test_an_address_of_another_host_is_one_error_and_not_one_for_each_port(host: Host) -> None:
    host.config.write_text(host.config.read_text().replace(host.namespace.addresses[0], "192.0.2.77"))
    code, findings = host.examine()
    assert (code, levels(findings, "error")) == (1, {"address"})


@pytest.mark.netns
def test_a_container_without_capabilities_learns_that_first(host: Host) -> None:
    code, findings = host.examine("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    assert (code, levels(findings, "error")) == (1, {"capabilities"})
    assert "missing although this is root" in findings["capabilities"]["found"]
    assert {"interception", "port of probes"} <= levels(findings, "warning")
    assert "Operation not permitted" in findings["interception"]["found"]


@pytest.mark.netns
def test_a_user_sees_what_a_user_may_and_is_told_of_the_rest(host: Host) -> None:
    done = host.namespace.run(sys.executable, "-c", AS_NOBODY, str(host.config))
    findings = {finding["check"]: finding for finding in json.loads(done)}
    assert levels(findings, "error") == set()
    assert {"capabilities", "key of probes", "queue", "state directory"} <= levels(findings, "warning")
    assert {"clock", "forwarding", "mtu", "address"} <= levels(findings, "ok")
    assert findings["queue"]["advice"] == "run the doctor as root to see it"
    host.config.chmod(0o600)
    first = json.loads(host.namespace.run(sys.executable, "-c", AS_NOBODY, str(host.config)))[0]
    assert (first["check"], first["level"]) == ("configuration", "warning")


def test_without_a_configuration_the_host_is_looked_at_all_the_same(tmp_path: Path) -> None:
    done = CliRunner().invoke(doctor, ["--config", str(tmp_path / "none.toml")])
    assert done.exit_code == 1
    first, advice, *rest = done.stdout.splitlines()
    assert first.startswith("error    configuration       config: got")
    assert advice.strip().startswith("-> ")
    assert any(" forwarding " in line for line in rest)
    assert re.fullmatch(r"\d+ checks: \d+ ok, \d+ warning, [1-9] error", rest[-1])


def test_the_ports_are_those_of_the_configuration() -> None:
    listening = "".join(f'[{table}]\nlisten = "127.0.0.1"\n' for table in ("service", "http", "metrics"))
    text = f"[bandwidth]\nenabled = false\n{listening}port = 9\n"
    ports = facts.ports_of(configuration_from_toml(text), "192.0.2.1")
    assert [(port.protocol, port.address, port.number, port.key) for port in ports] == [
        ("udp", "192.0.2.1", 49862, "measurement.port"),
        ("tcp", "192.0.2.1", 49862, "measurement.port"),
        ("udp", "192.0.2.1", 862, "probe.port"),
        ("udp", "192.0.2.1", 49865, "knowledge.port"),
        ("tcp", "127.0.0.1", 49863, "service.port"),
        ("tcp", "127.0.0.1", 49865, "http.port"),
        ("tcp", "127.0.0.1", 9, "metrics.port"),
    ]


def test_the_revision_of_a_database_is_read(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    upgrade(url)
    assert facts.database_revision(url) == (url, HEAD, None)


def test_a_database_that_is_none_is_a_refusal_without_its_password(tmp_path: Path) -> None:
    (tmp_path / "results.db").write_bytes(b"no database, but long enough to be looked at" * 40)
    _, revision, refusal = facts.database_revision(f"sqlite:///{tmp_path / 'results.db'}")
    assert revision is None
    assert "not a database" in str(refusal)
    _, _, refusal = facts.database_revision("mysql+pymysql://inpath:hunter2@127.0.0.1:9/inpath")
    assert refusal is not None
    assert "hunter2" not in str(refusal)


def test_a_state_directory_that_is_not_there_is_judged_by_the_one_above(tmp_path: Path) -> None:
    directory = facts.state_directory(tmp_path / "a" / "b")
    assert (directory.exists, directory.is_writable) == (False, True)
    assert directory.free_bytes > 0
    assert facts.state_directory(tmp_path).exists


def test_a_port_that_was_tried_is_free_again(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.bind(("127.0.0.1", 0))
        port = facts.Port(purpose="", protocol="udp", address="127.0.0.1", number=door.getsockname()[1], key="")
        assert facts.try_port(port) == ("address already in use", False)
    assert facts.try_port(port) == facts.try_port(port) == (None, False)


def test_a_key_is_for_the_user_of_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "stamp.key"
    key.write_text("00" * 32)
    key.chmod(0o400)
    monkeypatch.setattr(facts, "SERVICE_USER", "nobody")
    assert not facts.key_file(key).is_of_service
    os.chown(key, facts.service_users()[0], -1)
    assert facts.key_file(key).is_of_service
    monkeypatch.setattr(facts, "SERVICE_USER", "nobody-of-that-name")
    assert facts.service_users() == (os.geteuid(),)


def test_modes_are_those_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "inpath.toml"
    assert facts.mode_of(file) is None
    file.touch(mode=0o600)
    assert facts.mode_of(file) == 0o600
    assert facts.is_root() == (os.geteuid() == 0)
