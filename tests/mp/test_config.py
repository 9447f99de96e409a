from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mp.config import configuration_from_toml, example_text, load_configuration
from mp.reports.settings import ReportTls
from mp.settings import Configuration
from prober.interfaces.load import ConfiguredCapacity
from schemas.errors import ConfigurationError
from schemas.metrics import Composition

POINT = '[point]\naddress = "192.0.2.1"\n'


MANY_PREFIXES = [f"10.{number // 256}.{number % 256}.0/24" for number in range(513)]

WITHOUT_DEFAULT = (
    r"name|area|serves|neighbors|assumed_error_ms|url|listen|border-\d|destinations|eth0|key_file|group|users"
    r"|tls|ca|certificate|key|enabled = \[.*|borders|keys_dir|area|north|south"
)


def uncommented(text: str) -> Configuration:
    """The example with each key and each table that it shows."""
    return configuration_from_toml(re.sub(r"(?m)^# (?=[a-z_0-9-]+ = |\[[a-z.-]+\]$)", "", text))


def test_the_example_states_the_defaults() -> None:
    plain = configuration_from_toml(example_text())
    everything = uncommented(re.sub(rf"(?m)^# (?=({WITHOUT_DEFAULT})( =|$))", "#~ ", example_text()))
    assert replace(everything, commands=(), profiles=plain.profiles) == plain


def test_every_key_of_the_example_is_allowed() -> None:
    configuration = uncommented(example_text())
    assert configuration.plugins == ("icmp-rtt",)
    (program,) = configuration.commands
    assert (program.name, program.unit, program.composition) == ("tcp-connect", "ms", Composition.SUM)
    assert program.command == ("/usr/lib/inpath/tcp_connect.py", "{own}", "{peer}")
    trading = configuration.profiles["trading"]
    assert [limit.name for limit in trading.limits] == ["rtt", "delay", "delay.p95", "loss", "r-factor"]
    assert trading.codec.name == "opus"
    assert configuration.capacities == {"eth0": ConfiguredCapacity(ingress_mbit_s=100, egress_mbit_s=100)}
    assert configuration.discovery.destinations == configuration.verification.destinations == ("192.0.2.77",)
    assert configuration.probe.key_file == Path("/etc/inpath/stamp.key")
    assert configuration.probe.neighbors == ("192.0.2.2",)
    assert configuration.clock_assumed_error_ms == 0.05
    assert configuration.reports.tls == ReportTls(
        ca=Path("/etc/inpath/keys/tls/ca.pem"),
        certificate=Path("/etc/inpath/keys/tls/192.0.2.1.pem"),
        key=Path("/etc/inpath/keys/tls/192.0.2.1-key.pem"),
    )
    assert configuration.security.keys_dir == Path("/etc/inpath/keys")
    assert configuration.security.area == "north"
    assert sorted(configuration.security.areas) == ["north", "south"]
    assert configuration.knowledge.borders == ("203.0.113.1",)
    assert configuration.names == {"border-1": "192.0.2.1", "border-2": "192.0.2.2"}
    assert configuration.point is not None
    assert configuration.point.serves == (IPv4Network("198.51.100.0/24"),)


def test_results_go_to_the_state_directory_unless_said_otherwise() -> None:
    configuration = configuration_from_toml(POINT + 'state_dir = "/srv/inpath"\n')
    assert configuration.store_url == "sqlite:////srv/inpath/results.db"


def test_reports_travel_in_the_clear_unless_tls_is_said_to_be_wanted() -> None:
    assert configuration_from_toml(POINT).reports.tls is None
    assert configuration_from_toml(POINT + '[reports]\nca = "a"\n').reports.tls is None


