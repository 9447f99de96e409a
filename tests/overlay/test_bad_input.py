"""What people get wrong, through the real command line: one line that says what, and a documented exit code."""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.namespaces import in_namespace
from tests.overlay.network import INPATH, Answer, Network

pytestmark = pytest.mark.netns

QUICK_S = 3.0
"""Far below the 10 s that a request waits for an answer."""


def complaint(answer: Answer, exit_code: int) -> str:
    """The one line of a command that failed as it must."""
    assert answer.exit_code == exit_code, answer.stdout + answer.stderr
    (line,) = answer.stderr.splitlines()
    assert line.startswith("inpath: ")
    assert "Traceback" not in answer.stdout
    return line.removeprefix("inpath: ")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ("p1", "p3", "--metrics", "delay,speed"),
            "metrics: got 'speed', expected all, or one or more of delay,loss,",
        ),
        (("p1", "p3", "--metrics", "delay,delay"), "metrics: got 'delay,delay', expected each metric once"),
        (("p1", "p3", "--metrics", ""), "metrics: got '', expected all, or one or more of"),
        (("p1", "p33"), "destination: got 'p33', expected a name of the 7 in [names] or an IPv4 address; did you"),
        (("pp1", "p3"), "source: got 'pp1', expected a name of the 7 in [names] or an IPv4 address; did you mean"),
        (
            ("p1", "10.255.0.400"),
            "destination: got '10.255.0.400', expected a name of the 7 in [names] or an IPv4",
        ),
        (("p1", "p1"), "destination: got 'p1', expected another point than the source"),
        (("p1", "224.0.0.5"), "destination: got '224.0.0.5', expected a unicast IPv4 address"),
        (("p1", "127.0.0.1"), "destination: got '127.0.0.1', expected an address of another host"),
        (("p1", "p3", "--timeout", "0"), "timeout: got 0.0, expected a number of seconds from 0.001 to 300"),
        (("p1", "p3", "--timeout", "nan"), "timeout: got nan, expected a number of seconds from 0.001 to 300"),
        (("p1", "p3", "--max-age", "-1"), "max-age: got -1.0, expected a number of seconds from 0 to 3600"),
    ],
)
def test_a_question_that_cannot_be_meant_is_refused_by_field(
    row: Network, arguments: tuple[str, ...], expected: str
) -> None:
    assert complaint(row.inpath("p1", "request", *arguments), 2).startswith(expected)


def test_an_interface_of_the_source_is_no_destination(row: Network) -> None:
    address = row.link_address("p1", "r1")
    line = complaint(row.inpath("p1", "request", "p1", address), 2)
    assert line == f"destination: got '{address}', expected an address of another host"


@pytest.mark.parametrize(
    ("arguments", "wrong"), [(("p1",), "DESTINATION"), (("p1", "p3", "--timeout", "soon"), "'soon'")]
)
def test_a_command_line_that_cannot_be_read_shows_its_usage(
    row: Network, arguments: tuple[str, ...], wrong: str
) -> None:
    answer = row.inpath("p1", "request", *arguments)
    assert answer.exit_code == 2
    assert answer.stderr.startswith("Usage: inpath request")
    assert wrong in answer.stderr and "Traceback" not in answer.stderr


def test_a_destination_without_a_point_is_named_at_once(row: Network) -> None:
    answer = row.inpath("p1", "request", "p1", "r2")
    expected = f"destination {row.address('r2')}: no measurement point listens there"
    assert complaint(answer, 3) == expected
    assert answer.elapsed_s < QUICK_S


def test_a_host_that_the_source_serves_itself_is_refused(row: Network) -> None:
    answer = row.inpath("p1", "request", "p1", "h1")
    expected = f"destination: got '{row.address('h1')}', expected a host that this point does not serve itself"
    assert complaint(answer, 2) == expected


def test_a_destination_without_a_route_is_named_at_once(row: Network) -> None:
    answer = row.inpath("p1", "request", "p1", "192.0.2.1")
    assert complaint(answer, 3).startswith("destination 192.0.2.1: Network is unreachable")
    assert answer.elapsed_s < QUICK_S


def test_a_failed_request_is_a_json_object_all_the_same(row: Network) -> None:
    answer = row.inpath("p1", "request", "p1", "r2", "--json")
    assert complaint(answer, 3) in answer.document()["warnings"]
    assert (answer.document()["status"], answer.document()["segments"]) == ("failed", [])


def test_a_source_without_a_point_is_named(row: Network) -> None:
    line = complaint(row.inpath("h1", "request", "r1", "p3"), 1)
    assert line == (
        f"service: got {row.address('r1')} tcp port 49863, expected a measurement point there (connection refused)"
    )


