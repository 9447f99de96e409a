from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mp.commands import CONFIG_VARIABLE as CONFIG_VARIABLE_OF_COMMANDS
from mp.commands import DEFAULT_CONFIG as DEFAULT_CONFIG_OF_COMMANDS
from mp.config import configuration_from_toml
from requestor.e_model import OPUS
from requestor.local_point import (
    CONFIG_VARIABLE,
    DEFAULT_CONFIG,
    DEFAULT_SOCKET,
    local_point,
    local_point_from_toml,
)
from requestor.profile import BUILT_IN_PROFILES, R_FACTOR, Limit, profile_named, senses_of
from requestor.profile_table import profiles_from_configuration
from schemas.errors import ConfigurationError, UsageError
from schemas.metrics import METRICS
from schemas.verdict import Sense

SETTLED = """
[profiles.trading]
codec = "opus"
rtt = { at_most = 20 }
delay = { at_most = 8, p95 = { at_most = 12, source = "contract 17" } }
available-bandwidth.at_least = 5
icmp-rtt = { at_most = 30 }

[profiles.voice]
loss.at_most = 0.02

[plugins]
enabled = ["icmp-rtt"]
"""


def test_every_built_in_limit_is_one_that_a_configuration_could_give() -> None:
    assert sorted(BUILT_IN_PROFILES) == ["bulk", "game", "video", "voice"]
    for profile in BUILT_IN_PROFILES.values():
        names = [limit.name for limit in profile.limits]
        assert len(set(names)) == len(names)
        for limit in profile.limits:
            assert limit.metric == R_FACTOR or limit.metric in METRICS
            assert limit.sense in senses_of(limit.metric)
            assert limit.bound > 0 and limit.source


def test_a_profile_asks_for_what_its_limits_need_in_the_order_of_the_registry() -> None:
    assert BUILT_IN_PROFILES["voice"].metrics() == ("delay", "loss", "jitter", "rtt", "distribution")
    assert BUILT_IN_PROFILES["bulk"].metrics() == ("loss", "mtu", "available-bandwidth")
    assert BUILT_IN_PROFILES["bulk"].max_age_s == 3600
    assert BUILT_IN_PROFILES["game"].max_age_s == 15


def test_profiles_of_the_configuration_join_and_replace_the_built_in_ones() -> None:
    profiles = profiles_from_configuration(tomllib.loads(SETTLED))
    assert set(profiles) == {*BUILT_IN_PROFILES, "trading"}
    assert [limit.name for limit in profiles["voice"].limits] == ["loss"]
    trading = profiles["trading"]
    assert trading.codec == OPUS
    assert trading.limits == (
        Limit(metric="rtt", sense=Sense.AT_MOST, bound=20.0),
        Limit(metric="delay", sense=Sense.AT_MOST, bound=8.0),
        Limit(metric="delay", quantile="p95", sense=Sense.AT_MOST, bound=12.0, source="contract 17"),
        Limit(metric="available-bandwidth", sense=Sense.AT_LEAST, bound=5.0),
        Limit(metric="icmp-rtt", sense=Sense.AT_MOST, bound=30.0),
    )
    assert trading.metrics() == ("delay", "rtt", "distribution", "available-bandwidth", "icmp-rtt")
    assert configuration_from_toml(SETTLED).profiles == profiles


