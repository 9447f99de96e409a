from __future__ import annotations

import re
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mp.config import configuration_from_toml, example_text, load_configuration
from schemas.errors import ConfigurationError

POINT = '[point]\naddress = "192.0.2.1"\n'


def test_the_example_states_the_defaults() -> None:
    plain = configuration_from_toml(example_text())
    keys = re.sub(
        r"(?m)^# (?=(name|area|serves|neighbors|assumed_error_ms|url|listen|border-\d) = )", "#~ ", example_text()
    )
    everything = configuration_from_toml(re.sub(r"(?m)^# (?=[a-z_0-9-]+ = )", "", keys))
    assert everything == plain


def test_every_key_of_the_example_is_allowed() -> None:
    configuration = configuration_from_toml(re.sub(r"(?m)^# (?=[a-z_0-9-]+ = )", "", example_text()))
    assert configuration.probe.neighbors == ("192.0.2.2",)
    assert configuration.clock_assumed_error_ms == 0.05
    assert configuration.names == {"border-1": "192.0.2.1", "border-2": "192.0.2.2"}
    assert configuration.point is not None
    assert configuration.point.serves == (IPv4Network("198.51.100.0/24"),)


def test_results_go_to_the_state_directory_unless_said_otherwise() -> None:
    configuration = configuration_from_toml(POINT + 'state_dir = "/srv/inpath"\n')
    assert configuration.store_url == "sqlite:////srv/inpath/results.db"


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
        ('[measurement]\nrules = "ipfw"\n', "measurement.rules: got 'ipfw', expected one of auto, iptables, nft"),
        ("[probe]\nrate_per_s = nan\n", "probe.rate_per_s: got nan"),
        ("[probe]\nneighbors = 3\n", "probe.neighbors: got 3, expected a list"),
        (
            POINT + '[probe]\nneighbors = ["192.0.2.1"]\n',
            "probe.neighbors: got '192.0.2.1', expected addresses of other",
        ),
        ('[store]\nurl = "postgresql://u:hunter2@h/d"\n', r"store.url: got 'postgresql:\.\.\.', expected sqlite"),
        ('[store]\npassword = "hunter2"\n', "store.password: got '...'"),
        ('[names]\na = "b"\n', "names.a: got 'b', expected an IPv4 address"),
        ('[stroe]\nurl = "mysql://u:hunter2@h/d"\n', r"stroe: got '\.\.\.', expected one of the tables"),
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
