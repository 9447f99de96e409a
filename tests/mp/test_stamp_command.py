from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mp.stamp_command import stamp
from schemas.errors import HostError, NoAnswerError, UsageError

PORT = "18862"
PROGRAM = "from mp.stamp_command import stamp; stamp()"


@contextmanager
def reflecting(*options: str) -> Iterator[list[str]]:
    """`inpath stamp reflect` beside the test; the list gets what it says at its end."""
    command = (sys.executable, "-c", PROGRAM, "reflect", "--address", "127.0.0.1", "--port", PORT, *options)
    said: list[str] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        first = running.stderr.readline()
        assert f"reflecting on 127.0.0.1 port {PORT}" in first, first
        said.append(first)
        try:
            yield said
        finally:
            running.send_signal(signal.SIGINT)
            said += running.communicate(timeout=10)[1].splitlines()
    assert running.returncode == 0


def send(*options: str, end: tuple[str, str] = ("--count", "40")) -> Result:
    return CliRunner().invoke(stamp, ["send", "127.0.0.1", "--port", PORT, "--rate", "100", *end, *options])


def document(*options: str, end: tuple[str, str] = ("--count", "40")) -> dict[str, Any]:
    result = send("--json", *options, end=end)
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def private_key(tmp_path: Path, digits: str = "0f" * 16) -> str:
    path = tmp_path / f"{digits[:4]}.key"
    path.write_text(digits)
    path.chmod(0o600)
    return str(path)


def test_a_session_is_told_as_json_with_both_directions() -> None:
    with reflecting() as said:
        told = document("--dscp", "10")
    assert (told["sent"], told["answered"], told["extensions"], told["reflector"]) == (40, 40, True, "stateful")
    for direction in ("forward", "backward"):
        assert told[direction]["loss"] == {
            "value": 0.0,
            "unit": "ratio",
            "sent": 40,
            "lost": 0,
            "threshold_ms": 1000,
        }
        # The last reply has no follow-up, nor one whose departure was not known yet when the next was written.
        assert 30 <= told[direction]["delay"]["count"] <= 39
        assert 0 < told[direction]["delay"]["mean_ms"] < 50
        assert told[direction]["jitter"]["unit"] == "ms"
        assert told[direction]["hops"] == 1
    assert 0 < told["round_trip"]["rtt"]["mean_ms"] < 50
    assert told["dscp"] == {"forward": 10, "backward": 10, "refused": False}
    assert set(told["clocks"]) == {"own", "reflector"}
    assert "stateful, unauthenticated" in said[0]
    assert said[-1] == "inpath: 40 replies"


def test_a_session_is_told_as_a_table() -> None:
    with reflecting():
        result = send()
    assert result.exit_code == 0
    assert "40 of 40 answered, unauthenticated, reflector stateful" in result.stdout
    for word in ("there", "back", "round trip", "delay, mean ms", "loss %", "jitter", "hops", "samples"):
        assert word in result.stdout


def test_a_key_of_both_sides_is_needed_for_an_authenticated_session(tmp_path: Path) -> None:
    key, other = private_key(tmp_path), private_key(tmp_path, "ab" * 32)
    with reflecting("--key-file", key, "--stateless") as said:
        told = document("--key-file", key, "--size", "300")
        assert (told["authenticated"], told["answered"], told["reflector"]) == (True, 40, "stateless")
        for options in (("--key-file", other), ()):
            result = send(*options)
            assert isinstance(result.exception, NoAnswerError)
            assert result.exception.exit_code == 3
    assert "stateless, authenticated" in said[0]
    assert said[-1] == "inpath: 40 replies; 40 wrong-authentication, 40 not-authenticated"


def test_a_plain_session_is_told_as_what_it_is() -> None:
    with reflecting():
        told = document("--plain", end=("--duration", "1"))
    assert told["extensions"] is False
    assert 60 < told["sent"] == told["answered"] < 150


def test_nobody_there_is_no_answer() -> None:
    result = send()
    assert isinstance(result.exception, NoAnswerError)
    assert str(result.exception) == f"127.0.0.1 port {PORT}: no answer to 40 probes"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--duration", "3"), "not both"),
        (("--count", "9999"), "at most 55 s"),
        (("--rate", "1000"), "at most 100 per second"),
        (("--size", "43"), "44 to 1472 octets"),
        (("--size", "5000"), "44 to 1472 octets"),
    ],
)
def test_wishes_that_cannot_be_meant_are_refused(options: tuple[str, ...], complaint: str) -> None:
    result = send(*options)
    assert isinstance(result.exception, UsageError)
    assert complaint in str(result.exception)


def test_a_name_without_an_address_is_refused() -> None:
    result = CliRunner().invoke(stamp, ["send", "no.such.host.invalid"])
    assert isinstance(result.exception, UsageError)
    assert "no.such.host.invalid" in str(result.exception)


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = Path(private_key(tmp_path))
    path.chmod(0o644)
    for command in (["send", "127.0.0.1", "--key-file", str(path)], ["reflect", "--key-file", str(path)]):
        result = CliRunner().invoke(stamp, command)
        assert isinstance(result.exception, UsageError)
        assert "mode 0644" in str(result.exception)


def test_a_port_in_use_is_told() -> None:
    with reflecting():
        result = CliRunner().invoke(stamp, ["reflect", "--address", "127.0.0.1", "--port", PORT])
    assert isinstance(result.exception, HostError)
    assert "in use" in str(result.exception)