@pytest.mark.parametrize("metric", ["delay", "jitter"])
def test_a_quantile_can_be_limited_without_the_usual_value(metric: str) -> None:
    profiles = profiles_from_configuration({"profiles": {"x": {metric: {"p99": {"at_most": 30}}}}})
    assert [limit.name for limit in profiles["x"].limits] == [f"{metric}.p99"]
    assert profiles["x"].metrics() == ("delay", "distribution")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("profiles = 3", "profiles: got 3, expected a table"),
        ("[profiles]\nx = 3", "profiles.x: got 3, expected a table"),
        ("[profiles.X]\nloss.at_most = 1", "profiles: got 'X', expected lower-case letters"),
        ("[profiles.x]", "profiles.x: got .*, expected at least one limit"),
        ('[profiles.x]\ncodec = "g729"', "profiles.x.codec: got 'g729', expected one of g711, opus"),
        ("[profiles.x]\ndealy.at_most = 3", "profiles.x.dealy: .* expected codec, or one of the metrics"),
        ("[profiles.x]\nicmp-rtt.at_most = 3", "profiles.x.icmp-rtt: .* one of the metrics"),
        ("[profiles.x]\nreordering.at_most = 0.1", "profiles.x.reordering: .* a value of the whole path"),
        ("[profiles.x]\nloss = 0.1", r"profiles.x.loss: got 0.1, expected a limit such as \{ at_most = 10 \}"),
        ("[profiles.x]\nmtu.at_most = 3", "profiles.x.mtu: got 'at_most', expected at_least, once"),
        ("[profiles.x]\nloss.at_least = 0.1", "profiles.x.loss: got 'at_least', expected at_most, once"),
        ("[profiles.x]\nloss.p95.at_most = 0.1", "profiles.x.loss: got 'p95'"),
        ("[profiles.x]\nloss = {at_most = 0.1, at_lest = 3}", "profiles.x.loss: got 'at_most, at_lest'"),
        (
            "[profiles.x]\nloss.at_most = 1.5",
            "loss.at_most: got 1.5, expected a number above 0 and up to 1, in ratio",
        ),
        ("[profiles.x]\nr-factor.at_least = 94", "r-factor.at_least: got 94, expected a number .* up to 93$"),
        ("[profiles.x]\nloss.at_most = nan", "loss.at_most: got nan"),
        ("[profiles.x]\ndelay.at_most = inf", "delay.at_most: got inf"),
        ("[profiles.x]\ndelay.at_most = true", "delay.at_most: got True"),
        ("[profiles.x]\ndelay.p95 = 3", "profiles.x.delay.p95: got 3, expected a table with at_most"),
        ('[profiles.x]\ndelay = {at_most = 3, source = ""}', "profiles.x.delay.source: got ''"),
    ],
)
def test_a_mistake_is_named_by_key_value_and_expectation(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        profiles_from_configuration(tomllib.loads(text))


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
keys = st.sampled_from(["delay", "loss", "mtu", "p95", "at_most", "at_least", "codec", "source", "x"])
trees = st.recursive(scalars, lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=8)


@given(trees, trees)
def test_any_tables_are_profiles_or_their_error(profiles: object, plugins: object) -> None:
    try:
        found = profiles_from_configuration({"profiles": {"x": profiles}, "plugins": plugins})
    except ConfigurationError as error:
        assert error.field.startswith("profiles")
    else:
        assert found["x"].limits


def test_an_unknown_profile_names_the_known_ones_and_a_near_one() -> None:
    assert profile_named("game", BUILT_IN_PROFILES).name == "game"
    with pytest.raises(
        UsageError, match="got 'vioce', expected one of bulk, game, video, voice; did you mean voice?"
    ):
        profile_named("vioce", BUILT_IN_PROFILES)
    with pytest.raises(UsageError, match="voice$"):
        profile_named("zzzzzz", BUILT_IN_PROFILES)


def test_programs_and_the_point_agree_on_where_things_are() -> None:
    assert Path(DEFAULT_CONFIG_OF_COMMANDS) == DEFAULT_CONFIG
    assert CONFIG_VARIABLE == CONFIG_VARIABLE_OF_COMMANDS
    assert configuration_from_toml("").service.socket == DEFAULT_SOCKET


def test_a_program_reads_the_socket_and_the_profiles_of_the_named_file(tmp_path: Path) -> None:
    file = tmp_path / "inpath.toml"
    file.write_text(SETTLED + '[service]\nsocket = "/tmp/s.sock"\n[store]\nurl = "checked by the point alone"\n')
    point = local_point({CONFIG_VARIABLE: str(file)})
    assert point.socket == Path("/tmp/s.sock")
    assert "trading" in point.profiles


def test_a_named_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"config: got .*nowhere.toml', expected a readable file"):
        local_point({CONFIG_VARIABLE: str(tmp_path / "nowhere.toml")})


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError])
def test_without_a_readable_default_file_there_are_the_default_socket_and_the_built_in_profiles(
    error: type[OSError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> str:
        assert path == DEFAULT_CONFIG
        raise error

    monkeypatch.setattr(Path, "read_text", refuse)
    point = local_point({})
    assert (point.socket, point.profiles) == (DEFAULT_SOCKET, BUILT_IN_PROFILES)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[service", "config: got 'x.toml', expected a TOML file"),
        ("service = 1", "service: got 1, expected a table"),
        ("[service]\nsocket = 1", "service.socket: got 1, expected the path"),
    ],
)
def test_what_a_program_cannot_use_is_named(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        local_point_from_toml(text, origin="x.toml")