def test_a_time_in_which_nobody_can_answer_is_told(row: Network) -> None:
    answer = row.inpath("p1", "request", "p1", "p3", "--timeout", "0.01")
    assert complaint(answer, 3) == "no answer within 0.01 s"
    assert answer.elapsed_s < QUICK_S


class Stranger:
    """A point that the lab does not know, on the host h1, with a configuration of the test's own."""

    def __init__(self, net: Network, directory: Path) -> None:
        self.net = net
        self.directory = directory

    def tables(self) -> dict[str, dict[str, Any]]:
        return {
            "point": {"address": self.net.address("h1"), "state_dir": str(self.directory / "state")},
            "service": {"socket": str(self.directory / "sock")},
        }

    def write(self, changes: Mapping[str, Mapping[str, Any]], extra: str = "") -> Path:
        tables = self.tables()
        for name, values in changes.items():
            tables[name] = tables.get(name, {}) | dict(values)
        text = "".join(
            f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
            for name, table in tables.items()
        )
        file = self.directory / "inpath.toml"
        file.write_text(text + extra)
        return file

    def refusal(
        self, changes: Mapping[str, Mapping[str, Any]], *prefix: str, exit_code: int = 1, extra: str = ""
    ) -> str:
        """The last line of a daemon that cannot run; what it said before is its log."""
        file = self.write(changes, extra)
        answer = self.net.run("h1", *prefix, str(INPATH), "mp", "run", "--config", str(file))
        assert answer.exit_code == exit_code, answer.stderr
        assert "Traceback" not in answer.stderr
        lines = [line for line in answer.stderr.splitlines() if line.startswith("inpath: ")]
        assert len(lines) == 1, answer.stderr
        assert (self.net.rules("h1"), self.net.queues("h1"), self.net.processes("h1")) == ([], "", set())
        return lines[0].removeprefix("inpath: ")


@pytest.fixture
def stranger(row: Network) -> Stranger:
    directory = Path(tempfile.mkdtemp(dir=row.state_directory))
    directory.chmod(0o755)  # another user's daemon reads its configuration there
    return Stranger(row, directory)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"point": {"adress": "10.0.0.1"}}, "point.adress: got '...', expected no such key"),
        ({"point": {"address": "10.0.0.300"}}, "point.address: got '10.0.0.300', expected an IPv4 address"),
        ({"point": {"address": "10.9.9.9"}}, "point.address: got '10.9.9.9', expected one of this host's: 10."),
        ({"point": {"serves": ["10.0.0.1/8"]}}, "point.serves: got '10.0.0.1/8', expected an IPv4 prefix"),
        ({"measurement": {"queue": 70_000}}, "measurement.queue: got 70000, expected a whole number from 0 to"),
        ({"measurement": {"rules": "pf"}}, "measurement.rules: got 'pf', expected one of auto, iptables, nft"),
        ({"probe": {"rate_per_s": "fast"}}, "probe.rate_per_s: got 'fast', expected a number from 0.1 to 100"),
        ({"store": {"url": "postgresql://u:secret@h/d"}}, "store.url: got 'postgresql:...', expected sqlite:"),
        ({"sotre": {"url": "mysql://u:secret@h/d"}}, "sotre: got '...', expected one of the tables point, "),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused_by_key(
    stranger: Stranger, changes: dict[str, dict[str, Any]], expected: str
) -> None:
    line = stranger.refusal(changes, exit_code=2)
    assert line.startswith(expected)
    assert "secret" not in line


def test_a_configuration_that_is_no_toml_is_named_with_the_place(stranger: Stranger) -> None:
    line = stranger.refusal({}, exit_code=2, extra="[log\n")
    assert line.startswith(f"config: got '{stranger.directory}/inpath.toml', expected a TOML file (")
    assert "line" in line


def test_a_configuration_without_a_point_cannot_run_one(row: Network) -> None:
    line = complaint(row.inpath("r1", "mp", "run"), 2)
    assert line == "point: got None, expected a table [point] with this point's address"


@pytest.mark.parametrize("command", [("mp", "run"), ("mp", "status"), ("request", "p1", "p3")])
def test_a_configuration_that_is_missing_is_named(row: Network, command: tuple[str, ...]) -> None:
    line = complaint(row.inpath("p1", *command, "--config", "/nowhere/inpath.toml"), 2)
    assert line == "config: got '/nowhere/inpath.toml', expected a readable file (No such file or directory)"


def test_the_status_of_a_point_that_does_not_run_is_an_error(stranger: Stranger) -> None:
    line = complaint(stranger.net.inpath("h1", "mp", "status", "--config", str(stranger.write({}))), 1)
    assert line == (
        f"service: got {stranger.directory}/sock, expected a measurement point there (no such file or directory)"
    )