def test_a_file_with_names_alone_serves_the_command_line() -> None:
    configuration = configuration_from_toml('[names]\nh1 = "10.0.0.1"\n')
    assert configuration.point is None
    assert configuration.names == {"h1": "10.0.0.1"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[point]\n", "point.address: got None, expected this point's IPv4 address"),
        ('[point]\naddress = "10.0.0.300"\n', "point.address: got '10.0.0.300', expected an IPv4 address"),
        (POINT + 'adress = "x"\n', "point.adress: .* expected no such key"),
        (POINT + 'serves = ["10.0.0.1/8"]\n', "point.serves: got '10.0.0.1/8', expected an IPv4 prefix"),
        (POINT + 'name = "a b"\n', "point.name: got 'a b'"),
        ("[measurement]\nport = 0\n", "measurement.port: got 0, expected a whole number from 1 to 65535"),
        ("[measurement]\nport = true\n", "measurement.port: got True"),
        (
            "[measurement]\nprocessors = [0, -1]\n",
            "measurement.processors: got -1, expected whole numbers from 0 to 4095",
        ),
        ("[measurement]\nprocessors = 0\n", "measurement.processors: got 0, expected a list"),
        ("[measurement]\nprocesses = 9\n", "measurement.processes: got 9, expected a whole number from 1 to 8"),
        ("[measurement]\nqueue = 65535\nprocesses = 2\n", "measurement.queue: got 65535, expected .* 0 to 65534"),
        ("[measurement]\nsource_rate_per_s = -1\n", "measurement.source_rate_per_s: got -1, expected .* from 0"),
        ("[measurement]\nsource_burst = 0\n", "measurement.source_burst: got 0"),
        ("[measurement]\nplain_udp = 1\n", "measurement.plain_udp: got 1"),
        ('[measurement]\nrules = "ipfw"\n', "measurement.rules: got 'ipfw', expected one of auto, iptables, nft"),
        ("[reports]\ntls = 1\n", "reports.tls: got 1, expected true or false"),
        ("[reports]\ntls = true\n", "reports.ca: got '', expected a file, since reports.tls is true"),
        (
            '[reports]\ntls = true\nca = "a"\ncertificate = "b"\n',
            "reports.key: got '', expected a file, since reports.tls is true",
        ),
        ('[reports]\npassphrase = "hunter2"\n', r"reports.passphrase: got '\.\.\.', expected no such key"),
        ('[security]\narea = "a b"\n', "security.area: got 'a b', expected letters, digits"),
        ('[security]\nkeys_dir = "/k"\n', "security.area: got '', expected the name of this point's area"),
        (
            '[security]\nauthentication = "maybe"\n',
            "security.authentication: got 'maybe', expected one of off, acc",
        ),
        ('[security]\nauthentication = "required"\n', "security.keys_dir: got '', expected a directory of keys"),
        ('[security.areas]\nwest = "10.0.0.0/8"\n', "security.areas.west: got '10.0.0.0/8', expected a list"),
        ('[security.areas]\n"w x" = []\n', r"security\.areas\.\"w x\": got '\.\.\.', expected a name of letters"),
        (
            '[security.areas]\na = ["10.0.0.0/8"]\nb = ["10.0.0.0/8"]\n',
            "security.areas.b: got '10.0.0.0/8', expected a prefix that is not in a as well",
        ),
        (f"[security.areas]\na = {MANY_PREFIXES}\n", "security.areas: got '513 prefixes', expected at most 512"),
        (
            POINT + '[security]\nkeys_dir = "/k"\narea = "a"\nareas.a = ["10.0.0.0/8"]\n',
            "security.areas: got '192.0.2.1', expected this point's address in a prefix of its area a",
        ),
        ("[probe]\nrate_per_s = nan\n", "probe.rate_per_s: got nan"),
        ("[probe]\nneighbors = 3\n", "probe.neighbors: got 3, expected a list"),
        ("[probe]\nloss_threshold_ms = 9\n", "probe.loss_threshold_ms: got 9, expected a whole number from 10"),
        ('[probe]\nreflector = "both"\n', "probe.reflector: got 'both', expected one of stateful, stateless"),
        ("[discovery]\ninterval_s = 0.5\n", r"discovery.interval_s: got 0.5, expected 0, or a number from 1 to"),
        ("[knowledge]\nenabled = 1\n", "knowledge.enabled: got 1, expected true or false"),
        ("[knowledge]\nrefresh_s = 901\n", "knowledge.refresh_s: got 901, expected a number from 1 to 900"),
        (
            "[knowledge]\nlifetime_s = 29\n",
            r"knowledge.lifetime_s: got 29, expected at least twice refresh_s \(15\)",
        ),
        ('[knowledge]\nborders = ["x"]\n', "knowledge.borders: got 'x', expected an IPv4 address"),
        (
            POINT + '[knowledge]\nborders = ["192.0.2.1"]\n',
            "knowledge.borders: got '192.0.2.1', expected addresses of",
        ),
        ("[bandwidth]\nenabled = 1\n", "bandwidth.enabled: got 1, expected true or false"),
        ("[bandwidth]\nmax_rate_mbit_s = 1e9\n", "bandwidth.max_rate_mbit_s: got 1000000000.0, expected a number"),
        ("[interfaces]\neth0 = 100\n", "interfaces.eth0: got 100, expected a table"),
        (
            "[interfaces]\neth0 = {capacity_mbit_s = 0}\n",
            "interfaces.eth0.capacity_mbit_s: got 0, expected a number",
        ),
        ("[interfaces]\neth0 = {speed = 1}\n", "interfaces.eth0.speed: .* expected no such key"),
        ('[plugins]\nenabled = "icmp-rtt"\n', "plugins.enabled: got 'icmp-rtt', expected a list"),
        ("[plugins]\ncommands = 1\n", "plugins.commands: got 1, expected a table"),
        ("[plugins.commands.x]\n", "plugins.commands.x.composition: got '', expected one of sum"),
        ('[plugins.commands.x]\ncomposition = "sum"\ncommand = "ls"\n', "x.command: got 'ls', expected a list"),
        ('[metrics]\nlisten = "0.0.0.0"\n', "metrics.listen: got '0.0.0.0', expected a unicast IPv4 address"),
        ("[metrics]\nport = 0\n", "metrics.port: got 0, expected a whole number from 1"),
        ("[profiles.x]\ndelay = 150\n", r"profiles.x.delay: got 150, expected a limit such as \{ at_most = 10 \}"),
        ("[verify]\ninterval_s = 5\n", "verify.interval_s: got 5.0, expected 0, or a number from 60"),
        (
            POINT + '[probe]\nneighbors = ["192.0.2.1"]\n',
            "probe.neighbors: got '192.0.2.1', expected addresses of other",
        ),
        ('[store]\nurl = "postgresql://u:hunter2@h/d"\n', r"store.url: got 'postgresql:\.\.\.', expected sqlite"),
        ('[store]\npassword = "hunter2"\n', "store.password: got '...'"),
        ("[store]\nupkeep = 1\n", "store.upkeep: got 1, expected true or false"),
        ("[store]\nresults_days = 0\n", "store.results_days: got 0, expected a whole number from 1 to 365"),
        ("[store]\nminutes_days = 29\n", r"store.minutes_days: got 29, expected at least results_days \(30\)"),
        ("[store]\nhours_days = 89\n", r"store.hours_days: got 89, expected at least minutes_days \(90\)"),
        ("[store]\nchecks_days = 0\n", "store.checks_days: got 0, expected a whole number from 1"),
        ('[names]\na = "b"\n', "names.a: got 'b', expected an IPv4 address"),
        ('[stroe]\nurl = "mysql://u:hunter2@h/d"\n', r"stroe: got '\.\.\.', expected one of the tables"),
        ('[service]\nsocket = "/"\n', "service.socket: got '/', expected the path of a file"),
        ('[http]\nsocket = "a/.."\n', r"http.socket: got 'a/\.\.', expected the path of a file"),
        ('[http]\ntoken_file = ""\n', "http.token_file: got '', expected the path of a file"),
        ('[service]\nsocket = "a\\u0000b"\n', r"service.socket: got 'a\\x00b', expected the path of a file"),
        ('[""]\n', r"\"\": got '\.\.\.', expected one of the tables"),
        (f'["{"x" * 99}"]\n', rf'"{"x" * 60}"\.\.\.: got '),
        ('[log]\n"a.b\\n" = 1\n', r'log\."a\.b\\n": got '),
        ("point = 3\n", "point: got 3, expected a table"),
        ("[point\n", "config: got 'configuration', expected a TOML file"),
    ],
)
def test_a_mistake_is_named_by_key_value_and_expectation(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        configuration_from_toml(text)
    assert "hunter2" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="missing.toml"):
        load_configuration(tmp_path / "missing.toml")


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_its_error(text: str) -> None:
    try:
        configuration_from_toml(text)
    except ConfigurationError as error:
        assert "\n" not in error.field