def test_a_second_daemon_at_the_same_address_is_refused_and_the_first_goes_on(row: Network) -> None:
    line = complaint_of_daemon(row.inpath("p2", "mp", "run"))
    assert line == f"udp {row.address('p2')}:49862: Address already in use, expected a free port on an own address"
    assert row.inpath("p2", "mp", "status").exit_code == 0
    row.await_answer("p1", "p3", ("p1", "p2", "p3"), within_s=5)


def complaint_of_daemon(answer: Answer) -> str:
    assert answer.exit_code == 1
    assert "Traceback" not in answer.stderr
    (line,) = [line for line in answer.stderr.splitlines() if line.startswith("inpath: ")]
    return line.removeprefix("inpath: ")


def test_a_second_daemon_at_the_same_queue_is_refused_and_the_first_goes_on(row: Network) -> None:
    # All else is its own, so only the queue is in its way.
    directory = row.state_directory / "second"
    directory.mkdir()
    file = directory / "inpath.toml"
    file.write_text(
        f'[point]\naddress = "{row.address("p2")}"\nstate_dir = "{directory}"\n'
        "[measurement]\nport = 50000\n[probe]\nport = 863\n[bandwidth]\nport = 49870\n[knowledge]\nport = 49871\n"
        f'[service]\nsocket = "{directory}/sock"\n'
    )
    line = complaint_of_daemon(row.inpath("p2", "mp", "run", "--config", str(file)))
    assert line == "packet queue 4986 is in use; stop its owner or configure another number"
    assert not any("50000" in rule for rule in row.rules("p2"))
    row.await_answer("p1", "p3", ("p1", "p2", "p3"), within_s=5)


def test_a_second_daemon_does_not_take_the_service_of_the_first_away(row: Network) -> None:
    directory = row.state_directory / "third"
    directory.mkdir()
    file = directory / "inpath.toml"
    service = row.lab.directory.node("p2") / "service.sock"
    file.write_text(
        f'[point]\naddress = "{row.address("p2")}"\nstate_dir = "{directory}"\n'
        "[measurement]\nport = 50000\nqueue = 4987\n[probe]\nport = 863\n"
        "[bandwidth]\nport = 49870\n[knowledge]\nport = 49871\n"
        f'[service]\nsocket = "{service}"\n[http]\nsocket = "{directory / "http.sock"}"\n'
    )
    before = row.status("p2")["pid"]
    line = complaint_of_daemon(row.inpath("p2", "mp", "run", "--config", str(file)))
    assert line == f"service socket {service}: in use by another program, expected one of its own"
    assert row.status("p2")["pid"] == before


@pytest.mark.parametrize(
    ("kind", "port", "expected"),
    [
        (socket.SOCK_DGRAM, 49862, "udp 10.255.0.1:49862: Address already in use"),
        (socket.SOCK_STREAM, 49862, "TCP port 49862 on 10.255.0.1: in use by another program"),
        (socket.SOCK_STREAM, 49863, "service tcp 10.255.0.1:49863: "),
        (socket.SOCK_DGRAM, 862, "862"),
    ],
    ids=["requests", "reports", "service", "probes"],
)
def test_a_port_that_another_program_has_is_named(
    stranger: Stranger, kind: socket.SocketKind, port: int, expected: str
) -> None:
    with in_namespace(stranger.net.namespace("h1")):
        taken = socket.socket(socket.AF_INET, kind)
    with taken:
        taken.bind((stranger.net.address("h1"), port))
        if kind is socket.SOCK_STREAM:
            taken.listen()
        line = stranger.refusal({"service": {"listen": stranger.net.address("h1")}})
    assert expected in line
    assert "in use" in line


@pytest.mark.parametrize(
    ("prefix", "missing"),
    [
        (("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"), "CAP_NET_ADMIN"),
        (("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"), "CAP_NET_RAW"),
        (("setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"), "CAP_NET_BIND_SERVICE"),
        (
            ("setpriv", "--bounding-set=-all", "--inh-caps=-all"),
            "CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW",
        ),
    ],
    ids=["no CAP_NET_ADMIN", "no CAP_NET_RAW", "no CAP_NET_BIND_SERVICE", "none at all"],
)
def test_a_missing_capability_is_named(stranger: Stranger, prefix: tuple[str, ...], missing: str) -> None:
    line = stranger.refusal({}, *prefix)
    assert line == f"capabilities: {missing} missing, expected them (run as root or grant them)"


def test_a_place_for_results_that_cannot_be_is_named(stranger: Stranger) -> None:
    (stranger.directory / "file").write_text("in the way")
    line = stranger.refusal({"point": {"state_dir": str(stranger.directory / "file" / "state")}})
    assert line == f"point.state_dir {stranger.directory}/file/state: Not a directory"
